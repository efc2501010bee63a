"""Decodes one picture file into plain RGB; runs inside the decode worker's process.

Nothing but Pillow is imported here, so that the worker starts fast and stays small.
"""

import errno
import hashlib
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import AvifImagePlugin, Image, ImageOps, UnidentifiedImageError

from boothline.data import boxes, jpeg, strangers
from boothline.data.colours import Conversion
from boothline.data.opening import DECODE_THREADS, Opened, open_picture
from boothline.errors import DataError

LAID_OVER_WHITE: Final = "is transparent in places; it is laid over white"
TRY_AGAIN: Final = "Open it in an image editor and save it again, or leave it out."
MAX_JPEG_PIXELS: Final = 250_000_000
"""Largest JPEG: it is decoded at a half, a quarter or an eighth of its size."""

_WHOLE_PIXELS: Final = 50_000_000
"""Larger pictures are reduced on the way."""
_MANAGED_PIXELS: Final = 16_000_000
"""So are larger ones whose colours have to be converted, which costs most of the time."""
_SLOW_PIXELS: Final = 32_000_000
"""So are larger ones that are not JPEG, whose decoders leave little time."""
_QUICK_PIXELS: Final = 4_000_000
"""These are reduced until they have no more than that: all that follows costs time by the pixel."""
# Above this a transparent one leaves no room to convert its colours.
_TRANSPARENT_PIXELS: Final = 26_000_000
_STRIP_ROWS: Final = 64
_MAX_SCALE: Final = 8
_COEFFICIENT_BYTES: Final = 2
_MAX_COEFFICIENT_BYTES: Final = 380 * 2**20
_ROWS_AT_ONCE: Final = 256
_SAVE_AS: Final = "Save it as JPEG, PNG or WebP."
_TAKE_A_STILL: Final = "Take a still from it and save that, or leave it out."
_ADVICE: Final = (
    ("a video", _TAKE_A_STILL),
    ("Git LFS", "Fetch the pictures with `git lfs pull`."),
    ("archive", "Unpack it, and put the pictures themselves here."),
    ("transfer as text", "Copy it again, as a binary file."),
    ("zeros", "Copy it again."),
)
"""What to do with a stranger, by a word of its kind."""
_DECODE_FAILURES: Final = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, ArithmeticError,
    AttributeError, NotImplementedError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
_MACHINE_FAULTS: Final = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE}
    | {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EROFS}
    | {errno.ETIMEDOUT}
)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One picture after decoding.

    Attributes:
        image: sRGB, 8 bits, upright, fully loaded; reduced where it was very large.
        size: (width, height) of the file's picture, upright.
        format: name of the file's format, e.g. `JPEG`.
        notes: what had to be decided on the way, for the report.
        remarks: what was done that changes nothing to worry about.
        alpha: 8-bit grey of the image's size, white where it is opaque; None: all of it is.
    """

    image: Image.Image
    size: tuple[int, int]
    format: str
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    alpha: Image.Image | None = None

    def pixel_digest(self) -> str:
        """Return the sha256 (hex) of size and pixels: equal for equal pictures in any format."""
        digest = hashlib.sha256(f"{self.image.width}x{self.image.height}".encode())
        width, height = self.image.size
        for top in range(0, height, _ROWS_AT_ONCE):
            bottom = min(top + _ROWS_AT_ONCE, height)
            digest.update(self.image.crop((0, top, width, bottom)).tobytes())
        return digest.hexdigest()


def prepare() -> None:
    """Load the decoders, so that no picture pays for it."""
    Image.preinit()
    AvifImagePlugin.DEFAULT_MAX_THREADS = DECODE_THREADS


def decode(path: Path, *, max_pixels: int, enough_px: int = 0) -> Decoded:
    """Decode the first frame of a picture file.

    Args:
        path: the file; its name plays no part.
        max_pixels: most pixels that are decoded; a larger JPEG is decoded at a part of its size.
        enough_px: shorter side that is enough for what the picture is wanted for; 0: unknown.

    Raises:
        DataError: the file is not a usable picture; the message reads on from the file's name.
        OSError: the file cannot be read, which says nothing about the picture.
    """
    head = _head(path)
    cap = max(max_pixels, MAX_JPEG_PIXELS) if head.startswith(jpeg.MAGIC) else max_pixels
    with warnings.catch_warnings(), _pixel_cap(cap):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = open_picture(path, head)
            with opened.image as image:
                if image.width * image.height > cap:
                    raise _too_large(cap)
                return _load(image, opened, enough_px=enough_px)
        except UnidentifiedImageError as error:
            raise _unidentified(head) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(cap) from error
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


def _load(image: Image.Image, opened: Opened, *, enough_px: int) -> Decoded:
    """Load the first frame, turn it upright and make it sRGB."""
    notes: list[str] = []
    size, format_name = image.size, image.format or "unknown"
    if getattr(image, "is_animated", False):
        notes.append("has several frames; the first one is used")
    conversion = Conversion(opened.claim, mode=_opaque_mode(image))
    is_slow = opened.segments is None and size[0] * size[1] > _SLOW_PIXELS
    scale = _scale(
        size,
        takes_long=conversion.changes or is_slow,
        enough_px=enough_px,
        most_pixels=_QUICK_PIXELS if is_slow else _MANAGED_PIXELS,
    )
    if opened.segments is not None:
        _check_coefficients(size, opened.segments)
    if opened.can_draft and scale > 1 and _can_be_reduced(image):
        image.draft(image.mode, (size[0] // scale, size[1] // scale))
    try:
        image.load()
    except (OSError, SyntaxError, EOFError) as error:
        _pass_machine_fault(error)
        raise DataError(
            f"is truncated or damaged: {_short(error)}", remedy="Copy the picture again."
        ) from error
    if not opened.can_draft and scale > 1 and _can_be_reduced(image):
        image = _reduced(image, scale)
        opened.image.close()
    remarks = [] if image.size == size else [_reduction(size, image.size)]
    before = image.size
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except _DECODE_FAILURES:
        notes.append("has damaged EXIF data; its orientation is taken as it is")
    if image.size != before:
        size = (size[1], size[0])
    rgb, more, alpha = _to_rgb(image, conversion)
    notes += [*more, conversion.warning]
    remarks.append(conversion.remark)
    return Decoded(
        image=rgb,
        size=size,
        format=format_name,
        notes=tuple(filter(None, notes)),
        remarks=tuple(filter(None, remarks)),
        alpha=alpha,
    )


def _scale(
    size: tuple[int, int],
    *,
    takes_long: bool,
    enough_px: int,
    most_pixels: int = _MANAGED_PIXELS,
) -> int:
    """Return the part of its size that a picture is decoded at: 1, 2, 4 or 8.

    Up to 50 million pixels it is the whole, unless its colours or its decoder take long; then it is
    reduced to `most_pixels` as far as what is wanted is still covered.
    """
    scale, pixels = 1, size[0] * size[1]
    while pixels > _WHOLE_PIXELS * scale**2 and scale < _MAX_SCALE:
        scale *= 2
    if not (takes_long or scale > 1) or not enough_px:
        return scale
    while (
        scale < _MAX_SCALE
        and pixels > most_pixels * scale**2
        and min(size) // (2 * scale) >= enough_px
    ):
        scale *= 2
    return scale


def _check_coefficients(size: tuple[int, int], facts: jpeg.JpegFacts) -> None:
    """Refuse a progressive JPEG whose coefficients alone would fill the worker's memory.

    Raises:
        DataError: it is such a picture.
    """
    num_bytes = size[0] * size[1] * facts.num_components * _COEFFICIENT_BYTES
    # Colours are most often stored at half the width and height.
    least = num_bytes if facts.num_components in (1, 4) else num_bytes // 2
    if facts.is_progressive and least > _MAX_COEFFICIENT_BYTES:
        raise DataError(
            f"is a progressive JPEG of {size[0] * size[1] / 1e6:.0f} million pixels, which needs"
            " too much memory to decode",
            remedy="Save it as a baseline JPEG, or smaller.",
        )


def _can_be_reduced(image: Image.Image) -> bool:
    """Return whether a decoded picture can be reduced; small transparent ones fit as they are."""
    if image.has_transparency_data and image.width * image.height <= _TRANSPARENT_PIXELS:
        return False
    return image.mode[0] not in "IF"


def _reduced(image: Image.Image, scale: int) -> Image.Image:
    """Return a picture at a part of its size; its orientation is in what its file says."""
    if image.has_transparency_data:
        return _reduced_in_strips(image, scale)
    mode = {"P": "RGB", "1": "L"}.get(image.mode, image.mode)
    reduced = (image if mode == image.mode else image.convert(mode)).reduce(scale)
    reduced.info = image.info
    return reduced


def _reduced_in_strips(image: Image.Image, scale: int) -> Image.Image:
    """Return a transparent picture at a part of its size; a second whole one would not fit."""
    width, height = (math.ceil(side / scale) for side in image.size)
    reduced = Image.new("RGBA", (width, height))
    for top in range(0, height, _STRIP_ROWS):
        bottom = min((top + _STRIP_ROWS) * scale, image.height)
        strip = image.crop((0, top * scale, image.width, bottom))
        strip.info = image.info  # where a palette says which colour is transparent
        # Colours count as much as they are seen.
        strip = strip.convert("RGBA").convert("RGBa").reduce(scale).convert("RGBA")
        reduced.paste(strip, (0, top))
    reduced.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return reduced


def _reduction(size: tuple[int, int], reduced: tuple[int, int]) -> str:
    return (
        f"has {size[0] * size[1] / 1e6:.0f} million pixels; it is read at"
        f" 1/{math.ceil(size[0] / reduced[0])} of its width and height"
    )


def _opaque_mode(image: Image.Image) -> str:
    """Return the mode of a picture's pixels without transparency: grey, RGB, CMYK or another."""
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I"):
        return "L"
    return image.mode if image.mode in ("CMYK", "LAB", "F") else "RGB"


def _to_rgb(
    image: Image.Image, conversion: Conversion
) -> tuple[Image.Image, tuple[str, ...], Image.Image | None]:
    """Return the picture as sRGB with 8 bits, transparency laid over white, notes, and alpha."""
    if image.mode == "F":
        raise DataError("has floating-point pixels", remedy="Save it with 8 bits a channel.")
    if image.mode.startswith("I"):
        grey = _from_16_bit(image)
        return conversion.apply(grey), ("has 16 bits a channel; it is reduced to 8",), None
    if not image.has_transparency_data:
        return conversion.apply(image), (), None
    layered = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = layered.getchannel("A")
    canvas = Image.new("RGB", layered.size, "white")
    colours = conversion.apply(layered.convert("RGB")) if conversion.changes else layered
    canvas.paste(colours, mask=alpha)
    opaque = alpha.getextrema() == (255, 255)
    return (canvas, (), None) if opaque else (canvas, (LAID_OVER_WHITE,), alpha)


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Return a greyscale picture of 16 bits as one of 8: Pillow's own conversion clips at 255."""
    wide = image.convert("I")
    low, high = wide.getextrema()
    if (
        not (isinstance(low, int | float) and isinstance(high, int | float))
        or low < 0
        or high > 65535
    ):
        raise DataError("has more than 16 bits a channel", remedy="Save it with 8 bits a channel.")
    return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _too_large(max_pixels: int) -> DataError:
    return DataError(
        f"has more than {max_pixels / 1e6:g} million pixels", remedy="Save the picture smaller."
    )


def _unidentified(head: bytes) -> DataError:
    """Return the reason for a file that no allowed decoder knows, naming what it looks like."""
    if kind := boxes.kind_of(head):
        reason = f"is a damaged {kind} picture, or of a variant that is not read"
        return DataError(reason, remedy=TRY_AGAIN)
    if kind := strangers.kind_of(head):
        if kind == "a text":
            return DataError("is a text, not a picture", remedy="It is skipped; remove it.")
        remedy = next((advice for word, advice in _ADVICE if word in kind), _SAVE_AS)
        return DataError(f"is {kind}, which is not read", remedy=remedy)
    return DataError("is not a picture of a known format, or is damaged", remedy=_SAVE_AS)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable[:120]
