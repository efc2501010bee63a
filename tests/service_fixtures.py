"""Real services for tests: one SeaweedFS and one MLflow server a session, a fresh store a test."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from boothline import services
from boothline.services import Endpoints
from boothline.settings import Settings
from boothline.store import Store


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Endpoints of a SeaweedFS that lives as long as the session."""
    home = tmp_path_factory.mktemp("object-store")
    yield services.ensure(home, only=["seaweedfs"])
    services.stop(home)


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an MLflow tracking server that lives as long as the session."""
    home = tmp_path_factory.mktemp("tracking-server")
    yield services.ensure(home, only=["mlflow"]).mlflow_uri
    services.stop(home)


@pytest.fixture
def store_settings(object_store: Endpoints, tmp_path: Path) -> Settings:
    """Settings of a fresh, empty store and a fresh home; no tracking."""
    return object_store.settings(
        home=tmp_path / "home", bucket="boothline-tests", prefix=f"test-{uuid4().hex[:12]}"
    )


@pytest.fixture
def store(store_settings: Settings) -> Store:
    """A fresh, empty store on a real SeaweedFS."""
    return Store.connect(store_settings)
