"""Local services, started and stopped for real."""

import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from boothline import services
from boothline.errors import ServiceError
from boothline.services import Endpoints, processes
from boothline.services import endpoints as loopback
from boothline.services.processes import http_answer
from boothline.services.service import SeaweedFS
from boothline.store import ManifestDraft, Store

pytestmark = pytest.mark.services

ONLY = ["seaweedfs"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A fresh home whose services are stopped afterwards."""
    yield tmp_path / "home"
    services.stop(tmp_path / "home")


def process_of(home: Path) -> psutil.Process:
    return psutil.Process(services.status(home)[0].pid)


def commit(endpoints: Endpoints) -> str:
    store = Store.connect(endpoints.settings())
    return str(store.commit("steps/a/b", ManifestDraft(kind="test", files={"f": b"content"})))


def read(endpoints: Endpoints, ref: str) -> bytes:
    return Store.connect(endpoints.settings()).read_bytes(ref, "f")


def test_ensure_running_service_is_left_alone(object_store: Endpoints) -> None:
    before = process_of(object_store.home).pid
    assert services.ensure(object_store.home, only=ONLY) == object_store
    assert process_of(object_store.home).pid == before


def test_service_listens_on_loopback_only(object_store: Endpoints) -> None:
    connections = process_of(object_store.home).net_connections(kind="inet")
    listening = [item.laddr for item in connections if item.status == psutil.CONN_LISTEN]
    assert len(listening) == 8
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_service_files_are_private(object_store: Endpoints) -> None:
    folder = object_store.home / "services"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("credentials.json", "seaweedfs/s3.json", "seaweedfs/security.toml"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_service_shows_its_secret_to_nobody(object_store: Endpoints) -> None:
    secret = object_store.s3_secret_key.get_secret_value()
    process = process_of(object_store.home)
    assert secret not in " ".join(process.cmdline())
    assert secret not in (object_store.home / "services" / "logs" / "seaweedfs.log").read_text()
    assert secret not in repr(object_store)


def test_internal_ports_hand_out_no_objects(object_store: Endpoints) -> None:
    store = Store.connect(object_store.settings(bucket="guarded"))
    store.put_record("runs/r/run.json", {"content": "private"})
    state = json.loads((object_store.home / "services" / "state.json").read_text())
    numbers = state["services"]["seaweedfs"]["ports"]
    for name in ("filer.port", "s3.port", "master.port", "volume.port"):
        path = "guarded/runs/r/run.json"
        assert http_answer(numbers[name], f"/buckets/{path}") is None
        assert http_answer(numbers[name], f"/{path}") is None


def test_status_running_service_tells_where(object_store: Endpoints) -> None:
    seaweedfs, mlflow = services.status(object_store.home)
    assert (seaweedfs.state, seaweedfs.url) == ("running", object_store.s3_endpoint)
    assert seaweedfs.memory_bytes > 0
    assert mlflow.state == "stopped"
    assert services.running(object_store.home).s3_endpoint == object_store.s3_endpoint


def test_status_of_an_empty_home_is_stopped(home: Path) -> None:
    assert [service.state for service in services.status(home)] == ["stopped", "stopped"]
    assert services.stop(home) == []
    assert not home.exists()


def test_started_process_is_found_although_its_environment_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, num_late = psutil.Process.environ, itertools.count()
    monkeypatch.setattr(
        psutil.Process, "environ", lambda self: environ(self) if next(num_late) >= 3 else {}
    )
    process = processes.start(
        ["sleep", "60"], folder=tmp_path, log=tmp_path / "log", environment={}
    )
    assert processes.find(process.pid, folder=tmp_path) == process
    processes.terminate(process, patience_seconds=5)


def test_ensure_by_two_commands_at_once_starts_one_server(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from boothline import services;"
        "services.ensure(Path(sys.argv[1]), only=['seaweedfs']);"
        "print(services.status(Path(sys.argv[1]))[0].pid)"
    )

    def ensure(_: int) -> str:
        command = [sys.executable, "-c", code, str(home)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(3) as pool:
        answers = set(pool.map(ensure, range(3)))
    assert len(answers) == 1
    marked = processes.find_all(home.resolve() / "services" / "seaweedfs")
    assert [str(process.pid) for process in marked] == [next(iter(answers)).strip()]


def test_data_survives_stop_and_start(home: Path) -> None:
    endpoints = services.ensure(home, only=ONLY)
    ref = commit(endpoints)
    process = process_of(home)
    assert services.stop(home) == ["seaweedfs"]
    assert not process.is_running()
    again = services.ensure(home, only=ONLY)
    assert again.s3_secret_key == endpoints.s3_secret_key
    assert read(again, ref) == b"content"


def test_killed_service_is_started_again_with_its_data(home: Path) -> None:
    endpoints = services.ensure(home, only=ONLY)
    ref = commit(endpoints)
    killed = process_of(home)
    killed.kill()
    killed.wait(5)
    assert services.status(home)[0].state == "crashed"
    again = services.ensure(home, only=ONLY)
    assert process_of(home).pid != killed.pid
    assert read(again, ref) == b"content"


def test_lost_state_file_leads_to_one_server_again(home: Path) -> None:
    services.ensure(home, only=ONLY)
    orphan = process_of(home)
    (home / "services" / "state.json").write_text("{torn")
    services.ensure(home, only=ONLY)
    assert not orphan.is_running()
    assert process_of(home).is_running()


def test_taken_ports_are_avoided(home: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8336))
            taken.listen(1)
        except OSError:
            pass  # Something else has it, which serves as well.
        endpoints = services.ensure(home, only=ONLY)
    assert endpoints.s3_endpoint != "http://127.0.0.1:8333"


def test_ports_taken_in_the_last_moment_are_left_for_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        # The first look is too early to see the listener, like that of a command in a race.
        looks = iter([True] * len(SeaweedFS.port_names))
        is_free = loopback.is_free
        monkeypatch.setattr(
            loopback, "is_free", lambda number: next(looks, None) or is_free(number)
        )
        monkeypatch.setattr(SeaweedFS, "first_port", port)
        endpoints = services.ensure(home, only=ONLY)
    assert endpoints.s3_endpoint != f"http://127.0.0.1:{port}"


def test_stop_spares_a_process_that_got_a_recorded_id(home: Path) -> None:
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record = {"pid": foreign.pid, "started_at": 0.0, "ports": {"http": 8350}}
    (home / "services").mkdir(parents=True)
    state = json.dumps({"services": {"mlflow": record}})
    (home / "services" / "state.json").write_text(state)
    assert services.stop(home) == []
    assert foreign.poll() is None
    foreign.kill()
    foreign.wait()


def test_service_that_cannot_start_shows_the_end_of_its_log(home: Path) -> None:
    data = home / "services" / "seaweedfs" / "data"
    data.mkdir(parents=True)
    (data / "filerldb2").write_text("a file where a folder belongs")
    with pytest.raises(ServiceError, match="seaweedfs service ended") as caught:
        services.ensure(home, only=ONLY)
    assert "filerldb2" in caught.value.message
    assert "goroutine" not in caught.value.message


def test_mlflow_keeps_runs_and_refuses_foreign_hosts(mlflow_uri: str, tmp_path: Path) -> None:
    import mlflow
    import urllib3

    (tmp_path / "note.txt").write_text("kept")
    client = mlflow.MlflowClient(tracking_uri=mlflow_uri)
    run = client.create_run(client.create_experiment(f"experiment-{tmp_path.name}"))
    client.log_metric(run.info.run_id, "loss", 0.5)
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.5}
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["note.txt"]
    answer = urllib3.request("GET", f"{mlflow_uri}/", headers={"Host": "evil.example"})
    assert answer.status == 403


def test_ensure_while_the_lock_is_held_waits(home: Path) -> None:
    from filelock import FileLock

    (home / "services").mkdir(parents=True)
    lock = FileLock(home / "services" / "lock", thread_local=False)
    lock.acquire()
    released = threading.Timer(0.5, lock.release)
    released.start()
    assert services.ensure(home, only=ONLY).s3_endpoint
    released.join()
