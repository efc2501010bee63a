"""A team's day on a real Kubernetes with Kubeflow: install, run, cancel, retrain, lose pods."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_here import ROOT, Cluster, Outcome, command, until

pytestmark = pytest.mark.cluster

STEPS = {
    *("validate_data", "generate_prior", "train", "publish_checkpoint"),
    *("evaluate", "promote", "batch_infer"),
}
RUN_LABEL = "pipeline/runid"
MOST_DRIVERS = 10
"""One for each step of a run with one shard of each, and for the groups that it needs."""
SUBJECTS = ROOT / "examples" / "subjects"


def statuses(run: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["status"] for step in run.get("steps", [])}


def of_run(run: dict[str, Any]) -> str:
    return f"{RUN_LABEL}={run['kfp_run_id']}"


def drivers(cluster: Cluster, run: dict[str, Any]) -> int:
    """Return how many pods of a run are Kubeflow's drivers."""
    names = [pod["metadata"]["name"] for pod in cluster.namespace.pods(of_run(run))]
    return sum("-driver-" in name for name in names)


@pytest.fixture(scope="module")
def plain(cluster: Cluster) -> Path:
    """The deployment without a trainer: the train step trains in its own pod."""
    return cluster.deployment("plain", trainer=None)


@pytest.fixture(scope="module")
def demo(cluster: Cluster, pictures: str, plain: Path) -> tuple[Path, Outcome]:
    """The demo's configuration and its first run."""
    text = (ROOT / "examples" / "demo.yaml").read_text()
    path = cluster.folder / "demo.yaml"
    path.write_text(text.replace("subjects/teddy-bear", pictures))
    return path, cluster.boothline(
        "submit", path, "--deployment", plain, "--run-id", "demo-1", "--watch"
    )


@pytest.mark.proves("F37/installed", "F65/install")
def test_chart_installs_and_every_connection_of_a_step_is_open(
    cluster: Cluster, figure: Any
) -> None:
    """The chart installs; `helm test` walks every connection that a step makes"""
    started = time.monotonic()
    said = command("helm", "test", cluster.release.name, "--namespace", cluster.namespace.name)
    assert [line.split()[-1] for line in said.splitlines() if "Phase:" in line] == ["Succeeded"]
    versions = ", ".join(f"{name} {version}" for name, version in cluster.versions.items())
    figure(f"installed in {cluster.seconds_to_install:.0f} s, tested in "
           f"{time.monotonic() - started:.0f} s ({versions})")  # fmt: skip


@pytest.mark.proves("F31/kubeflow", "F35/cluster", "F65/run")
def test_demo_runs_to_its_end(cluster: Cluster, demo: tuple[Path, Outcome], figure: Any) -> None:
    """The demo is judged and promoted; at most 6:30 on two idle cores, and 10 driver pods"""
    _, outcome = demo
    assert outcome.code == 0, outcome.said
    assert outcome.printed["state"] == "SUCCEEDED"
    assert {name.rstrip("-0123456789") for name in statuses(outcome.printed)} >= STEPS
    assert set(statuses(outcome.printed).values()) == {"done"}
    models = cluster.boothline("models")
    assert "boothline-teddy-bear" in json.dumps(models.printed), models.said
    busy = sum(step["seconds"] for step in outcome.printed["steps"])
    counted = drivers(cluster, outcome.printed)
    figure(f"{outcome.seconds:.0f} s, of which steps {busy:.0f} s; {counted} drivers")
    assert counted <= MOST_DRIVERS


def test_demo_submitted_again_reuses_every_step(
    cluster: Cluster, demo: tuple[Path, Outcome], plain: Path, figure: Any
) -> None:
    """Submitted again it reuses every step; at most 3:20"""
    path, _ = demo
    again = cluster.boothline(
        "submit", path, "--deployment", plain, "--run-id", "demo-2", "--watch"
    )
    assert again.code == 0, again.said
    reused = {name for name, status in statuses(again.printed).items() if status == "reused"}
    assert {name.rstrip("-0123456789") for name in reused} >= STEPS
    names = {pod["metadata"]["name"] for pod in cluster.namespace.pods(of_run(again.printed))}
    assert not {name for name in names if "publish-checkpoint" in name}
    figure(f"{again.seconds:.0f} s; {len(names)} pods")


def test_refused_model_makes_no_pictures(
    cluster: Cluster, demo: tuple[Path, Outcome], plain: Path, figure: Any
) -> None:
    """A model that the gate refuses makes no pictures, and the run succeeds"""
    path, _ = demo
    words = ("submit", path, "--set", "promotion.margins.min_subject_gain=2", "--watch")
    refused = cluster.boothline(*words, "--deployment", plain, "--run-id", "refused-1")
    assert refused.code == 0, refused.said
    found = statuses(refused.printed)
    assert found["promote"] == "done"
    made = {name for name, status in found.items() if status in ("done", "reused")}
    assert not {name for name in made if name.startswith("batch_infer")}
    report = cluster.boothline("report", "refused-1")
    assert report.code == 0, report.said
    figure(f"{refused.seconds:.0f} s; {drivers(cluster, refused.printed)} drivers")


def test_run_is_shown_as_one_at_home(
    cluster: Cluster, demo: tuple[Path, Outcome], plain: Path, figure: Any
) -> None:
    """`status`, `logs`, `report` and `explain` show Boothline's steps, not Kubeflow's nodes"""
    run = cluster.state("demo-1", plain)
    assert {step["name"].rstrip("-0123456789") for step in run["steps"]} <= STEPS | {"finish_run"}
    logs = cluster.boothline("logs", "demo-1", "--step", "train", "--deployment", plain).printed
    assert len(logs["logs"]) >= 1
    for text in logs["logs"].values():
        assert "boothline" in text
        assert "executor_input" not in text
    report = cluster.boothline("report", "demo-1")
    assert report.code == 0, report.said
    explained = cluster.boothline("explain", "demo-2", "train")
    assert explained.code == 0, explained.said
    figure(f"{len(run['steps'])} steps of {len(cluster.namespace.pods(of_run(run)))} pods")


def test_run_is_started_by_filling_in_a_form(
    cluster: Cluster, demo: tuple[Path, Outcome], pictures: str, plain: Path, figure: Any
) -> None:
    """A version that is started by a form, as Kubeflow's page does it, is trained and judged"""
    (uploaded,) = cluster.boothline(
        "upload", "--pipeline", "dreambooth", "--deployment", plain
    ).printed["uploaded"]
    rest = yaml.safe_load(cluster.configuration("form", pictures).read_text())
    del rest["subject"], rest["training"]["num_steps"]
    form = {"pictures": pictures, "subject": "form", "class_noun": "bear", "steps": 9, "seed": 3}
    made = cluster.api(
        "POST",
        "runs",
        {
            "display_name": "from a form",
            "experiment_id": cluster.experiment(),
            "pipeline_version_reference": {
                "pipeline_id": uploaded["pipeline_id"],
                "pipeline_version_id": uploaded["version_id"],
            },
            "runtime_config": {"parameters": {**form, "config": yaml.safe_dump(rest)}},
        },
    )
    run_id = f"dreambooth-{made['run_id']}"
    started = time.monotonic()
    until(
        lambda: cluster.state(run_id, plain)["state"] in ("SUCCEEDED", "FAILED"),
        seconds=900, what="the end of the run", pause=5,
    )  # fmt: skip
    run = cluster.state(run_id, plain)
    assert run["state"] == "SUCCEEDED", run
    assert cluster.boothline("report", run_id).code == 0
    assert "boothline-form" in json.dumps(cluster.boothline("models").printed)
    figure(f"succeeded in {time.monotonic() - started:.0f} s")


def test_submit_without_its_secret_is_refused(cluster: Cluster, pictures: str, figure: Any) -> None:
    """A deployment whose Secret is missing is refused before anything starts"""
    missing = {"name": "no-such-secret", "environment": {"access-key": "BOOTHLINE_S3_ACCESS_KEY"}}
    deployment = cluster.deployment("missing", secrets=[missing], trainer=None)
    config = cluster.configuration("missing", pictures)
    outcome = cluster.boothline("submit", config, "--deployment", deployment)
    assert outcome.code == 2, outcome.said
    assert "no-such-secret" in outcome.said
    figure(outcome.said.strip().splitlines()[0][:100])


def test_pictures_that_are_missing_fail_the_first_step_and_resume_goes_on(
    cluster: Cluster, plain: Path, figure: Any
) -> None:
    """Too few pictures fail the first step, the message last; `resume` continues after a mend"""
    folder = SUBJECTS / "toy-robot"
    first = sorted(folder.glob("*.jpg"))
    images = cluster.upload("data/mended", first[:1])
    config = cluster.configuration("mended", images)
    failed = cluster.boothline(
        "submit", config, "--deployment", plain, "--run-id", "mended-1", "--watch"
    )
    assert failed.code == 1, failed.said
    assert statuses(failed.printed)["validate_data"] == "failed"
    assert cluster.boothline("report", "mended-1").code == 0
    (text,) = (
        cluster.boothline("logs", "mended-1", "--step", "validate_data", "--deployment", plain)
        .printed["logs"]
        .values()
    )
    assert "Traceback" not in text.strip().splitlines()[-1]
    cluster.upload("data/mended", first)
    resumed = cluster.boothline("resume", "mended-1", "--deployment", plain)
    assert resumed.code == 0, resumed.said
    figure(f"failed after {failed.seconds:.0f} s, resumed in {resumed.seconds:.0f} s")


def test_sweep_draws_its_trials_at_submit(
    cluster: Cluster, pictures: str, plain: Path, figure: Any
) -> None:
    """A sweep's grid is drawn at submit; both trials run, the better goes to the gate"""
    config = cluster.configuration(
        "swept", pictures, sweep__grid={"training.learning_rate": [1e-4, 3e-4]}
    )
    outcome = cluster.boothline(
        "submit", config, "--pipeline", "sweep", "--deployment", plain, "--watch"
    )
    assert outcome.code == 0, outcome.said
    trained = [name for name in statuses(outcome.printed) if name.startswith("train")]
    assert len(trained) == 2, trained
    figure(f"2 trials in {outcome.seconds:.0f} s")


def test_store_and_mlflow_that_restart_during_training_cost_nothing(
    cluster: Cluster, pictures: str, plain: Path, figure: Any
) -> None:
    """The pods of the store and of MLflow are deleted during training: the run continues"""
    config = cluster.configuration("restarts", pictures, training__num_steps=60, training__seed=7)
    words = ("submit", config, "--deployment", plain, "--run-id", "restarts-1", "--watch")
    started, process = time.monotonic(), cluster.start(*words)
    until(
        lambda: statuses(cluster.state("restarts-1", plain)).get("train") == "running",
        seconds=600, what="training", pause=3,
    )  # fmt: skip
    name = cluster.release.name
    cluster.namespace.kubectl("delete", "pod", f"{name}-s3-0")
    cluster.namespace.kubectl(
        "delete", "pod", "--selector",
        f"app.kubernetes.io/instance={name},app.kubernetes.io/component=tracking",
    )  # fmt: skip
    outcome = cluster.ended(process, started)
    assert outcome.code == 0, outcome.said
    figure(f"succeeded in {outcome.seconds:.0f} s")
