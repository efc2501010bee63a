"""The TrainJob manifest: its golden copies, and what Kubeflow Trainer's own models say to it."""

import json
from pathlib import Path

import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from boothline.errors import ConfigError
from boothline.trainjob.manifest import name_of, train_job
from boothline.trainjob.settings import TrainJobSettings

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SMALL = TrainJobSettings(namespace="ml", runtime="rel-boothline-ddp", num_nodes=2)
LARGE = TrainJobSettings(
    namespace="ml",
    runtime="rel-boothline-ddp",
    num_nodes=4,
    processes_per_node=8,
    image="registry.example.org/boothline/torch@sha256:" + "2" * 64,
    resources={"limits": {"cpu": "32", "memory": "256Gi", "nvidia.com/gpu": "8"}},
    queue="imaging",
    priority_class="nightly",
    deadline_seconds=7200,
)
JOB = "trainjobs/0123456789abcdef/job-00aa@" + "a" * 64


@pytest.mark.parametrize(("name", "settings"), [("small", SMALL), ("large", LARGE)])
def test_train_job_equals_its_golden_copy(name: str, settings: TrainJobSettings) -> None:
    made = train_job(
        settings, name=name_of("0123456789abcdef0123456789"), job=JOB, run_id="20260131-093000-1a2b"
    )
    text = yaml.safe_dump(made, sort_keys=True)
    assert text == (GOLDEN / f"trainjob-{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [SMALL, LARGE])
def test_train_job_survives_the_trainers_models(settings: TrainJobSettings) -> None:
    made = train_job(settings, name="boothline-x", job=JOB, run_id="r")
    model = TrainerV1alpha1TrainJob.from_json(json.dumps(made))
    assert model is not None
    assert json.loads(model.to_json()) == made


def test_train_job_starts_as_many_ranks_as_asked() -> None:
    trainer = train_job(LARGE, name="boothline-x", job=JOB, run_id="r")["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert LARGE.world_size == 32


def test_train_job_carries_no_environment() -> None:
    assert "env" not in json.dumps(train_job(LARGE, name="boothline-x", job=JOB, run_id="r"))


def test_settings_that_are_no_train_job_are_refused() -> None:
    with pytest.raises(ConfigError, match="BOOTHLINE_TRAIN_JOB"):
        TrainJobSettings.from_json('{"namespace": "ml", "nodes": 2}')
