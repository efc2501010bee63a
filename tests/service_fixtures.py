"""Real services for tests: one SeaweedFS and one MLflow server a session, a fresh store a test."""

import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """End the servers of all homes of this session with it, even if it is killed.

    A process in a session of its own waits for the end of a pipe that only this process holds.
    """
    watchdog = subprocess.Popen(
        [sys.executable, str(WATCHDOG), str(tmp_path_factory.getbasetemp())],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    yield
    watchdog.communicate()


@pytest.fixture(scope="session")
def object_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoints]:
    """Endpoints of an object store that lives as long as the session: SeaweedFS if not another."""
    home = tmp_path_factory.mktemp("object-store")
    name = getattr(request, "param", "seaweedfs")
    if name == "seaweedfs":
        yield services.ensure(home, only=["seaweedfs"])
        services.stop(home)
    elif name == "moto":
        with s3_servers.moto(home) as endpoints:
            yield endpoints
    else:
        with s3_servers.given(home) as endpoints:
            yield endpoints


@pytest.fixture(scope="session")
def store_lacks(
    object_store: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Finding]:
    """What the object store of this session lacks, as the doctor finds it."""
    home = tmp_path_factory.mktemp("examined")
    settings = object_store.settings(
        home=home, bucket=s3_servers.BUCKET, prefix=f"test-{uuid4().hex[:12]}"
    )
    lacks = s3_servers.lacks_of(settings)
    s3_servers.leave_nothing(settings)
    return lacks


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an MLflow tracking server that lives as long as the session."""
    home = tmp_path_factory.mktemp("tracking-server")
    yield services.ensure(home, only=["mlflow"]).mlflow_uri
    services.stop(home)


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
