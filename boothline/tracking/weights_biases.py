"""Weights & Biases runs in offline mode: files here, nothing is sent."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.errors import ConfigError
from boothline.tracking.base import CloseStatus, Values
from boothline.tracking.boards import PICTURE_SUFFIX, shown_as

if TYPE_CHECKING:
    from wandb import Run

STEP = "step"


class OfflineRun:
    """Writes what a step logs to an offline run of W&B, but for files that are no pictures.

    `wandb sync FOLDER/wandb/offline-run-*` sends the run to a server, when somebody wants that.

    Args:
        folder: where the run's files go; made when there is something to write.
        project: name of the project.
        group: the pipeline run, which groups its steps.
        step: name of the step.

    Raises:
        ConfigError: the library is missing.
    """

    def __init__(self, folder: Path, *, project: str, group: str, step: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"tracking.wandb needs the library wandb: {error}.",
                remedy="Install the extra: pip install 'boothline[wandb]'.",
            ) from error
        self._library = wandb
        self._folder = folder
        self._project, self._group, self._name = project, group, f"{group}/{step}"
        self._opened: Run | None = None

    def write(self, values: Values) -> None:
        """Write values; the training step is the x axis of every curve."""
        if values.params:
            self._run.config.update(dict(values.params), allow_val_change=True)
        if values.metrics:
            self._run.log({**values.metrics, STEP: values.step})
        if values.tags:
            self._run.config.update({"tags": dict(values.tags)}, allow_val_change=True)
        if values.file.endswith(PICTURE_SUFFIX):
            from PIL import Image

            with Image.open(io.BytesIO(values.content), formats=("PNG",)) as image:
                self._run.log({shown_as(values.file): self._library.Image(image)})

    def close(self, status: CloseStatus) -> None:
        """Finish the files and end the run."""
        if self._opened is not None:
            self._opened.finish(exit_code=0 if status == "FINISHED" else 1)

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
