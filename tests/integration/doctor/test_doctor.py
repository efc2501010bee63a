"""The doctor finds what is wrong, and says what to do about it."""

import json
import socket
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from boothline import doctor, services
from boothline.doctor import Finding, machine, storage
from boothline.doctor.examination import NAMES, connection, images
from boothline.errors import ConfigError
from boothline.services import Endpoints
from boothline.services.endpoints import Credentials
from boothline.services.service import SeaweedFS
from boothline.settings import Settings
from boothline.store.s3 import Bucket


def findings(settings: Settings, home: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.examine(settings, home)}


def nowhere(home: Path) -> Settings:
    """Settings that name no service, whatever the environment says."""
    return Settings(home=home, s3_endpoint="", mlflow_uri="")


@pytest.mark.services
def test_examine_running_services_finds_them_well(object_store: Endpoints, mlflow_uri: str) -> None:
    settings = nowhere(object_store.home).model_copy(update={"mlflow_uri": mlflow_uri})
    found = findings(settings, object_store.home)
    for name in (
        "python",
        "service seaweedfs",
        "store",
        "store transport",
        "store permissions",
        "store races",
        "store checksums",
        "store clock",
        "store uploads",
        "mlflow",
    ):
        assert found[name].status == "ok", found[name]
    assert found["store races"].detail.startswith("1 of 16")
    assert object_store.s3_endpoint in found["store"].detail


@pytest.mark.services
def test_examine_wrong_credentials_fails_the_store(
    store_settings: Settings, tmp_path: Path
) -> None:
    wrong = store_settings.model_copy(update={"s3_secret_key": SecretStr("wrong")})
    found = findings(wrong, tmp_path)
    assert found["store"].status == "failed"
    assert "BOOTHLINE_S3_SECRET_KEY" in found["store"].remedy
    assert "store races" not in found


def test_examine_empty_home_tells_to_start_the_services(tmp_path: Path) -> None:
    found = findings(nowhere(tmp_path), tmp_path / "home")
    for name in ("service seaweedfs", "service mlflow", "store", "mlflow"):
        assert found[name].status == "warning"
        assert "boothline up" in found[name].remedy
    assert not (tmp_path / "home").exists()


def test_examine_dead_tracking_server_warns(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        found = findings(nowhere(tmp_path).model_copy(update={"mlflow_uri": uri}), tmp_path)
    assert found["mlflow"].status == "warning"
    assert uri in found["mlflow"].detail


def test_examine_missing_base_model_names_the_folder(tmp_path: Path) -> None:
    settings = nowhere(tmp_path).model_copy(update={"models_dir": tmp_path / "no-models"})
    found = findings(settings, tmp_path)["base model"]
    assert found.status == "warning"
    assert str(tmp_path / "no-models") in found.detail + found.remedy


def test_examine_crashed_service_fails(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    dead = max(psutil.pids()) + 100_000
    state = (
        f'{{"services": {{"mlflow": {{"pid": {dead}, "started_at": 0, "ports": {{"http": 1}}}}}}}}'
    )
    (tmp_path / "services" / "state.json").write_text(state)
    found = findings(nowhere(tmp_path), tmp_path)["service mlflow"]
    assert found.status == "failed"
    assert "boothline up" in found.remedy
    assert services.running(tmp_path).mlflow_uri == ""


@pytest.mark.parametrize(("amount", "status"), [(0, "failed"), (10, "warning"), (100, "ok")])
def test_amount_is_judged_by_its_limits(amount: int, status: str) -> None:
    assert machine.amount("disk", "x", amount, limits=(5, 50), remedy="r").status == status


@pytest.mark.parametrize(
    ("skew_seconds", "status"), [(0.4, "ok"), (-120.0, "warning"), (960.0, "failed")]
)
def test_clock_skew_is_judged_by_what_stores_accept(skew_seconds: float, status: str) -> None:
    assert storage._clock(skew_seconds).status == status


@pytest.mark.parametrize(("num_winners", "status"), [(1, "ok"), (2, "failed"), (0, "failed")])
def test_race_needs_exactly_one_winner(num_winners: int, status: str) -> None:
    assert storage._race(num_winners).status == status


@pytest.mark.services
def test_examine_identity_that_may_only_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = SeaweedFS.prepare
    key = {"accessKey": "reader-key", "secretKey": "the-secret-of-the-reader"}

    def with_reader(self: SeaweedFS, folder: Path, credentials: Credentials) -> None:
        prepare(self, folder, credentials)
        written = json.loads((folder / "s3.json").read_text())
        reader = {"name": "reader", "credentials": [key], "actions": ["Read", "List"]}
        (folder / "s3.json").write_text(
            json.dumps({"identities": [*written["identities"], reader]})
        )

    monkeypatch.setattr(SeaweedFS, "prepare", with_reader)
    home = tmp_path / "home"
    endpoints = services.ensure(home, only=["seaweedfs"])
    try:
        Bucket.connect(endpoints.settings())
        reader = endpoints.settings(
            s3_access_key=key["accessKey"], s3_secret_key=SecretStr(key["secretKey"])
        )
        found = {finding.name: finding for finding in storage.examine(reader)}
    finally:
        services.stop(home)
    permissions = found["store permissions"]
    assert permissions.status == "warning"
    assert "may not write, delete" in permissions.detail
    assert "gc" in permissions.remedy


def test_store_in_the_clear_beyond_this_machine_is_warned_about(tmp_path: Path) -> None:
    clear = nowhere(tmp_path).model_copy(update={"s3_endpoint": "http://store.example.org:9000"})
    assert storage._transport(clear).status == "warning"
    safe = clear.model_copy(update={"s3_endpoint": "https://store.example.org"})
    assert storage._transport(safe).status == "ok"


def test_examine_credentials_that_others_can_read_fails(tmp_path: Path) -> None:
    path = tmp_path / "services" / "credentials.json"
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o644)
    found = findings(nowhere(tmp_path), tmp_path)["secrets"]
    assert found.status == "failed"
    assert f"chmod 600 {path}" in found.remedy


def test_examine_tracking_address_that_is_refused_is_not_asked(tmp_path: Path) -> None:
    odd = nowhere(tmp_path).model_copy(update={"mlflow_uri": "http://169.254.169.254/"})
    found = findings(odd, tmp_path)["mlflow"]
    assert found.status == "failed"
    assert "metadata" in found.detail


DOCKER = """#!/bin/sh
case "$5" in
  *tools*) echo "sha256:0123456789abcdef abc1234" ;;
  *torch*) [ -e "$0.torch" ] && echo "sha256:fedcba9876543210" && exit 0
           echo "Error: No such image: $5" >&2; exit 1 ;;
  *) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;;
esac
"""


def test_examine_images_names_digests_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images().status == "ok"
    assert "no Docker" in images().detail
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    found = images()
    assert found.status == "warning"
    assert "make images" in found.remedy
    assert f"{NAMES[0]} is sha256:0123456789abcdef of revision abc1234" in found.detail
    assert f"{NAMES[1]} is missing" in found.detail
    (tmp_path / "docker.torch").touch()
    assert images().status == "ok"
    assert "sha256:fedcba9876543210" in images().detail
    silent = images(("another:1",))
    assert silent.status == "warning"
    assert "daemon" in silent.detail


@pytest.mark.services
def test_examine_pod_names_the_closed_connection(
    store_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: "" if name == "torch" else "1")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        targets = [f"127.0.0.1:{one.getsockname()[1]}" for one in (server, closed)]
        settings = store_settings.model_copy(update={"mlflow_uri": ""})
        found = doctor.examine_pod(settings, tmp_path, connections=[*targets, "absent.invalid:80"])
    status = {finding.name: finding.status for finding in found}
    assert status[f"connection {targets[0]}"] == "ok"
    assert {name for name, value in status.items() if value == "failed"} == {
        f"connection {targets[1]}",
        "connection absent.invalid:80",
    }
    assert "service seaweedfs" not in status


def test_connection_without_a_port_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        connection("ml-pipeline")


def test_processors_say_what_a_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    assert "8 CPU cores, 2 of them for this process" in machine.processors().detail
