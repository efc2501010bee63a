"""TensorBoard event files next to another tracker: curves, pictures, hyperparameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.errors import ConfigError
from boothline.tracking.base import CloseStatus, StepTracker
from boothline.tracking.delivery import text_of

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

PICTURE_SUFFIX = ".png"


class BoardTracker:
    """Passes everything on to a tracker, and writes it for TensorBoard too, but for tags.

    Args:
        tracker: receives everything.
        folder: where the event files of the step go; made when there is something to write.

    Raises:
        ConfigError: the library that writes event files is missing.
    """

    def __init__(self, tracker: StepTracker, *, folder: Path) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ConfigError(
                f"tracking.tensorboard needs the library tensorboardX: {error}.",
                remedy="Install the extra: pip install 'boothline[tensorboard]'.",
            ) from error
        self._library = tensorboardX
        self._tracker = tracker
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._num_pictures: dict[str, int] = {}

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters: they stand in TensorBoard's HPARAMS tab."""
        self._tracker.params(values)
        from tensorboardX.summary import hparams

        shown = {
            name: value if isinstance(value, bool | int | float | str) else text_of(value)
            for name, value in values.items()
        }
        experiment, start, _ = hparams(shown, {})
        for summary in (experiment, start):
            self._board.file_writer.add_summary(summary)

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a training step."""
        self._tracker.metrics(values, step=step)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Log a small file; the PNG pictures of a folder become a sequence."""
        self._tracker.artifact(path, folder=folder)
        if path.suffix != PICTURE_SUFFIX:
            return
        import numpy as np
        from PIL import Image

        name = folder or path.stem
        number = self._num_pictures.get(name, 0)
        self._num_pictures[name] = number + 1
        with Image.open(path, formats=("PNG",)) as image:
            pixels_HWC = np.asarray(image.convert("RGB"))
        self._board.add_image(name, pixels_HWC, number, dataformats="HWC")

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._tracker.tags(values)

    def close(self, status: CloseStatus) -> None:
        """Flush the event files and end the run."""
        if self._writer is not None:
            self._writer.close()
        self._tracker.close(status)

    @property
    def _board(self) -> "SummaryWriter":
        if self._writer is None:
            self._writer = self._library.SummaryWriter(logdir=str(self._folder))
        return self._writer
