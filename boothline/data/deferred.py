"""A picture whose pixels are decoded when they are asked for, by another way than Pillow's own."""

from abc import abstractmethod
from typing import Any

from PIL import Image


class DeferredImage(Image.Image):
    """A picture of which size, mode and metadata are known.

    Args:
        size: (width, height).
        mode: Pillow's name for the kind of its pixels.
        info: metadata under Pillow's names.
    """

    def __init__(
        self, size: tuple[int, int], mode: str, info: dict[str | tuple[int, int], object]
    ) -> None:
        super().__init__()
        self._size = size
        self._mode = mode
        self.info = info

    @abstractmethod
    def decoded(self) -> Image.Image:
        """Decode the pixels.

        Raises:
            OSError: they are damaged or cut short.
            MemoryError: they do not fit.
        """

    def load(self) -> Any:  # noqa: ANN401 (Pillow's own type for it is not public)
        """Decode the pixels, once; raises what `decoded` does."""
        if self._im is None:
            self.im = self.decoded().im
        return super().load()
