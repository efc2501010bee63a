"""sweep and retrain by their command line: real services and pipelines, steps that cost nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import boothline
from PIL import Image, ImageDraw

from boothline.services import Endpoints
from boothline.store import Store
from boothline.tracking.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.services]
STUBS = Path(__file__).parent / "stub_steps"


def draw(path: Path, number: int) -> None:
    image = Image.new("RGB", (64, 64), (40 * number % 250, 90, 200 - 30 * number))
    pen = ImageDraw.Draw(image)
    for line in range(0, 64, 7):
        pen.line((line, 0, 64 - line, 64), fill=(255, 255 - 3 * line, 20 * number), width=2)
    pen.ellipse((8 + 4 * number, 10, 40, 40 + 3 * number), fill=(200, 30, 40 * number))
    image.save(path)


class Place:
    """A folder with pictures, a configuration, a home and a bucket of its own."""

    def __init__(
        self, path: Path, base_model: Path, *, endpoints: Endpoints, mlflow_uri: str
    ) -> None:
        self.path = path
        self.mlflow_uri = mlflow_uri
        self.settings = endpoints.settings(home=path / ".boothline", bucket="boothline-loop")
        self.variables = {
            **endpoints.environment(),
            "BOOTHLINE_HOME": ".boothline",
            "BOOTHLINE_BUCKET": "boothline-loop",
            "BOOTHLINE_MLFLOW_URI": mlflow_uri,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(STUBS), os.environ.get("PYTHONPATH", "")])
            ),
        }
        (path / "pictures").mkdir()
        for number in range(3):
            draw(path / "pictures" / f"{number}.png", number)
        settings = {
            "subject": {
                "name": "looped",
                "images": "pictures",
                "class_noun": "bear",
                "resolution_px": 32,
            },
            "base_model": {"source": str(base_model)},
            "prior": {"num_images": 2, "num_shards": 1},
            "inference": {"num_shards": 1},
            "training": {"num_steps": 5},
        }
        (path / "run.yaml").write_text(yaml.safe_dump(settings))

    def boothline(self, *words: str) -> tuple[int, dict, str]:
        """Run a command; return its exit code, JSON object and stderr."""
        return boothline(self.path, *words, variables=self.variables)

    def python(self, *words: str) -> subprocess.CompletedProcess:
        """Run Python with the stubs in place."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.path,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def trainings(self) -> int:
        """Return how many trainings the store has."""
        return len(Store.connect(self.settings).manifests("steps/train/"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_pipeline, object_store, mlflow_uri):
    path = tmp_path_factory.mktemp("loop")
    return Place(path, tiny_pipeline, endpoints=object_store, mlflow_uri=mlflow_uri)


@pytest.fixture(scope="module")
def swept(place):
    """A sweep over three learning rates, the second of which fails and the third is the best."""
    return place.boothline("sweep", "--set", "training.learning_rate=1e-4,1,2e-4")


@pytest.mark.proves("F08")
def test_sweep_ranks_its_trials_and_promotes_the_best(place, swept):
    code, summary, errors = swept

    assert code == 0, errors
    assert (summary["status"], summary["pipeline"]) == ("done", "sweep")
    assert [trial["settings"] for trial in summary["trials"]] == [
        "training.learning_rate=0.0002",
        "training.learning_rate=0.0001",
        "training.learning_rate=1",
    ]
    assert summary["metrics"]["score"] == 1.0
    assert summary["verdict"] == "promoted"
    _, listed, _ = place.boothline("models")
    (champion,) = [model for model in listed["models"] if model["alias"] == "champion"]
    assert champion["digest"] == summary["model"]["digest"]
    assert len(listed["models"]) == 2


def test_sweep_makes_dataset_and_class_pictures_once_for_all_trials(swept):
    names = [step["name"] for step in swept[1]["steps"]]

    assert names.count("validate_data") == names.count("generate_prior-0") == 1
    assert [name for name in names if name.startswith("train")] == [
        f"train-{number}" for number in range(3)
    ]


def test_sweep_leaves_its_leaderboard_in_mlflow_with_nested_trials(place, swept):
    client = connect(place.mlflow_uri)
    parent = swept[1]["mlflow"].rpartition("/")[2].partition("?")[0]

    files = {item.path for item in client.list_artifacts(parent, "sweep")}
    assert files == {"sweep/leaderboard.html", "sweep/leaderboard.json"}
    experiment = client.get_run(parent).info.experiment_id
    nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    trials = {
        run.data.tags["boothline.trial"]: run
        for run in nested
        if "boothline.trial" in run.data.tags
    }
    assert {number: run.info.status for number, run in trials.items()} == {
        "0": "FINISHED",
        "1": "FAILED",
        "2": "FINISHED",
    }
    assert trials["2"].data.params["training.learning_rate"] == "0.0002"
    assert trials["2"].data.metrics["finetuned/score"] == 1.0


@pytest.mark.faults
def test_second_sweep_reuses_the_shared_steps_and_the_trials_it_has_had(place, swept):
    before = place.trainings()
    code, summary, errors = place.boothline("sweep", "--set", "training.learning_rate=2e-4,3e-4")
    _, explained, _ = place.boothline("explain", summary["run_id"])

    assert code == 0, errors
    outcomes = {step["step"]: step["outcome"] for step in explained["steps"]}
    shared = ("validate_data", "generate_prior-0")
    assert [outcomes[step] for step in shared] == ["reused"] * 2
    assert (outcomes["train-0"], outcomes["train-1"]) == ("reused", "made")
    assert place.trainings() == before + 1


def test_sweep_goes_on_without_a_trial_that_fails_and_says_why(place, swept):
    _, summary, _ = swept

    assert [trial["failure"] for trial in summary["trials"]] == [
        "",
        "",
        "train: The loss became NaN.",
    ]
    statuses = {step["name"]: step["status"] for step in summary["steps"]}
    assert [statuses[f"train-{number}"] for number in range(3)] == ["done", "failed", "done"]
    assert "evaluate-1" not in statuses
    assert "Failed at train: The loss became NaN." in Path(summary["report"]).read_text()


def test_retrain_of_unchanged_pictures_trains_zero_times_in_three_runs(place, swept):
    before = place.trainings()

    outcomes = [place.boothline("retrain") for _ in range(3)]

    assert [code for code, _, _ in outcomes] == [0, 0, 0]
    assert [found["decision"] for _, found, _ in outcomes] == ["skip"] * 3
    assert "was already trained on these pictures" in outcomes[0][1]["triggers"][0]["text"]
    assert place.trainings() == before


@pytest.mark.proves("F36/data")
def test_retrain_after_one_new_picture_trains_once(place, swept):
    draw(place.path / "pictures" / "3.png", 3)
    before = place.trainings()

    _, would, _ = place.boothline("retrain", "--dry-run")
    assert (would["decision"], would["run"], place.trainings()) == ("train", None, before)
    code, first, errors = place.boothline(
        "retrain", "--set", "training.learning_rate=2e-4", "--require-promotion"
    )
    assert code == 4, errors
    assert "The gate refused the model of run" in errors
    assert (first["decision"], first["run"]["status"]) == ("train", "refused")
    assert place.trainings() == before + 1
    _, again, _ = place.boothline("retrain")
    assert again["decision"] == "skip"
    assert place.trainings() == before + 1


@pytest.mark.faults
def test_retrain_pipeline_that_finds_nothing_ends_well_after_its_check(place, swept):
    """What a schedule on a cluster starts: the pipeline itself, without the look beforehand."""
    code = (
        "import sys; from pathlib import Path; from rich.console import Console;"
        "from boothline.config.loading import resolve;"
        "from boothline.launch.local.display import PlainDisplay;"
        "from boothline.launch.local.folder import folder_of;"
        "from boothline.launch.local.workflow import carry_out;"
        "home = Path('.boothline').resolve();"
        "config = resolve([Path('run.yaml')]);"
        "summary, error = carry_out(home, folder_of(home, '20990101-000000-0000'), config,"
        " display=PlainDisplay(Console(stderr=True)), pipeline='retrain');"
        "print(summary.model_dump_json()); sys.exit(0 if error is None else str(error))"
    )
    done = place.python("-c", code)

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["status"], summary["decision"]) == ("done", "skip")
    assert [step["name"] for step in summary["steps"]] == [
        "validate_data",
        "check_triggers",
        "finish_run",
    ]
