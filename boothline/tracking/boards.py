"""TensorBoard event files: curves, pictures, hyperparameters."""

import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.errors import ConfigError
from boothline.tracking.base import CloseStatus, Values, text_of

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

PICTURE_SUFFIX = ".png"


class Board:
    """Writes what a step logs for TensorBoard, but for tags and files that are no pictures.

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
