"""Real services for tests: one SeaweedFS and one MLflow server a run, a fresh store a test."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import s3_servers
from fault_proxy import FaultProxy

from boothline import services
from boothline.doctor.findings import Finding
from boothline.services import Endpoints
from boothline.settings import Settings
from boothline.store import Store
from boothline.warm import TORCH_LIBRARIES, Warm, warm_process

WATCHDOG = Path(__file__).with_name("watchdog.py")


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the homes of the servers that all workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """End the servers of all homes of this session with it, even if it is killed.

    A process in a session of its own waits for the end of a pipe that only this process holds, then
    ends the servers of this worker; and those of all workers when none of them holds their lock.
    """
    in_use = shared / "in-use"
    with in_use.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        watchdog = subprocess.Popen(
            [sys.executable, str(WATCHDOG), str(tmp_path_factory.getbasetemp()), str(in_use)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        yield
    assert watchdog.stdin
    assert watchdog.stdout
    watchdog.stdin.close()
    watchdog.stdout.read()  # until this worker's own have ended


class ObjectStores:
    """The object stores of a session, each started at its first use, and what each lacks.

    Attributes:
        home: of the SeaweedFS that all workers share.
        folder: receives the folders of the others.
        until_the_end: what ends with the session.
    """

    def __init__(self, home: Path, folder: Path, until_the_end: ExitStack) -> None:
        self.home = home
        self.folder = folder
        self.until_the_end = until_the_end
        self._endpoints: dict[str, Endpoints] = {}
        self._lacks: dict[str, dict[str, Finding]] = {}

    def __getitem__(self, name: str) -> Endpoints:
        if name not in self._endpoints:
            self._endpoints[name] = self._started(name)
        return self._endpoints[name]

    def _started(self, name: str) -> Endpoints:
        if name == "seaweedfs":
            return services.ensure(self.home, only=["seaweedfs"])
        home = self.folder / name
        home.mkdir()
        server = s3_servers.moto if name == "moto" else s3_servers.given
        return self.until_the_end.enter_context(server(home))

    def lacks_of(self, endpoints: Endpoints) -> dict[str, Finding]:
        """Return what a store lacks, as the doctor finds it once."""
        if endpoints.s3_endpoint not in self._lacks:
            home = self.folder / f"examined-{len(self._lacks)}"
            prefix = f"test-{uuid4().hex[:12]}"
            settings = endpoints.settings(home=home, bucket=s3_servers.BUCKET, prefix=prefix)
            self._lacks[endpoints.s3_endpoint] = s3_servers.lacks_of(settings)
            s3_servers.leave_nothing(settings)
        return self._lacks[endpoints.s3_endpoint]


@pytest.fixture(scope="session")
def object_stores(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStores]:
    """The object stores of this session: tests that take turns with them start none again."""
    with ExitStack() as until_the_end:
        folder = tmp_path_factory.mktemp("object-stores")
        yield ObjectStores(shared / "object-store", folder, until_the_end)


@pytest.fixture(scope="session")
def object_store(request: pytest.FixtureRequest, object_stores: ObjectStores) -> Endpoints:
    """Endpoints of an object store that lives as long as the session: SeaweedFS if not another."""
    return object_stores[getattr(request, "param", "seaweedfs")]


@pytest.fixture(scope="session")
def store_lacks(object_store: Endpoints, object_stores: ObjectStores) -> dict[str, Finding]:
    """What the object store of this session lacks, as the doctor finds it."""
    return object_stores.lacks_of(object_store)


@pytest.fixture(scope="session")
def mlflow_uri(shared: Path) -> str:
    """URL of an MLflow tracking server that all workers share, until the last one ends."""
    return services.ensure(shared / "tracking-server", only=["mlflow"]).mlflow_uri


@pytest.fixture
def store_settings(object_store: Endpoints, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a fresh, empty store and a fresh home; no tracking."""
    settings = object_store.settings(
        home=tmp_path / "home", bucket=s3_servers.BUCKET, prefix=f"test-{uuid4().hex[:12]}"
    )
    yield settings
    if s3_servers.GIVEN:
        s3_servers.leave_nothing(settings)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm | None]:
    """A process that has loaded the libraries and forks what trains; None with a GPU."""
    with warm_process(*TORCH_LIBRARIES) as process:
        yield process


@pytest.fixture
def store(store_settings: Settings) -> Store:
    """A fresh, empty store on a real SeaweedFS."""
    return Store.connect(store_settings)


@pytest.fixture
def proxy(store_settings: Settings) -> Iterator[FaultProxy]:
    """A proxy before the SeaweedFS, which passes everything on until told otherwise."""
    with FaultProxy(store_settings.s3_endpoint) as running:
        yield running


@pytest.fixture
def behind_proxy(proxy: FaultProxy, store_settings: Settings) -> Store:
    """The fresh store, reached through the proxy."""
    return Store.connect(store_settings.model_copy(update={"s3_endpoint": proxy.url}))
