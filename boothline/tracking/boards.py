"""What is written besides MLflow: TensorBoard event files, offline runs of Weights & Biases."""

import io
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.errors import ConfigError
from boothline.tracking.base import CloseStatus, Values, text_of

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter
    from wandb import Run

logger = logging.getLogger(__name__)


STEP = "step"


class OfflineRun:
    """Writes what a step logs to an offline run of W&B, but for files that are not pictures.

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


PICTURE_SUFFIX = ".png"


class Board:
    """Writes what a step logs for TensorBoard, but for tags and files that are not pictures.

    Args:
        folder: where the event files of the step go; made when there is something to write.

    Raises:
        ConfigError: the library that writes event files is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ConfigError(
                f"tracking.tensorboard needs the library tensorboardX: {error}.",
                remedy="Install the extra: pip install 'boothline[tensorboard]'.",
            ) from error
        self._library = tensorboardX
        self._folder = folder
        self._opened: SummaryWriter | None = None
        self._num_pictures: Counter[str] = Counter()

    def write(self, values: Values) -> None:
        """Write values; parameters stand in the HPARAMS tab, a folder's pictures in a row."""
        if values.params:
            from tensorboardX.summary import hparams

            shown = {
                name: value if isinstance(value, bool | int | float | str) else text_of(value)
                for name, value in values.params.items()
            }
            for summary in hparams(shown, {})[:2]:
                self._writer.file_writer.add_summary(summary)
        for name, number in values.metrics.items():
            self._writer.add_scalar(name, number, values.step)
        if values.file.endswith(PICTURE_SUFFIX):
            self._picture(values)

    def close(self, status: CloseStatus) -> None:
        """Flush the event files."""
        if self._opened is not None:
            self._opened.close()

    def _picture(self, values: Values) -> None:
        import numpy as np
        from PIL import Image

        name = shown_as(values.file)
        with Image.open(io.BytesIO(values.content), formats=("PNG",)) as image:
            pixels_HWC = np.asarray(image.convert("RGB"))
        self._writer.add_image(name, pixels_HWC, self._num_pictures[name], dataformats="HWC")
        self._num_pictures[name] += 1

    @property
    def _writer(self) -> "SummaryWriter":
        if self._opened is None:
            self._opened = self._library.SummaryWriter(logdir=str(self._folder))
        return self._opened


def shown_as(file: str) -> str:
    """Return the name under which a picture is shown: its folder, or its own without a suffix."""
    folder, _, name = file.rpartition("/")
    return folder or name.removesuffix(PICTURE_SUFFIX)
