"""compile, submit, schedule, status and resume on a cluster, as a person types them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kfp_fake import FakePipelines
from kubernetes_fake import served
from model_fixtures import make_model_layout
from pods_fake import FakePods, pod, unscheduled

from boothline import settings as process_environment
from boothline.launch.cluster import runs

RUN = "20260131-093000-1a2b"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePipelines]:
    """A Kubeflow Pipelines API that deployment.yaml in the working folder names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    process_environment.current.cache_clear()
    fake = FakePipelines()
    with served(fake):
        value = {
            "kfp": {"host": fake.url, "namespace": "ml"},
            "images": {"tools": "boothline/tools:1", "torch": "boothline/torch:1"},
            "settings": {"s3_endpoint": "http://s3:8333"},
        }
        Path("deployment.yaml").write_text(yaml.safe_dump(value))
        subject = {"images": "s3://boothline/teddy/", "class_noun": "bear"}
        Path("run.yaml").write_text(yaml.safe_dump({"subject": subject}))
        yield fake
    process_environment.current.cache_clear()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a run as often as possible."""
    quick = runs.Patience(poll_seconds=0.001)
    monkeypatch.setattr(runs.follow, "__kwdefaults__", {"patience": quick})


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePods]:
    """A Kubernetes API that KUBECONFIG names."""
    fake = FakePods(
        pods=[pod("train-1", phase="Failed"), unscheduled("train-2")],
        log=[
            "I1128 20:00:00 launcher_v2.go:151] input ComponentSpec:{",
            "2026-01-31 09:31:00,000 INFO boothline.progress train started 0/0  ",
            "step 1 of 4",
        ],
    )
    with served(fake):
        (tmp_path / "kubeconfig").write_text(fake.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield fake


def test_dry_run_prints_what_would_be_sent_and_sends_nothing(
    server: FakePipelines, cli: Cli
) -> None:
    code, out, _ = cli("submit", "--dry-run", "--run-id", RUN, "--output", "json")
    assert code == 0
    body = json.loads(out)
    assert body["display_name"] == RUN
    assert body["runtime_config"]["parameters"]["run_id"] == RUN
    assert server.requests == []
    code, out, _ = cli("submit", "--dry-run", "--run-id", RUN)
    assert yaml.safe_load(out) == body


@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_dry_run_without_a_deployment_file_shows_the_example(
    server: FakePipelines, cli: Cli, command: str
) -> None:
    Path("deployment.yaml").unlink()
    words = ("--subject", "s3://boothline/teddy/", "--set", "subject.class_noun=bear")
    code, out, said = cli(command, *words, "--dry-run", "--output", "json")
    assert (code, server.requests) == (0, [])
    assert "There is no deployment.yaml here: shown with that of the example." in said
    assert "boothline/torch:0.2.0" in out
    code, _, said = cli(command)
    assert (code, "deployment.yaml does not exist" in said) == (2, True)


@pytest.mark.proves("F51/judges")
@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_cluster_run_by_encoders_that_cannot_judge_the_base_is_refused_before_it_is_sent(
    server: FakePipelines,
    cli: Cli,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = make_model_layout(tmp_path / "models/photographs")
    (base / "unet/config.json").write_text('{"sample_size": 64}')
    (base / "vae/config.json").write_text('{"block_out_channels": [1, 1, 1, 1]}')
    monkeypatch.setenv("BOOTHLINE_MODELS_DIR", str(tmp_path / "models"))
    process_environment.current.cache_clear()
    words = ("--set", "base_model.source=builtin:photographs", "--set", "training.method=lora")
    words = (*words, "--set", "subject.resolution_px=512")
    for extra in ((), ("--dry-run",)):
        code, _, said = cli(command, *words, *extra)
        assert (code, server.requests) == (2, [])
        assert "evaluation.dino_model builtin:tiny-emoji-dino was made for" in said


@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_cluster_run_whose_base_is_not_seen_from_here_says_so_and_starts(
    server: FakePipelines, cli: Cli, command: str
) -> None:
    code, out, said = cli(command, "--set", "base_model.source=base:sd15")
    assert code == 0
    assert "Warning: base:sd15 is not seen from here" in out + said


@pytest.mark.proves("F35/commands")
@pytest.mark.parametrize(("end", "expected"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 130)])
def test_watched_run_ends_with_its_exit_code(
    server: FakePipelines, cli: Cli, end: str, expected: int
) -> None:
    server.states = ("RUNNING", end)
    code, out, err = cli("submit", "--watch", "--run-id", RUN, "--output", "json")
    assert code == expected
    assert json.loads(out)["state"] == end
    assert ("Error" in err) is bool(expected)


@pytest.mark.proves("F35/commands")
def test_status_and_resume_ask_the_cluster(server: FakePipelines, cli: Cli) -> None:
    server.states = ("FAILED",)
    cli("submit", "--run-id", RUN)
    code, out, _ = cli("status", RUN, "--deployment", "deployment.yaml", "--output", "json")
    assert (code, json.loads(out)["state"]) == (0, "FAILED")
    code, _, err = cli("resume", RUN, "--deployment", "deployment.yaml")
    assert code == 1
    assert f"Run {RUN} failed" in err
    assert len(server.kept["runs"]) == 2
    code, _, err = cli("status", "--deployment", "deployment.yaml")
    assert code == 2
    assert "name the run id" in err


def test_schedule_is_registered_and_removed(server: FakePipelines, cli: Cli) -> None:
    code, out, _ = cli("schedule", "--name", "nightly", "--dry-run", "--output", "json")
    assert code == 0
    body = json.loads(out)
    assert body["no_catchup"] is True
    assert body["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "retrain"
    assert server.kept["recurringruns"] == {}
    code, out, _ = cli("schedule", "--name", "nightly", "--cron", "0 30 1 * * *")
    assert code == 0
    assert "Registered nightly" in out
    code, out, _ = cli("schedule", "--name", "nightly", "--remove")
    assert (code, out.strip()) == (0, "Removed 1 of nightly.")
    code, out, _ = cli("unschedule", "nightly")  # its name of old
    assert (code, out.strip()) == (0, "Removed 0 of nightly.")


def test_unschedule_of_a_run_that_has_not_ended_disables_and_says_so(
    server: FakePipelines, cli: Cli
) -> None:
    server.states = ("RUNNING",)
    cli("schedule", "--name", "nightly")
    (recurring,) = server.kept["recurringruns"]
    job = server.fire(recurring)
    code, out, _ = cli("unschedule", "nightly")
    assert code == 0
    assert f"Disabled 1 of nightly: nightly-{job} has not ended yet." in out
    assert server.killed == set()
    code, out, _ = cli(
        "status", f"nightly-{job}", "--deployment", "deployment.yaml", "--output", "json"
    )
    assert (code, json.loads(out)["kfp_run_id"]) == (0, job)


def test_missing_deployment_file_is_a_usage_error(server: FakePipelines, cli: Cli) -> None:
    code, _, err = cli("submit", "--deployment", "absent.yaml")
    assert code == 2
    assert "absent.yaml does not exist" in err


def test_unreachable_api_is_a_service_error_in_two_lines(
    server: FakePipelines, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    text = Path("deployment.yaml").read_text().replace(server.url, "http://127.0.0.1:9")
    Path("deployment.yaml").write_text(text)
    code, _, err = cli("submit", "--run-id", RUN)
    assert code == 5
    said = err.strip().splitlines()
    assert said[-2] == (
        "Error: Could not read the experiments: the Kubeflow Pipelines API at http://127.0.0.1:9"
        " does not answer (Connection refused)."
    )
    assert [record for record in caplog.records if record.name.startswith("urllib3")] == []
    assert "Caused by" not in err


def test_compile_writes_the_deployed_pipeline(server: FakePipelines, cli: Cli) -> None:
    code, _, _ = cli("compile", "--deployment", "deployment.yaml", "-o", "pipeline.yaml")
    assert code == 0
    spec, platform = yaml.safe_load_all(Path("pipeline.yaml").read_text())
    assert spec["pipelineInfo"]["name"] == "dreambooth"
    assert "kubernetes" in platform["platforms"]
    code, out, _ = cli("compile")
    assert code == 0
    assert len(list(yaml.safe_load_all(out))) == 1


def test_logs_are_those_of_the_runs_pods(
    server: FakePipelines, kubernetes: FakePods, cli: Cli
) -> None:
    cli("submit", "--run-id", RUN)
    (kfp_run,) = server.kept["runs"]
    asked = ("logs", RUN, "--step", "train", "--deployment", "deployment.yaml", "--output", "json")
    code, out, _ = cli(*asked)
    assert code == 0
    own = f"{kubernetes.log[1]}\nstep 1 of 4\n"
    assert json.loads(out)["logs"] == {"train/train-1": own}
    assert kubernetes.selectors == [f"pipeline/runid={kfp_run},boothline.dev/step=train"]
    code, out, _ = cli(*asked, "--all")
    assert json.loads(out)["logs"] == {"train/train-1": f"{kubernetes.log[0]}\n{own}"}
    kubernetes.refusal = 403
    code, _, err = cli(*asked)
    assert code == 5
    assert "pods and pods/log" in err


def test_logs_without_a_cluster_say_how_to_name_one(
    server: FakePipelines, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "absent")
    cli("submit", "--run-id", RUN)
    code, out, err = cli("logs", RUN, "--deployment", "deployment.yaml")
    assert (code, out) == (2, "")
    assert "KUBECONFIG" in err


@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_missing_secrets_and_accounts_are_named_before_anything_is_sent(
    server: FakePipelines, kubernetes: FakePods, cli: Cli, command: str
) -> None:
    value = yaml.safe_load(Path("deployment.yaml").read_text())
    value["kfp"]["service_account"] = "editor"
    value["secrets"] = [{"name": "s3-pipeline", "environment": {"a": "BOOTHLINE_S3_ACCESS_KEY"}}]
    value["ca_bundle"] = {"config_map": "ca"}
    value["signing"] = {"secret": "private"}
    value["verification"] = {"config_map": "public"}
    value["trainer"] = {"namespace": "ml", "runtime": "ddp", "num_nodes": 2}
    Path("deployment.yaml").write_text(yaml.safe_dump(value))
    kubernetes.absent = {"s3-pipeline", "editor", "ddp", "private", "public"}
    code, _, err = cli(command)
    assert code == 2
    named = ("Secret s3-pipeline", "Secret private", "ConfigMap public", "ServiceAccount editor")
    for name in (*named, "TrainingRuntime ddp"):
        assert f"no {name}" in err
    assert "ConfigMap ca" not in err
    assert server.requests == []
    kubernetes.absent = set()
    assert cli(command)[0] == 0


def test_what_may_not_be_read_does_not_stop_a_run(
    server: FakePipelines, kubernetes: FakePods, cli: Cli
) -> None:
    value = yaml.safe_load(Path("deployment.yaml").read_text())
    value["kfp"]["service_account"] = "editor"
    Path("deployment.yaml").write_text(yaml.safe_dump(value))
    kubernetes.refusal = 403
    code, out, _ = cli("submit", "--run-id", RUN)
    assert code == 0
    assert "started" in out
    assert "Warning" not in out
