"""Decodes one picture file into plain RGB; runs inside the decode worker's process.

Nothing but Pillow is imported here, so that the worker starts fast and stays small.
"""

import errno
import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from boothline.errors import DataError

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""The only decoders that Pillow may use; never EPS (runs Ghostscript), never by file name."""

MAX_SCANS: Final = 50
"""A progressive JPEG has some ten scans; each one costs a pass over all pixels."""

_ROWS_AT_ONCE: Final = 256
_JPEG: Final = b"\xff\xd8\xff"
_SCAN: Final = b"\xff\xda"
_SAVE_AS: Final = "Save it as JPEG, PNG or WebP."
TRY_AGAIN: Final = "Open it in an image editor and save it again, or leave it out."
_DECODE_FAILURES: Final = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, ArithmeticError,
    AttributeError, NotImplementedError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
_MACHINE_FAULTS: Final = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE}
    | {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EROFS}
    | {errno.ETIMEDOUT}
)
_UNSUPPORTED: Final = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop document"),
)
_BRANDS: Final = {
    b"heic": "a HEIC picture", b"heix": "a HEIC picture", b"mif1": "a HEIC picture",
    b"hevc": "a HEIC picture", b"avif": "an AVIF picture", b"avis": "an AVIF picture",
    b"crx ": "a raw camera picture",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One picture after decoding.

    Attributes:
        image: RGB, 8 bits, upright, fully loaded.
        format: name of the file's format, e.g. `JPEG`.
        notes: what had to be decided on the way, for the report.
    """

    image: Image.Image
    format: str
    notes: tuple[str, ...] = ()

    def pixel_digest(self) -> str:
        """Return the sha256 (hex) of size and pixels: equal for equal pictures in any format."""
        digest = hashlib.sha256(f"{self.image.width}x{self.image.height}".encode())
        width, height = self.image.size
        for top in range(0, height, _ROWS_AT_ONCE):
            bottom = min(top + _ROWS_AT_ONCE, height)
            digest.update(self.image.crop((0, top, width, bottom)).tobytes())
        return digest.hexdigest()


def decode(path: Path, *, max_pixels: int) -> Decoded:
    """Decode the first frame of a picture file.

    Args:
        path: the file; its name plays no part.
        max_pixels: most pixels that are decoded.

    Raises:
        DataError: the file is no usable picture; the message reads on from the file's name.
        OSError: the file cannot be read, which says nothing about the picture.
    """
    head = _head(path)
    if head.startswith(_JPEG):
        _check_scans(path)
    with warnings.catch_warnings(), _pixel_cap(max_pixels):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as image:
                return _load(image, max_pixels=max_pixels)
        except UnidentifiedImageError as error:
            raise _unidentified(head) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(max_pixels) from error
        except MemoryError as error:
            raise DataError("needs too much memory to decode", remedy=TRY_AGAIN) from error
        except _DECODE_FAILURES as error:
            _pass_machine_fault(error)
            raise DataError(f"cannot be decoded: {_short(error)}", remedy=TRY_AGAIN) from error


def _pass_machine_fault(error: BaseException) -> None:
    """Raise an error of the system again: it says nothing about the picture."""
    if isinstance(error, OSError) and error.errno in _MACHINE_FAULTS:
        raise error


@contextmanager
def _pixel_cap(max_pixels: int) -> Iterator[None]:
    """Set Pillow's process-wide cap for the time of one picture."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise DataError("is empty (0 bytes)", remedy="Copy the picture again.")
    return head


def _check_scans(path: Path) -> None:
    """Refuse a JPEG of very many scans, which takes minutes to decode at any size.

    Inside a scan, the byte 0xff is never followed by 0xda: whatever looks like the start of a scan
    is one, save for a thumbnail's inside the metadata.

    Raises:
        DataError: it has more scans than any program writes.
    """
    num_scans = path.read_bytes().count(_SCAN)
    if num_scans > MAX_SCANS:
        raise DataError(f"has {num_scans} scans, a trap for decoders", remedy=TRY_AGAIN)


def _load(image: Image.Image, *, max_pixels: int) -> Decoded:
    """Load the first frame, turn it upright and make it RGB."""
    if image.width * image.height > max_pixels:
        raise _too_large(max_pixels)
    notes: list[str] = []
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notes.append("has several frames; the first one is used")
    try:
        image.load()
    except (OSError, SyntaxError, EOFError) as error:
        _pass_machine_fault(error)
        raise DataError(
            f"is truncated or damaged: {_short(error)}", remedy="Copy the picture again."
        ) from error
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except _DECODE_FAILURES:
        notes.append("has damaged EXIF data; its orientation is taken as it is")
    rgb, more = _to_rgb(image)
    return Decoded(image=rgb, format=image.format or "unknown", notes=(*notes, *more))


def _to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Return the picture as RGB with 8 bits, transparency laid over white, and notes."""
    if image.mode == "F":
        raise DataError("has floating-point pixels", remedy="Save it with 8 bits a channel.")
    if image.mode.startswith("I"):
        return _from_16_bit(image), ("has 16 bits a channel; it is reduced to 8",)
    if not image.has_transparency_data:
        return image.convert("RGB"), ()
    layered = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = layered.getchannel("A")
    canvas = Image.new("RGB", layered.size, "white")
    canvas.paste(layered, mask=alpha)
    opaque = alpha.getextrema() == (255, 255)
    return canvas, () if opaque else ("is transparent in places; it is laid over white",)


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Return a greyscale picture of 16 bits as RGB: Pillow's own conversion would clip at 255."""
    wide = image.convert("I")
    low, high = wide.getextrema()
    if (
        not (isinstance(low, int | float) and isinstance(high, int | float))
        or low < 0
        or high > 65535
    ):
        raise DataError("has more than 16 bits a channel", remedy="Save it with 8 bits a channel.")
    return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L").convert("RGB")


def _too_large(max_pixels: int) -> DataError:
    return DataError(
        f"has more than {max_pixels / 1e6:g} million pixels", remedy="Save the picture smaller."
    )


def _unidentified(head: bytes) -> DataError:
    """Return the reason for a file that no allowed decoder knows, naming what it looks like."""
    kind = next((kind for magic, kind in _UNSUPPORTED if head.startswith(magic)), "")
    if head[4:8] == b"ftyp":
        kind = _BRANDS.get(head[8:12], "a video or another media container")
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in lowered:
        kind = "an SVG drawing"
    elif lowered.startswith((b"<!doctype html", b"<html")):
        kind = "a web page"
    elif not kind and _is_text(head):
        kind = "a text"
    if kind:
        return DataError(f"is {kind}, which is not read", remedy=_SAVE_AS)
    return DataError("is not a picture of a known format, or is damaged", remedy=_SAVE_AS)


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\r\n" or byte >= 32 for byte in head) and b"\x7f" not in head


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable[:120]
