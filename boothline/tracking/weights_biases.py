"""Weights & Biases runs in offline mode beside another tracker: files here, nothing is sent."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.errors import ConfigError
from boothline.tracking.base import CloseStatus, StepTracker
from boothline.tracking.boards import PICTURE_SUFFIX

if TYPE_CHECKING:
    from wandb import Run

STEP = "step"


class OfflineTracker:
    """Passes everything on to a tracker, and writes it to an offline run of W&B too.

    `wandb sync FOLDER/wandb/offline-run-*` sends the run to a server, when somebody wants that.

    Args:
        tracker: receives everything.
        folder: where the run's files go; made when there is something to write.
        project: name of the project.
        group: the pipeline run, which groups its steps.
        step: name of the step.

    Raises:
        ConfigError: the library is missing.
    """

    def __init__(
        self, tracker: StepTracker, *, folder: Path, project: str, group: str, step: str
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"tracking.wandb needs the library wandb: {error}.",
                remedy="Install the extra: pip install 'boothline[wandb]'.",
            ) from error
        self._library = wandb
        self._tracker = tracker
        self._folder = folder
        self._project, self._group, self._name = project, group, f"{group}/{step}"
        self._opened: Run | None = None

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters."""
        self._tracker.params(values)
        self._run.config.update(dict(values), allow_val_change=True)

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a training step, which is the x axis of every curve."""
        self._tracker.metrics(values, step=step)
        self._run.log({**values, STEP: step})

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Log a small file; PNG pictures become media, others stay with the tracker."""
        self._tracker.artifact(path, folder=folder)
        if path.suffix == PICTURE_SUFFIX:
            self._run.log({folder or path.stem: self._library.Image(str(path))})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._tracker.tags(values)
        self._run.config.update({"tags": dict(values)}, allow_val_change=True)

    def close(self, status: CloseStatus) -> None:
        """Finish the files and end the run."""
        if self._opened is not None:
            self._opened.finish(exit_code=0 if status == "FINISHED" else 1)
        self._tracker.close(status)

    @property
    def _run(self) -> "Run":
        if self._opened is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            settings = self._library.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True
            )
            self._opened = self._library.init(
                mode="offline",
                dir=str(self._folder),
                settings=settings,
                project=self._project,
                group=self._group,
                name=self._name,
            )
            self._opened.define_metric("*", step_metric=STEP)
        return self._opened
