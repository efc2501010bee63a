"""A batch of 200 prompts that is killed half-way gives the same pictures to the byte."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from boothline.config import RunConfig
from boothline.services import Endpoints
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import files_under

pytestmark = [pytest.mark.services, pytest.mark.faults]

NUM_PROMPTS = 200
PART_IMAGES = 20
RUNNER = f"""
import json, sys
from boothline.settings import Settings
from boothline.steps import execute
from boothline.components.batch_infer import step
from boothline.pictures.parts import Parts

request = json.load(sys.stdin)
step.PART_IMAGES = {PART_IMAGES}
keep = Parts.keep

def told(self, part, pictures):
    keep(self, part, pictures)
    print("part", flush=True)

Parts.keep = told
inputs = step.Inputs(**request["inputs"])
print(execute(step.STEP, inputs, settings=Settings(**request["settings"])), flush=True)
"""


@pytest.fixture
def config(tiny_pipeline: Path, tmp_path: Path) -> RunConfig:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"a {{subject}} number {n}\n" for n in range(NUM_PROMPTS)))
    return RunConfig.model_validate(
        {
            "subject": {"resolution_px": 32},
            "base_model": {"source": str(tiny_pipeline)},
            "inference": {
                "prompts_file": str(path),
                "num_shards": 1,
                "webdataset": True,
                "sampling": {"num_steps": 1, "batch_size": 8},
            },
        }
    )


def _fresh(object_store: Endpoints, folder: Path, pipeline: Path) -> tuple[Settings, ManifestRef]:
    """Return a store of its own that holds the model."""
    settings = object_store.settings(
        home=folder, bucket="boothline-tests", prefix=f"batch-{uuid4().hex[:12]}"
    )
    draft = ManifestDraft(kind="model", files=files_under(pipeline, prefix="diffusers/"))
    return settings, Store.connect(settings).commit("steps/publish_checkpoint/m", draft)


def _start(settings: Settings, config: RunConfig, model: ManifestRef) -> "subprocess.Popen[str]":
    """Start the step in a process of its own; secrets go through a pipe."""
    plain = json.loads(settings.model_dump_json(exclude_none=True))
    plain["s3_secret_key"] = settings.s3_secret_key.get_secret_value()
    for name in [name for name, value in plain.items() if value == "**********"]:
        plain.pop(name)
    request = {
        "settings": plain,
        "inputs": {
            "run_id": "20260101-000000-abcd",
            "config": config.model_dump_json(),
            "model": str(model),
            "shard": 0,
        },
    }
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(request))
    process.stdin.close()
    return process


def _lines(process: "subprocess.Popen[str]", *, kill_after: int | None = None) -> list[str]:
    """Return what a process printed; kill it with SIGKILL after so many lines."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.strip())
        if len(lines) == kill_after:
            process.kill()
    process.wait()
    return lines


def _digests(settings: Settings, ref: str) -> dict[str, Any]:
    return {entry.path: entry.sha256 for entry in Store.connect(settings).read(ref).files}


def test_batch_of_200_prompts_killed_half_way_equals_an_uninterrupted_one(
    object_store: Endpoints, config: RunConfig, tiny_pipeline: Path, tmp_path: Path
) -> None:
    half = NUM_PROMPTS // PART_IMAGES // 2
    settings, model = _fresh(object_store, tmp_path / "killed", tiny_pipeline)
    killed = _start(settings, config, model)
    assert _lines(killed, kill_after=half)[:half] == ["part"] * half
    assert killed.returncode != 0
    there = len(Store.connect(settings).manifests("batches/"))
    assert half <= there < NUM_PROMPTS // PART_IMAGES

    resumed = _lines(_start(settings, config, model))
    others, same_model = _fresh(object_store, tmp_path / "whole", tiny_pipeline)
    whole = _lines(_start(others, config, same_model))

    # A part that is there is listed, not made: the files of the result are those of the parts.
    made = _digests(settings, resumed[-1])
    assert made == _digests(others, whole[-1])
    assert len([path for path in made if path.startswith("images/")]) == NUM_PROMPTS
    assert len(set(made.values())) >= NUM_PROMPTS
