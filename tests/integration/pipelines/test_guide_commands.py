"""The commands of README, guide and tutorial, read from the pages and run in order."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub_stand_in import COMMIT, hub
from PIL import Image

from boothline.diffusion.export import save_single_file
from boothline.diffusion.loading import load_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[3]
INSTALLED = os.environ.get("BOOTHLINE_TEST_PROGRAM")
"""The `boothline` of another environment, as a wheel has put it there; None: this checkout's."""
BLOCK = re.compile(r"^ *```\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Commands on models that a reader has and a checkout has not.
ELSEWHERE = ("/models/", "OWNER/MODEL", "my-mix", "base:sd15")
# Not the command line of Boothline: tests/integration/packaging builds and installs a wheel.
OTHERS = ("python3 -m venv", "source .venv", "pip ", "make demo", "make test")
# Runs as short as can be; what a command does is what it does.
SHORT = {
    "prior": {"num_images": 2, "num_shards": 1, "sampling": {"num_steps": 2}},
    "training": {"num_steps": 4, "sample_every_steps": 0, "num_processes": 1},
    "evaluation": {
        "prompts": ["a photo of a {subject}"],
        "images_per_prompt": 2,
        "sampling": {"num_steps": 2},
    },
    "inference": {"num_shards": 1, "sampling": {"num_steps": 2}},
    "promotion": {
        "margins": {
            "min_subject_gain": -2,
            "max_prompt_loss": 2,
            "max_prior_loss": 2,
            "max_diversity_loss": 2,
            "min_champion_gain": -2,
        }
    },
}


def commands(name: str, *, elsewhere: bool = False) -> list[str]:
    """Return a page's commands in order: those that need a model from elsewhere, or the others."""
    page = (ROOT / name).read_text(encoding="utf-8")
    text = "".join(BLOCK.findall(page)).replace("\\\n", " ")
    lines = [line.partition("  #")[0].strip() for line in text.splitlines()]
    return [
        line
        for line in lines
        if line.startswith("boothline ") and any(name in line for name in ELSEWHERE) == elsewhere
    ]


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md", "docs/tutorial.md"])
def test_blocks_of_a_page_hold_nothing_but_commands_that_are_run(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    lines = "".join(BLOCK.findall(page)).replace("\\\n", " ").splitlines()
    run_here = {*commands(name), *commands(name, elsewhere=True)}
    shown = [line.partition("  #")[0].strip() for line in lines if line.strip()]
    tree = re.compile(r"\w+/ {2,}|launch/ \(")  # the folders of the checkout, at README's end
    rest = [line for line in shown if line not in run_here and not line.startswith(OTHERS)]
    assert [line for line in rest if not tree.match(line)] == []


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with nothing but what the page says a reader has."""
    shutil.copytree(ROOT / "examples/subjects/teddy-bear", tmp_path / "teddy-bear")
    for name in ("photo.png", "place.png"):
        Image.new("RGB", (64, 64), "white").save(tmp_path / name)
    (tmp_path / "night.yaml").write_text("training: {learning_rate: 1.0e-5}\n")
    yield tmp_path
    run("boothline down", tmp_path)


def run(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell that finds `boothline`, without settings of this session."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "boothline"
    what = INSTALLED or f"{sys.executable} -m boothline.cli.app"
    program.write_text(f'#!/bin/sh\nexec {what} "$@"\n')
    program.chmod(0o755)
    hidden = ("BOOTHLINE", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    if INSTALLED is None:
        environment["PYTHONPATH"] = str(ROOT)
    environment |= variables
    return subprocess.run(
        ["/bin/bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True
    )


def shorten(file: Path) -> None:
    """Make the runs of a configuration short."""
    settings = yaml.safe_load(file.read_text())
    merged = {name: {**(settings.get(name) or {}), **more} for name, more in SHORT.items()}
    file.write_text(yaml.safe_dump(settings | merged))


def test_commands_of_the_guide_work_in_order_from_an_empty_folder(folder: Path) -> None:
    lines = commands("docs/guide.md")
    assert len(lines) >= 17
    for line in lines:
        done = run(line.replace("num_steps=300", "num_steps=6"), folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if line.startswith("boothline init"):
            shorten(folder / "run.yaml")
    pictures = sorted(path.name for path in (folder / "pictures").glob("*.png"))
    assert pictures == [f"0000{number}-00.png" for number in range(4)]
    with Image.open(folder / "pictures/00001-00.png") as wide:
        assert wide.size == (96, 64)
    assert (folder / "teddy/model_index.json").is_file()


def test_commands_of_the_tutorial_work_in_order_from_an_empty_folder(folder: Path) -> None:
    lines = commands("docs/tutorial.md")
    assert len(lines) >= 11
    short = " ".join(f"--set '{setting}'" for setting in settings(SHORT))
    for line in lines:
        asked = line.replace("boothline demo", f"boothline demo {short}").replace("=100", "=6")
        done = run(asked, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if line == "boothline models":
            assert "champion" in done.stdout
    pictures = sorted(path.name for path in (folder / "pictures").glob("*.png"))
    assert pictures == ["00000-00.png", "00001-00.png"]


def test_commands_of_the_readme_work_in_order_from_an_empty_folder(folder: Path) -> None:
    lines = commands("README.md")
    assert len(lines) >= 8
    (folder / "teddy-bear").rename(folder / "my-pictures")
    short = " ".join(f"--set '{setting}'" for setting in settings(SHORT))
    for line in lines:
        asked = line.replace("boothline demo", f"boothline demo {short}")
        if " MODEL " in line:  # `boothline models` says its name
            name = yaml.safe_load((folder / "run.yaml").read_text())["subject"]["name"]
            asked = line.replace("MODEL", f"boothline-{name}")
        done = run(asked, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if line.startswith("boothline init"):
            shorten(folder / "run.yaml")
    assert len(list((folder / "pictures").glob("*.png"))) == 2
    assert (folder / "my-model/model_index.json").is_file()


def test_commands_of_the_guide_on_models_of_ones_own_work(
    folder: Path, tiny_pipeline: Path
) -> None:
    lines = commands("docs/guide.md", elsewhere=True)
    assert len(lines) >= 5
    shutil.copytree(tiny_pipeline, folder / "models/stable-diffusion-v1-5")
    parts = load_pipeline(tiny_pipeline, device="cpu")
    save_single_file(parts, folder / "my-mix.safetensors", dtype=torch.float32)
    files = {
        str(path.relative_to(tiny_pipeline)): path.read_bytes()
        for path in tiny_pipeline.rglob("*")
        if path.is_file()
    }
    with hub(files, model="OWNER/MODEL") as (url, _):
        for line in lines:
            asked = line.replace("/models/", f"{folder}/models/").replace("COMMIT", COMMIT)
            (folder / "run.yaml").unlink(missing_ok=True)
            done = run(
                asked, folder, HF_ENDPOINT=url, HF_HOME=str(folder / "hf"), HF_HUB_DISABLE_XET="1"
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert yaml.safe_load((folder / "run.yaml").read_text())["base_model"]["source"] == "base:sd15"


def settings(sections: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield nested settings as `--set` takes them."""
    for name, value in sections.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={json.dumps(value)}"
