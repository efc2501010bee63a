"""What tests of MLflow share: a store with a server beside it, and time for a busy machine."""

import pytest

from boothline.settings import Settings
from boothline.tracking import delivery


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time: what is tested here is what arrives, not how fast."""
    monkeypatch.setattr(delivery, "CLOSE_DEADLINE_SECONDS", 90.0)
    monkeypatch.setattr(delivery, "START_DELAY_SECONDS", 0.0)


@pytest.fixture
def settings(store_settings: Settings, mlflow_uri: str) -> Settings:
    return store_settings.model_copy(update={"mlflow_uri": mlflow_uri})
