"""The jobs of examples/ci, run line by line on local services, with steps that cost nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from command_files import write_pictures

from boothline.services import Endpoints

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[3]
STUBS = Path(__file__).parent / "stub_steps"


def github_lines() -> list[str]:
    """The commands of the workflow but for the installation."""
    workflow = yaml.safe_load((ROOT / "examples/ci/github-actions.yaml").read_text())
    steps = workflow["jobs"]["train"]["steps"]
    return [step["run"] for step in steps if "run" in step and step["name"] != "Install"]


def gitlab_lines() -> list[str]:
    """The commands of the job but for the installation."""
    job = yaml.safe_load((ROOT / "examples/ci/gitlab-ci.yaml").read_text())["personalise"]
    return list(job["script"])


@pytest.fixture
def place(tmp_path: Path, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with pictures and run.yaml."""
    monkeypatch.chdir(tmp_path)
    write_pictures("pictures", 3)
    settings = {
        "subject": {
            **{"name": "looped", "images": "pictures", "class_noun": "bear"},
            "resolution_px": 32,
        },
        "base_model": {"source": str(tiny_pipeline)},
        "prior": {"num_images": 2, "num_shards": 1},
        "evaluation": {"prompts": ["a photo of a {subject}"]},
        "inference": {"num_shards": 1},
        "training": {"num_steps": 5, "learning_rate": 2e-4},
    }
    Path("run.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def run_job(lines: list[str], place: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run the lines of a job as a runner does, up to the first that fails."""
    programs = place / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "boothline"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m boothline.cli.app "$@"\n')
    program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if "BOOTHLINE" not in name}
    path = os.pathsep.join([str(STUBS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = clean | dict(variables) | {"PYTHONPATH": path}
    environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    script = "set -e\n" + "\n".join(lines)
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.proves("F66/ci")
@pytest.mark.parametrize("lines", [github_lines(), gitlab_lines()], ids=["github", "gitlab"])
def test_job_trains_gates_and_publishes(
    lines: list[str], place: Path, object_store: Endpoints, mlflow_uri: str
) -> None:
    variables = {
        **object_store.environment(),
        "BOOTHLINE_HOME": ".boothline",
        "BOOTHLINE_BUCKET": "boothline-ci",
        "BOOTHLINE_PREFIX": place.name,
        "BOOTHLINE_MLFLOW_URI": mlflow_uri,
    }
    code, said = run_job(lines, place, variables)

    assert code == 0, said
    assert json.loads((place / "result.json").read_text())["verdict"] == "promoted"
    assert (place / "pictures.html").is_file()
    assert {path.name for path in (place / "model").iterdir()} == {
        *("model_index.json", "README.md", "provenance.json"),
    }
    assert list(place.glob(".boothline/runs/*/report.html"))

    # A worse model is refused: exit code 4 ends the job before anything is published.
    text = (place / "run.yaml").read_text().replace("0.0002", "0.0009")
    (place / "run.yaml").write_text(text)
    code, said = run_job(lines, place, variables)
    assert (code, "The gate refused the model" in said) == (4, True)
