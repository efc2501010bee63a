"""What is shown of a run on a cluster, from records and pods, and how a run is cancelled there."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp_fake import FakePipelines
from kubernetes_fake import served
from pods_fake import NO_GPU, FakePods, container, pod, unscheduled

from boothline.config import RunConfig
from boothline.errors import ConfigError, ServiceError, StoreError
from boothline.launch.cluster import cancelling, runs
from boothline.launch.cluster.client import PipelinesApi
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.pods import RunPods
from boothline.launch.cluster.runs import Patience
from boothline.launch.cluster.standing import Sources, as_progress
from boothline.launch.cluster.states import ClusterRun, ClusterStep
from boothline.launch.local.display import PlainDisplay
from boothline.runs import Failure, StepRecord, read_run, read_steps, write_step
from boothline.settings import Settings
from boothline.store import Store
from boothline.store.memory import memory_store
from boothline.trainjob.cluster import api_client

RUN = "20260131-093000-1a2b"
CONFIG = RunConfig.model_validate({"subject": {"images": "s3://boothline/teddy/"}})
OURS = {"metadata": {"name": "ours", "annotations": {"boothline.dev/run": RUN}}}
QUICK = Patience(poll_seconds=0.001, timeout_seconds=5.0)
# What Kubeflow Pipelines 2.17 was seen to list of a run: drivers, groups and iterations among the
# steps, states that lag, and no message where a driver failed.
NODES = [
    {"display_name": name, "state": state}
    for number in range(20)
    for name, state in (
        (f"iteration-iterations({number}:{number})(0)", "RUNNING"),
        (f"dreambooth-{number}", "RUNNING"),
        (f"executor({number})", "SUCCEEDED"),
        (f"driver-{number}", "RUNNING"),
        (f"condition-{number}", "RUNNING"),
    )
] + [{"display_name": "Train", "state": "RUNNING"}]


@pytest.fixture
def server() -> Iterator[FakePipelines]:
    """A Kubeflow Pipelines API."""
    fake = FakePipelines(states=("RUNNING",), tasks=NODES)
    with served(fake):
        yield fake


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePods]:
    """A Kubernetes API that KUBECONFIG names."""
    fake = FakePods()
    with served(fake):
        (tmp_path / "kubeconfig").write_text(fake.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield fake


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return memory_store(tmp_path)


@pytest.fixture
def deployment(server: FakePipelines) -> Deployment:
    """Settings that name the fake API."""
    return Deployment.model_validate(
        {
            "kfp": {"host": server.url, "namespace": "ml"},
            "images": {"tools": "boothline/tools:1", "torch": "boothline/torch:1"},
            "settings": {"s3_endpoint": "http://s3:8333"},
        }
    )


@pytest.fixture
def run(server: FakePipelines, deployment: Deployment) -> ClusterRun:
    """A run that was started."""
    api = PipelinesApi(deployment.kfp, settings=Settings())
    started, _ = runs.submit(api, deployment, CONFIG, run_id=RUN, pipeline="dreambooth")
    return runs.described(api.run(started.kfp_run_id), deployment)


def record(step: str, status: str, **more: Any) -> StepRecord:
    return StepRecord.model_validate({"step": step, "status": status, "started_at": 1.0, **more})


def steps(
    run: ClusterRun, *, store: Store | None = None, pods: bool = False
) -> dict[str, ClusterStep]:
    found = RunPods(api_client(), namespace="ml") if pods else None
    standing = Sources(store=lambda: store, pods=found).standing(run)
    return {step.name: step for step in standing.steps}


def test_steps_of_a_run_are_its_own_and_not_kubeflows_nodes(run: ClusterRun) -> None:
    assert len(run.tasks) == 101
    shown = steps(run)
    assert list(shown)[:4] == ["validate_data", "generate_prior", "train", "publish_checkpoint"]
    assert len(shown) == 8
    assert "sample_models" not in shown  # one shard leaves all to the evaluation
    assert shown["train"].status == "running"
    assert "tasks" not in run.model_dump()


def test_records_beat_the_stale_states_of_kubeflow(run: ClusterRun, store: Store) -> None:
    write_step(store, RUN, record("validate_data", "done", reused=True, manifest="m@sha256:1"))
    failure = Failure(type="TrainingError", message="The loss is NaN.", remedy="Lower the rate.")
    write_step(store, RUN, record("train", "failed", seconds=7.5, failure=failure))
    shown = steps(run, store=store)
    assert (shown["validate_data"].status, shown["validate_data"].manifest) == (
        "reused",
        "m@sha256:1",
    )
    assert (shown["train"].status, shown["train"].seconds) == ("failed", 7.5)
    assert shown["train"].note == "The loss is NaN. Lower the rate."


def test_failed_run_says_what_its_step_said(run: ClusterRun, store: Store) -> None:
    failure = Failure(type="TrainingError", message="The loss is NaN.")
    write_step(store, RUN, record("train", "failed", failure=failure))
    ended = Sources(store=lambda: store).standing(run.model_copy(update={"state": "FAILED"}))
    error = runs.error_of(ended)
    assert error is not None
    assert error.message == f"Run {RUN} failed at train: The loss is NaN."


def test_step_whose_pod_waits_for_a_node_says_for_what(
    run: ClusterRun, kubernetes: FakePods
) -> None:
    kubernetes.pods = [unscheduled("train-1")]
    shown = steps(run, pods=True)
    assert (shown["train"].status, shown["train"].pod) == ("waiting", "train-1")
    assert shown["train"].note.endswith(f"min: {NO_GPU}")


def test_step_whose_training_waits_for_a_node_says_for_what(
    run: ClusterRun, kubernetes: FakePods, store: Store
) -> None:
    write_step(store, RUN, record("train", "running"))
    kubernetes.pods = [pod("step-1")]
    annotations = {"boothline.dev/run": RUN}
    kubernetes.train_jobs["ours"] = {"metadata": {"name": "ours", "annotations": annotations}}
    kubernetes.train_jobs["other"] = {"metadata": {"name": "other", "annotations": {}}}
    kubernetes.nodes = [unscheduled("ours-node-0-0")]
    sources = Sources(store=lambda: store, pods=RunPods(api_client(), namespace="ml"))
    (waiting,) = [step for step in sources.standing(run).steps if step.name == "train"]
    assert (waiting.status, waiting.pod) == ("waiting", "ours-node-0-0")
    assert NO_GPU in waiting.note
    assert [s for s in kubernetes.selectors if "jobset" in s] == [
        "jobset.sigs.k8s.io/jobset-name=ours"
    ]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}, "not found"),
        ({"waiting": {"reason": "CreateContainerConfigError", "message": "secret s"}}, "secret s"),
        ({"waiting": {"reason": "ContainerCreating"}}, ""),
    ],
)
def test_pod_that_cannot_start_says_why(
    run: ClusterRun, kubernetes: FakePods, state: dict[str, Any], reason: str
) -> None:
    kubernetes.pods = [pod("train-1", phase="Pending", containerStatuses=[container(**state)])]
    note = steps(run, pods=True)["train"].note
    assert note.endswith(reason)
    assert (": " in note) is bool(reason)


def test_pod_that_was_killed_is_no_running_step(
    run: ClusterRun, kubernetes: FakePods, store: Store
) -> None:
    write_step(store, RUN, record("train", "running"))
    killed = container(terminated={"exitCode": 137, "reason": "OOMKilled"})
    kubernetes.pods = [pod("train-1", phase="Failed", containerStatuses=[killed])]
    shown = steps(run, store=store, pods=True)["train"]
    assert (shown.status, shown.note) == ("interrupted", "OOMKilled (exit code 137)")


def test_step_that_failed_without_a_record_shows_the_last_line_of_its_log(
    run: ClusterRun, kubernetes: FakePods, store: Store
) -> None:
    failed = container(terminated={"exitCode": 1, "reason": "Error"})
    status = {"phase": "Failed", "containerStatuses": [failed]}
    kubernetes.pods = [pod("data-1", step="validate_data", **status)]
    kubernetes.log = [
        "2026-01-31 09:31:00,000 INFO boothline.progress validate_data started",
        "ConfigError: inference.version is not a setting.",
        "I0131 09:31:01.569332      16 main.go:59] failed to execute component",
    ]
    shown = steps(run, store=store, pods=True)["validate_data"]
    assert shown.note == "Error (exit code 1): ConfigError: inference.version is not a setting."


def test_pods_of_several_shards_are_not_guessed(
    run: ClusterRun, kubernetes: FakePods, store: Store
) -> None:
    for shard in (0, 1):
        write_step(store, RUN, record("generate_prior", "done", shard=shard))
    kubernetes.pods = [pod(f"prior-{n}", step="generate_prior") for n in (1, 2)]
    shown = steps(run, store=store, pods=True)
    assert [shown[f"generate_prior-{n}"].pod for n in (0, 1)] == ["", ""]


def test_store_that_answers_later_is_looked_at_then(run: ClusterRun, store: Store) -> None:
    answers = iter([ServiceError("The object store does not answer."), store])

    def opened() -> Store:
        answer = next(answers)
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    write_step(store, RUN, record("train", "done"))
    sources = Sources(store=opened)
    away, there = sources.standing(run), sources.standing(run)
    assert any("does not answer" in note for note in away.notes)
    assert {step.name: step.status for step in there.steps}["train"] == "done"
    assert there.notes == []


def test_running_step_shows_the_progress_of_its_log(
    run: ClusterRun, kubernetes: FakePods, store: Store
) -> None:
    write_step(store, RUN, record("train", "running"))
    kubernetes.pods = [pod("train-1")]
    kubernetes.log = [
        f"2026-01-31 09:31:0{n},000 INFO boothline.progress train progress {n}/300 steps loss .{n}"
        for n in (1, 2)
    ]
    shown = steps(run, store=store, pods=True)["train"]
    assert (shown.done, shown.total, shown.unit, shown.note) == (2, 300, "steps", "loss .2")


def test_api_that_is_away_is_named_and_the_rest_is_shown(
    run: ClusterRun, kubernetes: FakePods, store: Store
) -> None:
    write_step(store, RUN, record("train", "done"))
    kubernetes.refusal = 403
    sources = Sources(store=lambda: store, pods=RunPods(api_client(), namespace="ml"))
    shown = sources.standing(run)
    assert [step.status for step in shown.steps if step.name == "train"] == ["done"]
    assert "pods and pods/log" in shown.notes[0]


def test_run_whose_driver_failed_says_why(run: ClusterRun, kubernetes: FakePods) -> None:
    kubernetes.drivers = [
        pod("dreambooth-1-driver", phase="Succeeded", created=1),
        pod("dreambooth-2-driver", phase="Failed", created=3),
        pod("dreambooth-0-driver", phase="Failed", created=2),
    ]
    kubernetes.log = [
        "I1128 20:00:00.000000       1 main.go:90] {",
        "F1128 20:00:01.123456       1 main.go:121] KFP driver: no account",
        "Error: exit status 1",
    ]
    failed = run.model_copy(update={"state": "FAILED"})
    pods = RunPods(api_client(), namespace="ml")
    ended = Sources(pods=pods).standing(failed)
    assert ended.error == "dreambooth-2-driver: KFP driver: no account"
    error = runs.error_of(ended)
    assert error is not None
    assert error.message == f"Run {RUN} failed: {ended.error}"
    assert Sources(pods=pods).standing(run).error == ""


class _Lines(PlainDisplay):
    def __init__(self) -> None:
        self.lines: list[str] = []
        super().__init__(console=None)  # type: ignore[arg-type]

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_watched_run_is_shown_as_a_local_one(run: ClusterRun) -> None:
    display = _Lines()
    for seconds in (2, 4):
        waiting = ClusterStep(name="train", status="waiting", note=f"{seconds} s: {NO_GPU}")
        shown = run.model_copy(update={"steps": [waiting]})
        display.show(as_progress(shown, now=time.time()))
    ended = ClusterStep(name="train", status="reused", seconds=3.0)
    display.show(as_progress(run.model_copy(update={"steps": [ended]}), now=time.time()))
    assert [line.split()[:2] for line in display.lines] == [
        ["train", "waiting"],
        ["train", "reused"],
    ]
    assert NO_GPU in display.lines[0]


def cancelled(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, store: Store
) -> cancelling.Cancelled:
    monkeypatch.setattr(Store, "connect", lambda settings, **_: store)
    api = PipelinesApi(deployment.kfp, settings=Settings())
    settings = Settings.model_validate({"s3_endpoint": "memory:"})
    return cancelling.cancel(api, deployment, RUN, settings=settings, patience=QUICK)


@pytest.mark.proves("F35/cancel", "F54/cancel")
@pytest.mark.parametrize("reached", [True, False])
def test_cancelled_run_loses_its_training_and_says_so(
    run: ClusterRun,
    deployment: Deployment,
    kubernetes: FakePods,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    reached: bool,
) -> None:
    write_step(store, RUN, record("validate_data", "done"))
    if reached:
        write_step(store, RUN, record("train", "running"))
    kubernetes.train_jobs["ours"] = OURS
    kubernetes.nodes = [unscheduled("ours-node-0-0")]
    done = cancelled(deployment, monkeypatch, store)
    assert (done.state, done.pods) == ("CANCELED", [])
    assert kubernetes.grace < 0  # their grace period was waited for
    assert done.train_jobs == kubernetes.deleted == ["ours"]
    stopped = [item for item in read_steps(store, RUN) if item.status == "failed"]
    assert [item.step for item in stopped] == ["train" if reached else "generate_prior"]
    assert stopped[0].failure is not None
    assert stopped[0].failure.message == "The run was cancelled."
    ended = read_run(store, RUN)
    assert ended is not None
    assert (ended.status, ended.report) == ("interrupted", done.report)


@pytest.mark.parametrize("gone", ["no training", "by its step", "by cancel"])
def test_pods_that_do_not_end_are_named(
    run: ClusterRun,
    deployment: Deployment,
    kubernetes: FakePods,
    monkeypatch: pytest.MonkeyPatch,
    gone: str,
) -> None:
    """A TrainJob is gone at once, its pods when they have saved their state."""
    kubernetes.nodes, kubernetes.grace = [pod("node-0-0")], 1_000_000
    if gone == "no training":
        kubernetes.pods = [pod("train-1")]
    else:
        kubernetes.train_jobs["ours"] = OURS
    api = PipelinesApi(deployment.kfp, settings=Settings())
    if gone == "by its step":
        monkeypatch.setattr(api, "cancel", lambda run_id: kubernetes.train_jobs.clear())
    impatient = Patience(poll_seconds=0.001, timeout_seconds=0.01)
    done = cancelling.cancel(api, deployment, RUN, settings=Settings(), patience=impatient)
    assert done.pods == (["train-1"] if gone == "no training" else ["node-0-0"])
    assert done.train_jobs == (["ours"] if gone == "by cancel" else [])
    assert done.report == ""
    assert "BOOTHLINE_S3_ENDPOINT" in done.notes[0]


def test_report_that_cannot_be_written_is_named_and_the_run_is_cancelled(
    run: ClusterRun,
    deployment: Deployment,
    kubernetes: FakePods,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise StoreError("The store answers 403.")

    monkeypatch.setattr(Store, "put_record", refuse)
    done = cancelled(deployment, monkeypatch, store)
    assert (done.state, done.report) == ("CANCELED", "")
    assert done.notes == ["No report was written. The store answers 403."]


def test_run_that_has_ended_is_not_cancelled(
    server: FakePipelines, run: ClusterRun, deployment: Deployment
) -> None:
    server.states = ("SUCCEEDED",)
    api = PipelinesApi(deployment.kfp, settings=Settings())
    with pytest.raises(ConfigError, match="nothing to cancel"):
        cancelling.cancel(api, deployment, RUN, settings=Settings())
