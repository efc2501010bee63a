"""The life of a TrainJob against a Kubernetes API over HTTP: queued, run, ended, deleted."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes_fake import FakeKubernetes, served

from boothline.config import RunConfig
from boothline.diffusion.base_model import resolve
from boothline.errors import DataError, InterruptedRunError, ServiceError, TrainingError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.trainjob.cluster import Cluster
from boothline.trainjob.files import (
    EVENT_MARK,
    receive_job,
    report_failure,
    result_place,
    send_job,
    send_result,
)
from boothline.trainjob.launch import Pace, train_on_nodes
from boothline.trainjob.manifest import name_of, train_job
from boothline.trainjob.settings import TrainJobSettings

pytestmark = pytest.mark.services

SETTINGS = TrainJobSettings(namespace="ml", runtime="ddp", num_nodes=2)
PACE = Pace(poll_seconds=0.01, outage_seconds=0.2)
NAME = "boothline-0123456789abcdef0123"
RUN_ID = "20260131-093000-1a2b"


@pytest.fixture
def api() -> Iterator[FakeKubernetes]:
    fake = FakeKubernetes()
    with served(fake):
        yield fake


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    for name in ("instance", "job"):
        (tmp_path / name).mkdir()
    (tmp_path / "instance" / "captions.jsonl").write_text("{}\n")
    return TrainingJob(
        config=RunConfig(),
        world_size=2,
        base_model=tmp_path,
        base_model_digest="tiny",
        pictures=[SubjectFolders(instance=tmp_path / "instance")],
        data_digest="data",
        states="training/0123456789abcdef01234567",
        folder=tmp_path / "job",
    )


def cluster(api: FakeKubernetes) -> Cluster:
    configuration = client.Configuration(host=api.url)
    configuration.retries = False
    return Cluster(client.ApiClient(configuration), namespace="ml")


def train(
    api: FakeKubernetes, job: TrainingJob, store: Store, events: list[Any] | None = None
) -> Any:
    seen = events if events is not None else []
    return train_on_nodes(
        job,
        settings=SETTINGS,
        store=store,
        cluster=cluster(api),
        run_id=RUN_ID,
        on_event=seen.append,
        pace=PACE,
    )


def job_reference(api: FakeKubernetes) -> str:
    return str(api.jobs[NAME]["spec"]["trainer"]["args"][0])


def leave_result(api: FakeKubernetes, job: TrainingJob, store: Store) -> None:
    """Do what node 0 does at its end."""
    folder = job.folder / "node"
    folder.mkdir()
    (folder / "curve.jsonl").write_text('{"step": 1}\n')
    result = {
        "final_state": "training/x@" + "a" * 64,
        "num_parameters_trained": 7,
        "chosen_step": 1,
        "last_step": 1,
        "pass_size": 1,
    }
    (folder / "result.json").write_text(json.dumps(result))
    node = job.model_copy(update={"folder": folder})
    send_result(store, node, place=result_place(job_reference(api)))


def test_training_walks_to_its_result_and_leaves_no_train_job(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    step: Mapping[str, Any] = {"event": "step", "step": 1, "instance_loss": 0.5}
    api.log = ["INFO starting", EVENT_MARK + json.dumps(step)]
    api.on_look = lambda state: leave_result(api, job, store) if state == "Running" else None
    events: list[Any] = []
    result = train(api, job, store, events)
    assert result.num_parameters_trained == 7
    assert result.curve.read_text() == '{"step": 1}\n'
    phases = [event["name"] for event in events if event["event"] == "phase"]
    assert phases == [
        f"TrainJob {name}" for name in ("created", "suspended", "running", "complete")
    ]
    assert step in events
    assert events.count(step) == 1
    assert api.jobs == {}


def test_failed_training_raises_what_a_node_reported(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    api.states = ("Running", "Failed")
    peer = TrainingError("The ranks lost each other.")
    cause = DataError("Picture 3 is broken.", remedy="Replace it.")

    def report(state: str) -> None:
        if state == "Running":
            report_failure(store, job_reference(api), peer, node=0)
            report_failure(store, job_reference(api), cause, node=1)

    api.on_look = report
    with pytest.raises(DataError, match=r"Picture 3 is broken\. Replace it\."):
        train(api, job, store)
    assert api.jobs == {}


def test_failed_training_without_a_word_shows_the_last_lines(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    api.states = ("Running", "Running", "Failed")
    api.log = ["CUDA error: device lost"]
    with pytest.raises(TrainingError, match=r"exit code 1.*device lost"):
        train(api, job, store)


def test_sigterm_deletes_the_train_job(api: FakeKubernetes, job: TrainingJob, store: Store) -> None:
    api.states = ("Running",)
    api.on_look = lambda state: os.kill(os.getpid(), signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRunError, match="asked to save"):
        train(api, job, store)
    assert api.jobs == {}
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("state", ["Created", "Suspended", "Running"])
def test_stopped_training_leaves_no_train_job_in_any_state(
    api: FakeKubernetes, job: TrainingJob, store: Store, state: str
) -> None:
    api.states = (state,)
    api.on_look = lambda state: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(InterruptedRunError):
        train(api, job, store)
    assert api.jobs == {}


def test_left_train_jobs_of_a_run_are_deleted_and_no_others(api: FakeKubernetes) -> None:
    ours, theirs, gone = "0123456789abcdef01234567", "9876543210abcdef01234567", "f" * 24
    for key, run_id in ((ours, RUN_ID), (theirs, "20260131-093000-ffff")):
        cluster(api).create(train_job(SETTINGS, name=name_of(key), job="x", run_id=run_id))
    deleted = cluster(api).delete_left(keys=[ours, theirs, gone], run_id=RUN_ID)
    assert deleted == [NAME]
    assert set(api.jobs) == {name_of(theirs)}


def test_running_train_job_is_followed_and_not_started_twice(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    first = send_job(store, job)
    cluster(api).create(train_job(SETTINGS, name=NAME, job=str(first), run_id=RUN_ID))
    api.states = ("Running", "Running", "Complete")
    api.on_look = lambda state: leave_result(api, job, store) if state == "Complete" else None
    assert train(api, job, store).num_parameters_trained == 7
    posts = [path for method, path in api.requests if method == "POST"]
    assert len(posts) == 1


def test_ended_train_job_of_an_earlier_try_is_replaced(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    api.states = ("Failed",)
    old = "trainjobs/old/job-1@" + "a" * 64
    cluster(api).create(train_job(SETTINGS, name=NAME, job=old, run_id=RUN_ID))
    with pytest.raises(TrainingError, match="The TrainJob failed"):
        train(api, job, store)
    assert [method for method, _ in api.requests].count("POST") == 2


def test_deleted_train_job_ends_the_step(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    api.states = ("Running",)
    api.on_look = lambda state: api.jobs.clear()
    with pytest.raises(TrainingError, match="Somebody deleted"):
        train(api, job, store)


def test_missing_rights_are_named(api: FakeKubernetes, job: TrainingJob, store: Store) -> None:
    api.refusals["POST"] = [403]
    with pytest.raises(ServiceError, match=r"answers 403.*lacks rights"):
        train(api, job, store)


def test_short_outage_of_the_api_is_waited_for(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    api.states = ("Created", "Running", "Complete")

    def disturb(state: str) -> None:
        if state == "Created":
            api.refusals["GET"] = [500, 503]
        if state == "Complete":
            leave_result(api, job, store)

    api.on_look = disturb
    assert train(api, job, store).num_parameters_trained == 7


def test_long_outage_of_the_api_deletes_the_train_job(
    api: FakeKubernetes, job: TrainingJob, store: Store
) -> None:
    api.states = ("Running",)
    api.on_look = lambda state: api.refusals.update(GET=[503] * 1000)
    with pytest.raises(ServiceError, match="answers 503"):
        train(api, job, store)
    assert api.jobs == {}


def test_node_that_is_not_root_can_write_the_job_that_it_received(
    job: TrainingJob, store: Store, store_settings: Settings, tmp_path: Path
) -> None:
    base = resolve(job.config.base_model.source, settings=store_settings)
    ref = send_job(store, job.model_copy(update={"base_model_digest": base.digest}))
    received = receive_job(store, str(ref), tmp_path / "node", settings=store_settings)
    # What the store hands out is read-only, which root does not notice.
    assert not (tmp_path / "node" / "job.json").exists()
    assert received.save().stat().st_mode & 0o200
