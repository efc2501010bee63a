"""Masks: which parts of a picture are learnt, by its transparency or by a file next to it.

White is learnt, black is not, and grey counts as much as it is white; so does an alpha channel.
`NAME-mask.png` is the mask of the picture `NAME` in the same folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from PIL import Image, ImageChops

from boothline.buckets import sizes_of
from boothline.config.subject import MaskMode, SubjectConfig
from boothline.data.decoder import (
    THUMBNAIL_PX,
    Answer,
    Picture,
    ProgressFunction,
    Unreadable,
    decode_all,
)
from boothline.data.intake import Refusal, SourceFile
from boothline.data.limits import Limits
from boothline.data.naming import spelt_loosely, stem_of
from boothline.data.png import MAGIC as PNG_MAGIC
from boothline.errors import DataError

SUFFIX: Final = "-mask.png"
_WHITE: Final = 255
_HEAD_BYTES: Final = 2**16
_PNG_COLOURS: Final = 25
"""Where a PNG says what its colours are: 4 and 6 have an alpha channel."""
_UNCLEAR: Final = (b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HIDDEN: Final = (214, 51, 108)
_STRAY: Final = "looks like the mask of a picture that is not there"
_OF_CLASS: Final = "is a mask among pictures of the class, which are learnt whole"
_STRAY_ADVICE: Final = (
    "Put the picture of that name next to it; if it is a picture, rename it or set "
    "subject.masks=off."
)


@dataclass(frozen=True, kw_only=True)
class MaskFiles:
    """The files of a subject, by kind.

    Attributes:
        pictures: what is not a mask.
        masks: masks by the name of their picture.
        strays: masks without a picture.
        class_pictures: pictures of the class, all of which is learnt.
    """

    pictures: tuple[SourceFile, ...]
    class_pictures: tuple[SourceFile, ...] = ()
    masks: Mapping[str, SourceFile] = field(default_factory=dict)
    strays: tuple[Refusal, ...] = ()


def sorted_out(
    files: Sequence[SourceFile], others: Sequence[SourceFile], masks: MaskMode
) -> MaskFiles:
    """Return the pictures and the masks among some files; there are none where they are off.

    Args:
        files: of the subject.
        others: of its class.
        masks: the setting.
    """
    if masks == "off":
        return MaskFiles(pictures=tuple(files), class_pictures=tuple(others))
    named = {spelt_loosely(file.name): file for file in files if is_mask(file.name)}
    pictures = tuple(file for file in files if not is_mask(file.name))
    found = {
        file.name: named[name]
        for file in pictures
        if (name := spelt_loosely(f"{stem_of(file.name)}{SUFFIX}")) in named
    }
    used = {file.name for file in found.values()}
    strays = [
        Refusal(name=file.name, reason=_STRAY, advice=_STRAY_ADVICE)
        for file in named.values()
        if file.name not in used
    ]
    strays += [
        Refusal(name=file.name, reason=_OF_CLASS, advice="Remove it.")
        for file in others
        if is_mask(file.name)
    ]
    return MaskFiles(
        pictures=pictures,
        masks=found,
        strays=tuple(strays),
        class_pictures=tuple(file for file in others if not is_mask(file.name)),
    )


def is_mask(name: str) -> bool:
    """Return whether a file's name is that of a mask."""
    return PurePosixPath(spelt_loosely(name)).name.endswith(SUFFIX)


def may_mask(files: Sequence[SourceFile]) -> bool:
    """Return whether any file is a mask or may be transparent, by names and first bytes alone."""
    return any(is_mask(file.name) or may_be_transparent(file.path) for file in files)


def may_be_transparent(path: Path) -> bool:
    """Return whether a picture file may be transparent; True where its head does not say.

    Everything but JPEG, BMP and what is not a picture may be: PNG and WebP say so, GIF, TIFF, AVIF
    and HEIC say it too far inside.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(PNG_MAGIC):
        has_alpha = len(head) > _PNG_COLOURS and head[_PNG_COLOURS] in (4, 6)
        before, pixels, _ = head.partition(b"IDAT")
        return has_alpha or b"tRNS" in before or not pixels
    if head[8:12] == b"WEBP":
        return head[12:16] != b"VP8 "
    return head.startswith(_UNCLEAR) or head[4:8] == b"ftyp"


def decode(
    found: MaskFiles,
    subject: SubjectConfig,
    *,
    folder: Path,
    limits: Limits,
    on_progress: ProgressFunction | None,
) -> Iterator[tuple[SourceFile, Answer, Answer | None]]:
    """Yield each picture with its mask, both decoded; arguments as for `decode_all`."""
    sizes_px = sizes_of(subject)
    answers = decode_all(
        [file.path for file in found.pictures],
        sizes_px=sizes_px,
        folder=folder / "pictures",
        limits=limits,
        interpolation=subject.interpolation,
        masks=subject.masks == "auto",
        on_progress=on_progress,
    )
    decoded = decode_all(
        [file.path for file in found.masks.values()],
        sizes_px=sizes_px,
        folder=folder / "masks",
        limits=limits,
        interpolation="nearest" if subject.interpolation == "nearest" else "bilinear",
    )
    masks = dict(zip(found.masks, decoded, strict=True))
    for file, answer in zip(found.pictures, answers, strict=True):
        yield file, answer, masks.get(file.name)


def mask_of(picture: Picture, found: Answer | None) -> Image.Image | None:
    """Return what is learnt of a picture at training size: 8-bit grey; None: all of it.

    Args:
        picture: the picture; its transparency masks too.
        found: its mask file, decoded; None: it has none.

    Raises:
        DataError: nothing is left to learn, or the mask is of another size or unreadable; the
            message reads on from the picture's name.
    """
    mask = None if found is None else _of_file(picture, found)
    if (alpha := picture.alpha()) is not None:
        mask = alpha if mask is None else ImageChops.darker(mask, alpha)
    if mask is None:
        return None
    low, high = mask.getextrema()
    if high == 0 and found is None:
        raise DataError(
            "is transparent all over, which leaves nothing to learn",
            remedy="Save it without transparency, or set subject.masks=off.",
        )
    if high == 0:
        raise DataError(
            "has a mask that is black all over, which leaves nothing of it to learn",
            remedy="White is learnt and black is not: swap them, or remove the mask.",
        )
    return None if low == _WHITE else mask


def _of_file(picture: Picture, found: Answer) -> Image.Image:
    """Return a mask file's grey at the picture's training size."""
    if isinstance(found, Unreadable):
        raise DataError(f"has a mask that {found.reason}", remedy=found.advice)
    if (found.width_px, found.height_px) != (picture.width_px, picture.height_px):
        raise DataError(
            f"has a mask of {found.width_px} x {found.height_px} pixels, and itself "
            f"{picture.width_px} x {picture.height_px}",
            remedy="Save the mask at the picture's size, or remove it.",
        )
    return found.cut().convert("L")


def write(
    cut: Image.Image, mask: Image.Image, output: Path, *, number: int
) -> dict[str, str | float]:
    """Write a picture's mask, and the picture as it is learnt; returns what the report says.

    Args:
        cut: the picture at training size.
        mask: what is learnt of it.
        output: the dataset's folder.
        number: of the picture.
    """
    (output / "masks").mkdir(exist_ok=True)
    path, thumbnail = f"masks/{number:03d}.png", f"thumbnails/{number:03d}-mask.png"
    mask.save(output / path)
    small = shown(cut, mask)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    small.save(output / thumbnail)
    share = round(learnt_share(mask), 4)
    return {"mask": path, "masked_thumbnail": thumbnail, "learnt_share": share}


def learnt_share(mask: Image.Image) -> float:
    """Return how much of a picture is learnt, in (0, 1]."""
    counts = mask.histogram()
    total = sum(value * count for value, count in enumerate(counts))
    return total / (_WHITE * mask.width * mask.height)


def shown(cut: Image.Image, mask: Image.Image) -> Image.Image:
    """Return a picture at training size with what is not learnt in one colour."""
    colour = Image.new("RGB", cut.size, _HIDDEN)
    return Image.composite(cut, Image.blend(cut, colour, 0.75), mask)
