"""The whole product by its command line, on real services, with models of a megabyte."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import yaml
from PIL import Image, ImageDraw

from boothline import services
from pipelines.local.processes import processes_of
from pipelines.parameters import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.services]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("BOOTHLINE_")}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_pipeline, tiny_clip, tiny_dino):
    """A folder with pictures, a configuration and a home whose services run for this module."""
    place = tmp_path_factory.mktemp("product")
    (place / "pictures").mkdir()
    for number in range(4):
        image = Image.new("RGB", (64, 64), (40 * number, 90, 200 - 40 * number))
        draw = ImageDraw.Draw(image)
        for line in range(0, 64, 7):
            draw.line((line, 0, 64 - line, 64), fill=(255, 255 - 3 * line, 20 * number), width=2)
        draw.ellipse((8 + 4 * number, 10, 40, 40 + 3 * number), fill=(200, 30, 60 * number))
        image.save(place / "pictures" / f"{number}.png")
    sampling = {"num_steps": 2, "batch_size": 2}
    settings = {
        "subject": {"name": "thing", "images": "pictures", "resolution_px": 32},
        "base_model": {"source": str(tiny_pipeline)},
        "prior": {"num_images": 4, "sampling": sampling},
        "training": {"num_steps": 40, "num_processes": 1, "warmup_steps": 1},
        "checkpoints": {"every_steps": 5},
        "evaluation": {
            "prompts": ["a photo of a {subject}"],
            "images_per_prompt": 2,
            "sampling": sampling,
            "clip_model": str(tiny_clip),
            "dino_model": str(tiny_dino),
        },
        "inference": {"sampling": sampling},
        "promotion": {"margins": {"min_subject_gain": -2, "max_prompt_loss": 2}},
    }
    (place / "run.yaml").write_text(yaml.safe_dump(settings))
    yield place
    services.stop(place / ".boothline")


def start(place: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.app", *arguments, "--output", "json"],
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, dict, str]:
    output, errors = process.communicate(timeout=400)
    return process.returncode, json.loads(output) if output else {}, errors


def runs(place: Path) -> list[Path]:
    return sorted((place / ".boothline" / "runs").glob("*"))


def last_run(place: Path) -> Path:
    return runs(place)[-1]


def when_step_says(place: Path, step: str, text: str, act) -> threading.Thread:
    """Call `act()` as soon as an event of the newest run's step holds a text."""

    def wait():
        for _ in range(6000):
            path = last_run(place) / "events" / f"{step}.jsonl" if runs(place) else None
            if path and path.exists() and text in path.read_text():
                act()
                return
            threading.Event().wait(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def kill_a_rank(place: Path) -> None:
    """Kill the training process that started last: a rank, forked by torchrun's agent."""
    training = [
        process
        for process in processes_of(last_run(place))
        if "boothline.training" in " ".join(process.cmdline())
    ]
    max(training, key=psutil.Process.create_time).kill()


@pytest.fixture(scope="module")
def killed_and_resumed(place):
    """A run whose training was killed, and the same run resumed."""
    process = start(place, "run")
    when_step_says(place, "train", "loss", lambda: kill_a_rank(place)).join()
    killed = finish(process)
    return killed, finish(start(place, "resume", last_run(place).name))


def test_run_with_killed_training_fails_clearly_and_says_how_to_resume(place, killed_and_resumed):
    code, summary, errors = killed_and_resumed[0]

    assert code != 0
    assert summary["status"] == "failed"
    assert "Error: Step train" in errors
    assert f"boothline resume {summary['run_id']}" in errors
    assert "Traceback" not in errors


def test_resume_after_the_kill_ends_well_and_repeats_no_finished_step(place, killed_and_resumed):
    code, summary, errors = killed_and_resumed[1]

    assert code == 0, errors
    assert summary["status"] == "done"
    assert summary["run_id"] == killed_and_resumed[0][1]["run_id"]
    reused = {step["name"] for step in summary["steps"] if step["reused"]}
    assert reused == {"validate_data", "generate_prior-0", "generate_prior-1"}
    assert {step["name"].partition("-")[0] for step in summary["steps"]} == set(STEPS)
    assert all(
        step["status"] == "done" and "@sha256:" in step["manifest"] for step in summary["steps"]
    )
    assert Path(summary["report"]).read_text().startswith("<!doctype html")
    assert summary["model"]["name"] == "boothline-thing"
    assert summary["model"]["version"] == "1"
    assert -1 <= summary["metrics"]["dino"] <= 1
    assert summary["verdict"] == "promoted"


def test_status_prints_the_same_object_as_the_run(place, killed_and_resumed):
    code, status, _ = finish(start(place, "status"))

    assert code == 0
    assert status == killed_and_resumed[1][1]


def test_second_run_reuses_every_step_and_explains_why(place, killed_and_resumed):
    code, summary, errors = finish(start(place, "run"))
    _, explained, _ = finish(start(place, "explain", summary["run_id"], "train"))

    assert code == 0, errors
    assert [step["name"] for step in summary["steps"] if not step["reused"]] == ["finish_run"]
    assert summary["model"] == killed_and_resumed[1][1]["model"]
    first = killed_and_resumed[1][1]["run_id"]
    assert explained["steps"] == [
        {
            "step": "train",
            "outcome": "reused",
            "reasons": [f"Nothing it depends on changed since run {first}."],
            "compared_with": first,
        }
    ]


def test_champion_of_the_run_makes_pictures(place, killed_and_resumed):
    code, made, errors = finish(
        start(place, "generate", "a photo of sks bear", "--images", "2", "--output-dir", "made")
    )

    assert code == 0, errors
    assert made["digest"] == killed_and_resumed[1][1]["model"]["digest"]
    assert [Image.open(place / path).size for path in made["pictures"]] == [(32, 32)] * 2


def test_models_lists_the_version_as_champion(place, killed_and_resumed):
    _, listed, _ = finish(start(place, "models"))

    assert [(m["name"], m["version"], m["alias"]) for m in listed["models"]] == [
        ("boothline-thing", 1, "champion")
    ]


def test_interrupted_run_exits_with_130_and_can_be_resumed(place, killed_and_resumed):
    process = start(place, "run", "--set", "training.seed=5")
    first = last_run(place)
    while last_run(place) == first:
        threading.Event().wait(0.05)
    when_step_says(place, "train", "loss", lambda: None).join()
    process.send_signal(signal.SIGINT)
    code, summary, errors = finish(process)

    assert code == 130, errors
    assert summary["status"] == "interrupted"
    assert f"boothline resume {summary['run_id']} goes on from here" in errors
    assert processes_of(last_run(place)) == []
    code, resumed, errors = finish(start(place, "resume", summary["run_id"]))
    assert code == 0, errors
    assert resumed["status"] in ("done", "refused")
