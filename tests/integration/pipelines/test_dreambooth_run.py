"""The whole product by its command line, on real services, with models of a megabyte."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import yaml
from command_line import boothline
from PIL import Image, ImageDraw

from boothline import services
from boothline.catalogue import steps_of
from boothline.launch.local.processes import processes_of

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[3]
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
        "subject": {
            "name": "thing",
            "images": "pictures",
            "class_noun": "bear",
            "resolution_px": 32,
        },
        "base_model": {"source": str(tiny_pipeline)},
        "prior": {"num_images": 4, "num_shards": 1, "sampling": sampling},
        "training": {"num_steps": 40, "num_processes": 2, "sample_every_steps": 0},
        "checkpoints": {"every_steps": 10},
        "evaluation": {
            "prompts": ["a photo of a {subject}"],
            "images_per_prompt": 2,
            "sampling": sampling,
            "clip_model": str(tiny_clip),
            "dino_model": str(tiny_dino),
        },
        "inference": {"sampling": sampling, "num_shards": 1},
        "promotion": {
            "margins": {
                "min_subject_gain": -2,
                "max_prompt_loss": 2,
                "max_prior_loss": 2,
                "max_diversity_loss": 2,
            }
        },
    }
    (place / "run.yaml").write_text(yaml.safe_dump(settings))
    yield place
    services.stop(place / ".boothline")


def start(place: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "boothline.cli.app", *arguments, "--output", "json"],
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, dict, str]:
    output, errors = process.communicate(timeout=1200)
    return process.returncode, json.loads(output) if output else {}, errors


def runs(place: Path) -> list[Path]:
    return sorted((place / ".boothline" / "runs").glob("*"))


def last_run(place: Path) -> Path:
    return runs(place)[-1]


def when_training(place: Path, act) -> threading.Thread:
    """Call `act()` as soon as the newest run reports a loss that it has not reported before."""
    before = sum(path.read_text().count("loss") for path in training_events(place))

    def wait():
        for _ in range(24000):
            if sum(path.read_text().count("loss") for path in training_events(place)) > before:
                act()
                return
            threading.Event().wait(0.05)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def training_events(place: Path) -> list[Path]:
    return [*(place / ".boothline" / "runs").glob("*/events/train.jsonl")]


def kill_a_rank(place: Path) -> None:
    """Kill the training process that started last: a rank, forked by torchrun's agent."""
    training = [p for p in processes_of(last_run(place)) if p.name() == "elastic"]
    max(training, key=psutil.Process.create_time).kill()


class Attempts(NamedTuple):
    """Exit code, JSON object and stderr of two attempts at one run."""

    interrupted: tuple[int, dict, str]
    resumed: tuple[int, dict, str]


@pytest.fixture(scope="module")
def attempts(place) -> Attempts:
    """A run that Ctrl-C stops in training, and the attempt that goes on with it."""
    process = start(place, "run")
    when_training(place, lambda: process.send_signal(signal.SIGINT)).join()
    interrupted = finish(process)
    return Attempts(interrupted, boothline(place, "resume", last_run(place).name))


def test_run_interrupted_in_training_exits_with_130_and_leaves_no_process(place, attempts):
    code, summary, errors = attempts.interrupted

    assert code == 130, errors
    assert summary["status"] == "interrupted"
    assert f"boothline resume {summary['run_id']} continues from here" in errors
    assert processes_of(last_run(place)) == []


@pytest.mark.proves("F01/run", "F26/sd1", "F31/local", "F32/seaweedfs", "F41/step")
def test_resume_ends_well_and_repeats_no_finished_step(place, attempts):
    code, summary, errors = attempts.resumed

    assert code == 0, errors
    assert summary["status"] == "done"
    assert summary["run_id"] == attempts.interrupted[1]["run_id"]
    reused = {step["name"] for step in summary["steps"] if step["reused"]}
    assert reused == {"validate_data", "generate_prior-0"}
    assert {step["name"].partition("-")[0] for step in summary["steps"]} == {
        step.name for step in steps_of("dreambooth")
    }
    for step in summary["steps"]:
        assert (step["status"], "@sha256:" in step["manifest"]) == ("done", True), step
    assert Path(summary["report"]).read_text().lower().startswith("<!doctype html")
    assert summary["model"]["name"] == "boothline-thing"
    assert summary["model"]["version"] == "1"
    assert -1 <= summary["metrics"]["dino"] <= 1
    assert summary["verdict"] == "promoted"
    assert "/runs/" in summary["mlflow"]


@pytest.mark.proves("F20/ctrl_c", "F41/training")
def test_resume_goes_on_from_the_state_that_the_interruption_committed(place, attempts):
    notes = "".join(path.read_text() for path in training_events(place))

    assert "resuming after step" in notes


def test_status_prints_the_same_object_as_the_run(place, attempts):
    code, status, _ = boothline(place, "status")

    assert code == 0
    assert status == attempts.resumed[1]


@pytest.mark.proves("F41/explain")
def test_second_run_reuses_every_step_and_explains_why(place, attempts):
    code, summary, errors = boothline(place, "run")
    _, explained, _ = boothline(place, "explain", summary["run_id"], "train")

    assert code == 0, errors
    assert [step["name"] for step in summary["steps"] if not step["reused"]] == ["finish_run"]
    assert not (last_run(place) / "kfp.log").exists()  # no process was started for any step
    assert summary["model"] == attempts.resumed[1]["model"]
    first = attempts.resumed[1]["run_id"]
    assert explained["steps"] == [
        {
            "step": "train",
            "outcome": "reused",
            "reasons": [f"Nothing it depends on changed since run {first}."],
            "compared_with": first,
        }
    ]


@pytest.mark.proves("F10")
def test_champion_of_the_run_makes_pictures(place, attempts):
    code, made, errors = boothline(
        place, "generate", "a photo of sks bear", "--images", "2", "--output-dir", "made"
    )

    assert code == 0, errors
    assert made["digest"] == attempts.resumed[1]["model"]["digest"]
    assert [Image.open(place / path).size for path in made["pictures"]] == [(32, 32)] * 2


@pytest.mark.proves("F54/serving")
def test_batch_inference_serves_the_champion_and_reuses_its_pictures(place, attempts):
    code, summary, errors = boothline(place, "run", "--pipeline", "batch_inference")

    assert code == 0, errors
    assert {step["name"] for step in summary["steps"]} == {
        "choose_model", "batch_infer-0", "finish_run",
    }  # fmt: skip
    served = {step["name"]: step for step in summary["steps"]}["batch_infer-0"]
    trained = {step["name"]: step for step in attempts.resumed[1]["steps"]}["batch_infer-0"]
    assert served["manifest"] == trained["manifest"]
    assert served["reused"]
    assert "made its pictures" in Path(summary["report"]).read_text()


def test_batch_inference_of_a_version_that_is_not_there_fails_by_its_name(place, attempts):
    code, _, errors = boothline(
        place, "run", "--pipeline", "batch_inference", "--set", "inference.version=9"
    )

    assert code != 0
    assert "has no version '9'" in errors


@pytest.mark.proves("F66/api")
def test_python_functions_run_and_draw_what_the_commands_do(place, attempts):
    page = (ROOT / "docs/python.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    asked = """
found = boothline.Run.find(run.run_id)
print(found.status, found.load_model().version.version, model.version.version, len(pictures))
"""
    done = subprocess.run(
        [sys.executable, "-c", example + asked], cwd=place, env=ENVIRONMENT, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()[-2:]
    assert first.startswith("done True ")
    assert Path(first.split()[-1]) == last_run(place) / "report.html"
    assert last == "done 1 1 2"
    prompt = ["a photo of sks bear on grass", "--model", "boothline-thing", "--seed", "7"]
    prompt += ["--output-dir", "drawn"]
    code, made, errors = boothline(place, "generate", *prompt, "--steps", "2")
    assert code == 0, errors
    with Image.open(place / made["pictures"][0]) as theirs, Image.open(place / "bear.png") as ours:
        assert theirs.tobytes() == ours.tobytes()


def test_models_lists_the_version_as_champion(place, attempts):
    _, listed, _ = boothline(place, "models")

    assert [(m["name"], m["version"], m["alias"]) for m in listed["models"]] == [
        ("boothline-thing", 1, "champion")
    ]


@pytest.mark.faults
def test_run_with_killed_rank_fails_clearly_and_says_how_to_resume(place, attempts):
    process = start(place, "run", "--set", "training.seed=7")
    when_training(place, lambda: kill_a_rank(place)).join()
    code, summary, errors = finish(process)

    assert code == 1, errors
    assert summary["status"] == "failed"
    assert "Error: Step train failed" in errors
    assert f"boothline resume {summary['run_id']} continues from here" in errors
    assert "Traceback" not in errors
