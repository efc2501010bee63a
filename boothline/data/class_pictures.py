"""Class pictures of one's own: those in `reg/` of kohya's layout, checked like any other data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boothline.config.sampling import PriorConfig
from boothline.config.subject import SubjectConfig
from boothline.data import kohya
from boothline.data.captions import CaptionBook
from boothline.data.decoder import Picture, Unreadable, decode_all
from boothline.data.intake import SourceFile
from boothline.data.limits import Limits
from boothline.data.naming import shown_name
from boothline.data.report import QuarantinedImage
from boothline.errors import DataError

CLASS_FOLDER = "class"


@dataclass(frozen=True, kw_only=True)
class ClassPictures:
    """What became of class pictures.

    Attributes:
        captions: (source, caption) of those that are used.
        left_out: the others.
    """

    captions: list[tuple[str, str]]
    left_out: list[QuarantinedImage]


def write_class_pictures(
    files: Sequence[SourceFile],
    book: CaptionBook,
    *,
    subject: SubjectConfig,
    scratch: Path,
    output: Path,
    limits: Limits,
) -> ClassPictures:
    """Write `class/images/` and `class/captions.jsonl`.

    Args:
        files: the class pictures.
        book: all captions; without one, the words of its folder are a picture's caption.
        subject: gives the class noun and the training size.
        scratch: folder for decoded pictures.
        output: the dataset's folder.
        limits: caps.

    Raises:
        DataError: none can be used.
    """
    side_px = subject.resolution_px
    pictures = decode_all(
        [file.path for file in files],
        sizes_px=[(side_px, side_px)],
        folder=scratch,
        limits=limits,
        interpolation=subject.interpolation,
    )
    images = output / CLASS_FOLDER / "images"
    images.mkdir(parents=True, exist_ok=True)
    left_out: list[QuarantinedImage] = []
    lines: list[str] = []
    captions: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    for file, picture in zip(files, pictures, strict=True):
        source = shown_name(file.name)
        if refused := _refused(source, picture, seen):
            left_out.append(refused)
        elif isinstance(picture, Picture):
            seen[picture.pixel_digest] = source
            name = f"images/{len(lines):06d}.png"
            picture.cut().save(output / CLASS_FOLDER / name)
            captions.append((source, _caption(file, book, subject)))
            row = {"image": name, "caption": captions[-1][1], "source": source}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    if not lines:
        reasons = "".join(f"\n  - {item.source} {item.reason}." for item in left_out[:10])
        raise DataError(
            f"None of {len(files)} class pictures can be used:{reasons}",
            remedy="\nReplace them, or leave the folder out: class pictures are then sampled.",
        )
    (output / CLASS_FOLDER / "captions.jsonl").write_text("".join(lines), encoding="utf-8")
    return ClassPictures(captions=captions, left_out=left_out)


def number_in(folder: Path) -> int:
    """Return how many class pictures a dataset's folder holds."""
    return sum(1 for _ in (folder / CLASS_FOLDER / "images").glob("*"))


def shares(prior: PriorConfig, num_own: int) -> str:
    """Return in words how many class pictures are one's own and how many are sampled.

    Args:
        prior: says how many are wanted.
        num_own: how many the dataset holds; nothing is said of none.
    """
    if not num_own:
        return ""
    if not prior.enabled:
        return f"{num_own} class pictures of your own are not used, as prior.enabled is false"
    if missing := prior.num_sampled(num_own):
        wanted = f"the {prior.num_images} of prior.num_images"
        return f"{num_own} class pictures of your own, {missing} are sampled to make {wanted}"
    return f"{num_own} class pictures of your own stand in for sampled ones"


def _refused(
    source: str, picture: Picture | Unreadable, seen: dict[str, str]
) -> QuarantinedImage | None:
    """Return why a class picture is left out, or None."""
    if isinstance(picture, Unreadable):
        return QuarantinedImage(
            source=source, check="decode", reason=picture.reason, advice=picture.advice
        )
    if twin := seen.get(picture.pixel_digest):
        return QuarantinedImage(
            source=source,
            check="duplicate",
            reason=f"has the same pixels as {twin}",
            advice="Leave one of them out; a duplicate counts twice in training.",
            other=twin,
        )
    if picture.thumbnail.getcolors(maxcolors=1) is not None:
        return QuarantinedImage(
            source=source,
            check="sharpness",
            reason="is of one colour all over",
            advice="Replace it; it would teach the class nothing.",
        )
    return None


def _caption(file: SourceFile, book: CaptionBook, subject: SubjectConfig) -> str:
    """Return a class picture's own caption, the words of its folder, or the class noun."""
    try:
        text = book.text_of(file.name)
    except DataError:
        text = None
    return text or kohya.place_of(file.name).words or f"a photo of a {subject.class_noun}"
