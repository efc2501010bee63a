"""What is written besides MLflow: TensorBoard event files, offline runs of Weights & Biases."""

import io
from collections import Counter
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from boothline.errors import ConfigError
from boothline.tracking.base import CloseStatus, Values, text_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from tensorboardX import SummaryWriter
    from wandb import Run

STEP = "step"
PICTURE_SUFFIX = ".png"


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
        self._library = _library("wandb", setting="wandb", extra="boothline[wandb]")
        self._folder = folder
        self._names = {"project": project, "group": group, "name": f"{group}/{step}"}

    def write(self, values: Values) -> None:
        """Write values; the training step is the x axis of every curve."""
        if values.params:
            self._run.config.update(dict(values.params), allow_val_change=True)
        if values.metrics:
            self._run.log({**values.metrics, STEP: values.step})
        if values.tags:
            self._run.config.update({"tags": dict(values.tags)}, allow_val_change=True)
        if values.file.endswith(PICTURE_SUFFIX):
            self._run.log({shown_as(values.file): self._library.Image(_picture(values))})

    def close(self, status: CloseStatus) -> None:
        """Finish the files and end the run."""
        if "_run" in vars(self):
            self._run.finish(exit_code=0 if status == "FINISHED" else 1)

    @cached_property
    def _run(self) -> "Run":
        """The run, begun with the first value."""
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._library.Settings(
            silent=True, console="off", x_disable_stats=True, x_disable_meta=True
        )
        run: Run = self._library.init(
            mode="offline", dir=str(self._folder), settings=settings, **self._names
        )
        run.define_metric("*", step_metric=STEP)
        return run


class Board:
    """Writes what a step logs for TensorBoard, but for tags and files that are not pictures.

    Args:
        folder: where the event files of the step go; made when there is something to write.

    Raises:
        ConfigError: the library that writes event files is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._library = _library(
            "tensorboardX", setting="tensorboard", extra="boothline[tensorboard]"
        )
        self._folder = folder
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
            import numpy as np

            name = shown_as(values.file)
            pixels_HWC = np.asarray(_picture(values).convert("RGB"))
            self._writer.add_image(name, pixels_HWC, self._num_pictures[name], dataformats="HWC")
            self._num_pictures[name] += 1

    def close(self, status: CloseStatus) -> None:
        """Flush the event files."""
        if "_writer" in vars(self):
            self._writer.close()

    @cached_property
    def _writer(self) -> "SummaryWriter":
        """The event files, begun with the first value."""
        return self._library.SummaryWriter(logdir=str(self._folder))


def shown_as(file: str) -> str:
    """Return the name under which a picture is shown: its folder, or its own without a suffix."""
    folder, _, name = file.rpartition("/")
    return folder or name.removesuffix(PICTURE_SUFFIX)


def _picture(values: Values) -> "Image":
    from PIL import Image

    return Image.open(io.BytesIO(values.content), formats=("PNG",))


def _library(name: str, *, setting: str, extra: str) -> ModuleType:
    """Return the library that a setting of `tracking` needs, and that an extra installs.

    Raises:
        ConfigError: it is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"tracking.{setting} needs the library {name}: {error}.",
            remedy=f"Install the extra: pip install '{extra}'.",
        ) from error
