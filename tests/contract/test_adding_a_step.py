"""Who adds a step adds its folder and names it in the pipelines that use it: nothing else."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "frame_pictures"
ABOUT = '''"""Step frame_pictures: puts a frame around the pictures."""

from boothline.catalogue import TOOLS, Shards, StepDescription
from boothline.results import Images

ABOUT = StepDescription(
    name="frame_pictures",
    place=35,
    image=TOOLS,
    result=Images,
    unit="frame",
    pipelines=("dreambooth", "retrain"),
    shards=Shards(setting="prior.num_shards", count=lambda config: config.prior.num_shards),
)
'''
COMPONENT = '''"""The KFP interface of frame_pictures."""

from kfp import dsl

from boothline.components.frame_pictures import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def frame_pictures(run_id: str, config: str, dataset: str, shard: int) -> str:
    """Put a frame around pictures."""
    from boothline.components.frame_pictures import step

    return step.run(run_id=run_id, config=config, dataset=dataset, shard=shard)
'''
STEP = '''"""Puts a frame around the pictures."""

from boothline.components.frame_pictures import ABOUT
from boothline.results import Images
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef


class Inputs(StepInputs):
    """Inputs of the step."""

    dataset: str
    shard: int


def key(context: StepContext, inputs: Inputs) -> StepKey:
    return StepKey(config={}, inputs=(ManifestRef.parse(inputs.dataset),))


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    return Images(num_images=3).draft({"images/0.png": b"framed"})


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce)
run = STEP.run
'''
IMPORT = "from boothline.components.generate_prior.component import generate_prior\n"
CALL = """    with shape.shard_of("frame_pictures", "frames") as number:
        titled(
            frame_pictures(
                run_id=run_id, config=config, dataset=data.outputs["Output"], shard=number
            ),
            "Frame pictures",
        )
"""
LOOP = '    with shape.shard_of("generate_prior"'
PIPELINE = "pipelines/stages.py"
PROBE = """
import json, sys
from boothline.catalogue import described, steps_of
from boothline.config import RunConfig
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.placing import placed
from boothline.launch.compile import compiled, pipeline_named
from boothline.pipelines.parameters import labels
from boothline.pipelines.stages import Shape
from boothline.report.outcome import required_steps
from boothline.report.collect import _holds_gpus
from boothline.components.frame_pictures import step
import yaml

config = RunConfig.model_validate({"prior": {"num_shards": 2}})
spec = compiled(pipeline_named("dreambooth"))
deployment = Deployment.model_validate({
    "kfp": {"host": "https://pipelines.example"},
    "images": {"tools": "registry/tools:1", "torch": "registry/torch:1"},
    "settings": {"s3_endpoint": "https://s3.example", "bucket": "b"},
    "steps": {"frame_pictures": {"cpu": "3"}},
})
on_cluster = yaml.safe_load(placed(spec, deployment).split("\\n---\\n")[0])
container = on_cluster["deploymentSpec"]["executors"]["exec-frame-pictures"]["container"]
print(json.dumps({
    "order": [one.name for one in steps_of("dreambooth")],
    "sweep": [one.name for one in steps_of("sweep")],
    "labels": labels(config, promoted=False),
    "loops": Shape.of(config).loops[step.ABOUT.name],
    "required": required_steps("dreambooth"),
    "image": container["image"],
    "cpu": container["resources"],
    "holds_gpus": _holds_gpus("frame_pictures"),
    "unit": described("frame_pictures").unit,
    "shard": step.Inputs(run_id="r", config="", dataset="d", shard=1).shard_number,
}))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("boothline", "components", "pipelines"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def digests(tree: Path) -> dict[str, str]:
    """Return the digest of every source file by its path."""
    return {
        str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def add_step(tree: Path) -> None:
    folder = tree / "components" / NAME
    folder.mkdir()
    for name, text in (("__init__", ABOUT), ("component", COMPONENT), ("step", STEP)):
        (folder / f"{name}.py").write_text(text)
    stages = tree / PIPELINE
    text = stages.read_text().replace(IMPORT, IMPORT.replace("generate_prior", NAME) + IMPORT)
    stages.write_text(text.replace(LOOP, CALL + LOOP))


def test_new_step_touches_its_folder_and_the_pipeline_that_uses_it(tree: Path) -> None:
    before = digests(tree)
    add_step(tree)
    after = digests(tree)
    touched = sorted(path for path in after if after[path] != before.get(path))
    own = f"components/{NAME}/"
    assert [path for path in touched if not path.startswith(own)] == [PIPELINE]

    code = tree / "probe.py"
    code.write_text(PROBE)
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, code], capture_output=True, text=True, env=environment, cwd=tree
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    assert seen["order"].index(NAME) == seen["order"].index("generate_prior") + 1
    assert NAME not in seen["sweep"]
    assert {f"{NAME}-0", f"{NAME}-1"} <= set(seen["labels"])
    assert seen["loops"] == 2
    assert NAME in seen["required"]
    assert seen["image"] == "registry/tools:1"
    assert "3" in json.dumps(seen["cpu"])
    assert (seen["holds_gpus"], seen["unit"], seen["shard"]) == (False, "frame", 1)
