"""What a step can tell a tracker, with two trackers that need no server."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

CloseStatus = Literal["FINISHED", "FAILED", "KILLED"]


class StepTracker(Protocol):
    """Receives parameters, metrics and files of one step.

    No method raises for an unreachable server and none waits for it: a step never fails or slows
    for tracking.
    """

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; the first value of a name stays."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a training step."""

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Log a small file (a picture, a report) under a folder of the run's artifacts."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""

    def close(self, status: CloseStatus) -> None:
        """Flush and end the run; does nothing if nothing was logged."""


class NullTracker:
    """Drops everything: used when no tracking server is configured."""

    def params(self, values: Mapping[str, object]) -> None:
        """Drop parameters."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Drop metrics."""

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Drop a file."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Drop tags."""

    def close(self, status: CloseStatus) -> None:
        """Do nothing."""


class MemoryTracker(NullTracker):
    """Keeps everything in memory: the fake that tests use."""

    def __init__(self) -> None:
        self.logged_params: dict[str, object] = {}
        self.logged_metrics: list[tuple[int, dict[str, float]]] = []
        self.logged_tags: dict[str, str] = {}
        self.logged_artifacts: list[str] = []
        self.status: str = ""

    def params(self, values: Mapping[str, object]) -> None:
        """Keep parameters."""
        self.logged_params.update(values)

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Keep metrics."""
        self.logged_metrics.append((step, dict(values)))

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Keep the name of a file."""
        self.logged_artifacts.append(f"{folder}/{path.name}".lstrip("/"))

    def tags(self, values: Mapping[str, str]) -> None:
        """Keep tags."""
        self.logged_tags.update(values)

    def close(self, status: CloseStatus) -> None:
        """Keep the status."""
        self.status = status
