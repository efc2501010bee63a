"""Decodes large PNG pictures in two threads: one inflates ahead of the other, which unfilters.

Pillow does both in turn. Here it gets the same bytes in blocks that are not compressed, so that it
judges rows and their end as it always does.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image, PngImagePlugin

if TYPE_CHECKING:
    from zlib import _Decompress

_LARGE_PIXELS: Final = 16_000_000
"""Smaller ones are decoded fast enough by one thread."""
_READ_BYTES: Final = 64 * 2**10
_INFLATED_BYTES: Final = 512 * 2**10
_FAILURES: Final = (zlib.error, struct.error, SyntaxError, OSError, ValueError, EOFError)
_INVALID_BLOCK: Final = b"\x07"
"""First bits of a block of a kind that does not exist."""


class LargePng(PngImagePlugin.PngImageFile):
    """A PNG picture of one frame whose rows are inflated ahead."""

    def load_prepare(self) -> None:
        """Make ready to read the rows."""
        super().load_prepare()
        self._pieces = self._stored()
        self._beside = ThreadPoolExecutor(1)
        self._ahead: Future[bytes] | None = None

    def load_read(self, read_bytes: int) -> bytes:
        """Return the next bytes in blocks that are not compressed; none at the end."""
        piece = (self._ahead or self._inflate_ahead()).result()
        self._ahead = self._inflate_ahead()
        return piece

    def load_end(self) -> None:
        """Read what follows the rows."""
        self._beside.shutdown()
        super().load_end()

    def _inflate_ahead(self) -> "Future[bytes]":
        return self._beside.submit(next, self._pieces, b"")

    def _stored(self) -> Iterator[bytes]:
        """Yield what `_inflated` does as one stream of blocks that are not compressed."""
        inflater, storer = zlib.decompressobj(), zlib.compressobj(0)
        try:
            for piece in self._inflated(inflater):
                end = zlib.Z_FINISH if inflater.eof else zlib.Z_SYNC_FLUSH
                yield storer.compress(piece) + storer.flush(end)
        except zlib.error:
            yield storer.flush(zlib.Z_SYNC_FLUSH) + _INVALID_BLOCK

    def _inflated(self, inflater: "_Decompress") -> Iterator[bytearray]:
        """Yield the inflated bytes in large pieces; those before an error come before it."""
        piece = bytearray()
        try:
            while not inflater.eof and (data := super().load_read(_READ_BYTES)):
                for more in _steps(inflater, data):
                    piece += more
                    if len(piece) >= _INFLATED_BYTES:
                        yield piece
                        piece = bytearray()
        except _FAILURES:
            if piece:
                yield piece
            raise
        if piece:
            yield piece


def open_png(source: Path | io.BytesIO) -> Image.Image:
    """Open a PNG picture; a small one or one of several frames is decoded by Pillow alone."""
    image = Image.open(source, formats=("PNG",))
    is_large = image.width * image.height > _LARGE_PIXELS
    if not is_large or getattr(image, "is_animated", False):
        return image
    if isinstance(source, io.BytesIO):
        source.seek(0)
    else:
        image.close()
    return LargePng(source)


def _steps(inflater: "_Decompress", data: bytes) -> Iterator[bytes]:
    """Yield what compressed bytes become, in steps; the smaller, the nearer an error is.

    Raises:
        zlib.error: the bytes are damaged; every byte before has been yielded.
    """
    step_bytes = _INFLATED_BYTES
    while True:
        before = inflater.copy()
        try:
            more = inflater.decompress(data, step_bytes)
        except zlib.error:
            if step_bytes == 1:
                raise
            inflater, step_bytes = before, step_bytes // 2
            continue
        yield more
        data = inflater.unconsumed_tail
        if inflater.eof or len(more) < step_bytes:
            return
