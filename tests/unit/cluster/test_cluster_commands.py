"""compile, submit, schedule, status and resume on a cluster, as a person types them."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kfp_fake import FakePipelines
from kubernetes_fake import served

from boothline import settings as process_environment
from pipelines.cli.app import main
from pipelines.cluster import runs

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
        Path("run.yaml").write_text("subject: {images: 's3://boothline/teddy/'}\n")
        yield fake
    process_environment.current.cache_clear()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process; returns exit code, stdout and stderr."""
    quick = runs.Patience(poll_seconds=0.001)
    monkeypatch.setattr(runs.follow, "__kwdefaults__", {"patience": quick})

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["boothline", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(caught.value.code or 0), captured.out, captured.err

    return run


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


@pytest.mark.parametrize(("end", "expected"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 130)])
def test_watched_run_ends_with_its_exit_code(
    server: FakePipelines, cli: Cli, end: str, expected: int
) -> None:
    server.states = ("RUNNING", end)
    code, out, err = cli("submit", "--watch", "--run-id", RUN, "--output", "json")
    assert code == expected
    assert json.loads(out)["state"] == end
    assert ("Error" in err) is bool(expected)


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
    assert json.loads(out)["no_catchup"] is True
    assert server.kept["recurringruns"] == {}
    code, out, _ = cli("schedule", "--name", "nightly", "--cron", "0 30 1 * * *")
    assert code == 0
    assert "Registered nightly" in out
    code, out, _ = cli("unschedule", "nightly")
    assert (code, out.strip()) == (0, "Removed 1 of nightly.")


def test_missing_deployment_file_is_a_usage_error(server: FakePipelines, cli: Cli) -> None:
    code, _, err = cli("submit", "--deployment", "absent.yaml")
    assert code == 2
    assert "absent.yaml does not exist" in err


def test_unreachable_api_is_a_service_error(server: FakePipelines, cli: Cli) -> None:
    text = Path("deployment.yaml").read_text().replace(server.url, "http://127.0.0.1:9")
    Path("deployment.yaml").write_text(text)
    code, _, err = cli("submit", "--run-id", RUN)
    assert code == 5
    assert "does not answer" in err


def test_compile_writes_the_deployed_pipeline(server: FakePipelines, cli: Cli) -> None:
    code, _, _ = cli("compile", "--deployment", "deployment.yaml", "-o", "pipeline.yaml")
    assert code == 0
    spec, platform = yaml.safe_load_all(Path("pipeline.yaml").read_text())
    assert spec["pipelineInfo"]["name"] == "dreambooth"
    assert "kubernetes" in platform["platforms"]
    code, out, _ = cli("compile")
    assert code == 0
    assert len(list(yaml.safe_load_all(out))) == 1
