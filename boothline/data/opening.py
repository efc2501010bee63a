"""Opens a picture file by the decoder that its first bytes ask for; finds what it says of colours.

Only the decoders named here may be used: never EPS (which runs Ghostscript), never one by the
file's name.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, JpegImagePlugin

from boothline.data import boxes, heic, inflating, jpeg, png, strangers, webp
from boothline.data.colours import ADOBE_RGB, Claim, claim_of, claim_of_codes
from boothline.data.deferred import DeferredImage
from boothline.errors import DataError

DECODE_THREADS: Final = 2
"""Threads of the decoders that have them; each takes address space, of which the worker has little.
"""
_OTHERS: Final = ("WEBP", "BMP", "TIFF", "GIF")
_DAMAGED: Final = Claim(broken="has a damaged colour profile")
_EXIF_FOLDER, _INTEROP_FOLDER = 0x8769, 0xA005
_COLOUR_SPACE, _INTEROP_INDEX = 0xA001, 1
_ADOBE_NUMBER, _ADOBE_INDEX = 2, "R03"
_EXIF_FAILURES: Final = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, ArithmeticError,
    AttributeError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An open picture file whose pixels are not loaded yet.

    Attributes:
        image: Pillow's picture.
        claim: what the file says about its colours.
        segments: what those of a JPEG say; None for another format.
    """

    image: Image.Image
    claim: Claim
    segments: jpeg.JpegFacts | None = None

    @property
    def can_draft(self) -> bool:
        """Whether its decoder itself can give it at a part of its size."""
        return self.segments is not None or isinstance(self.image, DeferredImage)


def open_picture(path: Path, head: bytes) -> Opened:
    """Open a picture file.

    Args:
        path: the file.
        head: its first 512 bytes.

    Raises:
        DataError: it is a trap, a raw camera file, or needs a decoder that is not installed.
        UnidentifiedImageError: no decoder knows it.
    """
    if head.startswith(jpeg.MAGIC):
        return _open_jpeg(path)
    if head.startswith(png.MAGIC):
        return _open_png(path)
    if kind := boxes.kind_of(head):
        image = _open_heic(path) if kind == "HEIC" else Image.open(path, formats=("AVIF",))
        claim = _claim_in(image)
        if claim.profile is None and (codes := boxes.colour_codes(path)):
            claim = claim_of_codes(*codes)
        return Opened(image=image, claim=claim)
    if kind := strangers.raw_kind(path, head):
        raise DataError(
            f"is {kind}, which is not read",
            remedy="Develop it in a photo program and export it as JPEG or PNG.",
        )
    image = webp.open_large(path, head) or Image.open(path, formats=_OTHERS)
    if head.startswith(b"BM"):
        return Opened(image=image, claim=_claim_of_bitmap(path, head))
    return Opened(image=image, claim=_claim_in(image))


def _open_jpeg(path: Path) -> Opened:
    """Open a JPEG; further pictures in the file (MPO) play no part."""
    facts = jpeg.read_facts(path)
    if facts.num_scans > jpeg.MAX_SCANS:
        raise DataError(
            f"has more than {jpeg.MAX_SCANS} scans, a trap for decoders",
            remedy="Open it in an image editor and save it again, or leave it out.",
        )
    image = JpegImagePlugin.JpegImageFile(path)
    lost = facts.has_profile and not image.info.get("icc_profile")
    return Opened(image=image, claim=_DAMAGED if lost else _claim_in(image), segments=facts)


def _open_png(path: Path) -> Opened:
    facts = png.read_facts(path)
    image = inflating.open_png(facts.pixels or path)
    if facts.claim is not None:
        return Opened(image=image, claim=facts.claim)
    lost = facts.profile_left_out or ("icc_profile" in image.info and not image.info["icc_profile"])
    return Opened(image=image, claim=_DAMAGED if lost else _claim_in(image))


def _open_heic(path: Path) -> Image.Image:
    """Open a HEIC picture.

    Raises:
        DataError: its decoder is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise DataError(
            "is a HEIC picture, which needs the extra heif",
            remedy="Install it with pip install 'boothline[heif]', or save the picture as JPEG.",
        ) from error
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=DECODE_THREADS
    )
    image = Image.open(path, formats=("HEIF",))
    return heic.threaded(path, image, num_threads=DECODE_THREADS) or image


def _claim_in(image: Image.Image) -> Claim:
    """Return what the decoder found: an ICC profile, or the word for Adobe RGB in EXIF data."""
    if profile := image.info.get("icc_profile"):
        return Claim(profile=profile)
    if image.format == "PNG":  # whose EXIF data may lie behind the pixels, and would load them
        return Claim()
    try:
        exif = image.getexif()
        index = exif.get_ifd(_INTEROP_FOLDER).get(_INTEROP_INDEX, "")
        number = exif.get_ifd(_EXIF_FOLDER).get(_COLOUR_SPACE, 0)
    except _EXIF_FAILURES:
        return Claim()  # damaged EXIF data is reported where the picture is turned upright
    is_adobe = number == _ADOBE_NUMBER or str(index).startswith(_ADOBE_INDEX)
    return claim_of(ADOBE_RGB) if is_adobe else Claim()


def _claim_of_bitmap(path: Path, head: bytes) -> Claim:
    """Return the claim of a BMP file, which may embed a profile since version 5 of its header."""
    header_bytes = int.from_bytes(head[14:18], "little")
    if header_bytes < 124 or head[70:74] != b"DEBM":
        return Claim()
    start = 14 + int.from_bytes(head[126:130], "little")
    size_bytes = int.from_bytes(head[130:134], "little")
    with path.open("rb") as stream:
        stream.seek(start)
        profile = stream.read(min(size_bytes, 4 * 2**20))
    return Claim(profile=profile) if profile else _DAMAGED
