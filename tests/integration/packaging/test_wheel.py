"""The wheel, installed away from any checkout: one import name, and all that the demo needs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from boothline import services

ROOT = Path(__file__).resolve().parents[3]
WHAT_A_WHEEL_IS_MADE_OF = {
    *("boothline", "components", "pipelines", "models", "examples"),
    *("pyproject.toml", "README.md", "LICENSE"),
}
# Every step runs and the gate lets the model through; the pictures are not looked at.
SMALL = (
    "training.num_steps=2",
    "training.num_processes=1",
    "training.sample_every_steps=0",
    "training.train_text_encoder=false",
    "prior.num_images=4",
    "prior.num_shards=1",
    "prior.prompts=[]",
    "prior.sampling.num_steps=2",
    'evaluation.prompts=["a {subject} on the moon", "a {subject} in snow"]',
    "evaluation.images_per_prompt=1",
    "evaluation.sampling.num_steps=2",
    "inference.num_shards=1",
    "inference.sampling.num_steps=2",
    "promotion.margins.min_subject_gain=-2",
    "promotion.margins.max_prompt_loss=2",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "dist", "node_modules", "*.egg-info")
    for path in ROOT.iterdir():
        if path.name in WHAT_A_WHEEL_IS_MADE_OF:
            target = folder / "source" / path.name
            target.parent.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True, ignore=left_out)
            else:
                shutil.copyfile(path, target)
    build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    subprocess.run([*build, "--wheel-dir", folder, folder / "source"], check=True)
    (made,) = folder.glob("*.whl")
    return made


def test_wheel_adds_one_import_name_and_holds_models_and_examples(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"boothline"}
    for path in (
        "boothline/components/train/step.py",
        "boothline/pipelines/dreambooth.py",
        "boothline/models/tiny-emoji-sd/unet/diffusion_pytorch_model.safetensors",
        "boothline/models/tiny-emoji-clip/merges.txt",
        "boothline/examples/demo.yaml",
        "boothline/report/templates/report.html.j2",
        "boothline/py.typed",
    ):
        assert path in names
    assert not [name for name in names if "models/build" in name or name.endswith("samples.png")]


@pytest.mark.proves("F55")
@pytest.mark.services
@pytest.mark.slow
def test_demo_of_the_installed_wheel_runs_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, place = tmp_path / "site", tmp_path / "empty"
    place.mkdir()
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site)
    subprocess.run([*install, wheel], check=True)
    environment = {name: value for name, value in os.environ.items() if "BOOTHLINE" not in name}
    environment |= {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=place, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import boothline; print(boothline.__file__)").startswith(str(site))
    settings = [part for setting in SMALL for part in ("--set", setting)]
    try:
        said = run(str(site / "bin" / "boothline"), "demo", *settings, "--output", "json")
    finally:
        services.stop(place / ".boothline")
    summary = json.loads(said)
    assert summary["status"] == "done"
    assert Path(summary["report"]).is_file()
    assert {path.name for path in place.iterdir()} == {".boothline"}
