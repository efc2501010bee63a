"""The report on a subject's pictures: each check with its verdict, and what to do."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from boothline.buckets import Size, nearest, sizes_of
from boothline.config.subject import SubjectConfig
from boothline.data.report import (
    AcceptedImage,
    CheckName,
    DatasetReport,
    DatasetWarning,
    QuarantinedImage,
)
from boothline.errors import DataError
from boothline.report.model import Picture, Tone, Verdict
from boothline.report.pictures import encode
from boothline.report.render import render_page

logger = logging.getLogger(__name__)

MAX_FINDINGS = 40
MAX_ACCEPTED = 100
_CHECKS: dict[CheckName, tuple[str, str]] = {
    "source": ("Files", "What was found at the place that subject.images names."),
    "decode": (
        "Readable",
        "JPEG, PNG, WebP, HEIC, AVIF, BMP, TIFF or GIF, whole, brought to sRGB.",
    ),
    "size": ("Large enough", "Nothing is enlarged: the picture covers the size that it is cut to."),
    "shape": ("Shape", "Cropping to the training shape nearest to its own loses little."),
    "sharpness": ("Sharp", "Variance of the Laplacian at training size; blur is learnt too."),
    "duplicate": ("Different", "No picture twice, none nearly so; repeats are learnt by heart."),
    "mask": ("Masks", "White is learnt and black is not; of transparent pictures what is opaque."),
    "caption": ("Captions", "They name the subject and fit the text encoder."),
    "identifier": ("Identifier", "A rare word that is one token of the tokenizer."),
    "count": ("Number", "Between subject.min_images and subject.max_images pictures."),
    "machine": ("This machine", "It has what a run needs. Shown by boothline validate."),
}
_WHERE_FOUND = ("machine", "mask")
Outcome = Literal["passed", "warned", "broken"]


@dataclass(frozen=True, kw_only=True)
class FindingLine:
    """One finding with the pictures that it is about; two when it compares them."""

    source: str
    message: str
    advice: str
    left_out: bool
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check with its verdict: passed, warned, or broken (something was left out)."""

    name: str
    title: str
    meaning: str
    verdict: Outcome
    outcome: str
    findings: tuple[FindingLine, ...]
    num_findings: int


@dataclass(frozen=True, kw_only=True)
class AcceptedLine:
    """One picture that is used."""

    source: str
    caption: str
    facts: str
    picture: Picture
    masked: Picture | None


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """Everything on the page."""

    subject: str
    verdict: Verdict
    checks: tuple[CheckResult, ...]
    accepted: tuple[AcceptedLine, ...]
    num_accepted: int
    num_left_out: int


def render_validation(report: DatasetReport, folder: Path, *, subject: SubjectConfig) -> str:
    """Return the page as self-contained HTML.

    Args:
        report: what the examination found.
        folder: what it wrote; the thumbnails are read from there.
        subject: says how many pictures are enough, and the sizes that they are trained at.
    """
    shelf = _Shelf(report, folder)
    too_few = len(report.accepted) < subject.min_images
    return render_page(
        "validation.html.j2",
        ValidationReport(
            subject=f"{report.identifier} {report.class_noun}",
            verdict=_verdict(report, subject),
            checks=tuple(
                _check(name, report, shelf, too_few=too_few)
                for name in _CHECKS
                if name not in _WHERE_FOUND or _is_found(name, report)
            ),
            accepted=tuple(_accepted(report, shelf, sizes_of(subject))),
            num_accepted=len(report.accepted),
            num_left_out=len(report.quarantined),
        ),
    )


def _is_found(name: CheckName, report: DatasetReport) -> bool:
    """Return whether a check has anything to say; that of masks, where a picture has one."""
    if name == "mask" and any(item.mask for item in report.accepted):
        return True
    checks = {item.check for item in report.warnings}
    return name in checks | {item.check for item in report.quarantined}


class _Shelf:
    """Finds the thumbnail of a picture by the name of its file."""

    def __init__(self, report: DatasetReport, folder: Path) -> None:
        self._folder = folder
        self._paths = {item.source: item.thumbnail for item in report.quarantined}
        self._paths |= {item.source: item.thumbnail for item in report.accepted}

    def picture(
        self, source: str, *, thumbnail: str = "", twin: str = "", note: str = ""
    ) -> Picture | None:
        """Return a picture's thumbnail; None where it could not be decoded."""
        path = thumbnail or self._paths.get(source, "")
        if not path:
            return None
        try:
            uri, width_px, height_px = encode((self._folder / path).read_bytes())
        except (OSError, DataError) as error:
            logger.warning("thumbnail %s cannot be shown: %s", path, error)
            return None
        return Picture(
            source=uri,
            alt=f"Picture {source}{note}",
            caption=f"{source}{note}",
            width_px=width_px,
            height_px=height_px,
            twin=twin,
        )


def _verdict(report: DatasetReport, subject: SubjectConfig) -> Verdict:
    """Return in words whether the set can be used."""
    used, left_out = len(report.accepted), len(report.quarantined)
    warnings = len(report.warnings)
    counts = f"{_many(left_out, 'file')} left out, {_many(warnings, 'warning')}."
    least = subject.min_images
    if used < least:
        sentence = f"At least {least} are needed: repair or replace those left out below."
        title = f"Only {used} of {used + left_out} pictures can be used"
        return Verdict(tone="bad", word="Not usable", title=title, sentences=(sentence, counts))
    tone: Tone = "held" if left_out or warnings else "good"
    word = "Usable, with remarks" if left_out or warnings else "All is well"
    sentences = (_sizes(report, sizes_of(subject)), counts)
    title = f"{_many(used, 'picture')} can be used"
    return Verdict(tone=tone, word=word, title=title, sentences=sentences)


def _sizes(report: DatasetReport, sizes: Sequence[Size]) -> str:
    """Return in words what the pictures are cut to; of several sizes, how many to each."""
    if len(sizes) == 1:
        return f"Trained at {_size(sizes[0])} pixels."
    cut = Counter(nearest((item.width_px, item.height_px), sizes) for item in report.accepted)
    counts = ", ".join(f"{cut[size]} at {_size(size)}" for size in sizes if size in cut)
    return f"Each is trained at the size nearest to its shape: {counts} pixels."


def _size(size: Size) -> str:
    return f"{size[0]} \N{MULTIPLICATION SIGN} {size[1]}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _check(name: CheckName, report: DatasetReport, shelf: _Shelf, *, too_few: bool) -> CheckResult:
    """Return one check's verdict and findings: what was left out comes first."""
    title, meaning = _CHECKS[name]
    refused = [item for item in report.quarantined if item.check == name]
    warned = [item for item in report.warnings if item.check == name]
    parts = [
        f"{_many(len(refused), 'file')} left out" if refused else "",
        _many(len(warned), "warning") if warned else "",
        f"only {len(report.accepted)} can be used" if name == "count" and too_few else "",
    ]
    said = ", ".join(part for part in parts if part)
    verdict: Outcome = "broken" if refused or (name == "count" and too_few) else "passed"
    if warned and verdict == "passed":
        verdict = "warned"
    found: list[QuarantinedImage | DatasetWarning] = [*refused]
    found += warned
    return CheckResult(
        name=name,
        title=title,
        meaning=meaning,
        verdict=verdict,
        outcome=f"{said[:1].upper()}{said[1:]}." if said else "In order.",
        findings=tuple(_line(item, shelf) for item in found[:MAX_FINDINGS]),
        num_findings=len(found),
    )


def _line(item: QuarantinedImage | DatasetWarning, shelf: _Shelf) -> FindingLine:
    """Return one finding; the picture that it is compared with stands next to it."""
    left_out = isinstance(item, QuarantinedImage)
    message = item.reason if isinstance(item, QuarantinedImage) else item.message
    thumbnail = item.thumbnail if isinstance(item, QuarantinedImage) else ""
    twin = f"{item.source} {item.other}" if item.other else ""
    pictures = [shelf.picture(item.source, thumbnail=thumbnail, twin=twin)]
    if item.other:
        pictures.append(shelf.picture(item.other, twin=twin))
    return FindingLine(
        source=item.source,
        message=f"{message}.",
        advice=item.advice,
        left_out=left_out,
        pictures=tuple(picture for picture in pictures if picture),
    )


def _masked(item: AcceptedImage, shelf: _Shelf) -> Picture | None:
    """Return the picture with what is not learnt of it in one colour; None without a mask."""
    if not item.masked_thumbnail:
        return None
    note = ", what is not learnt in one colour"
    return shelf.picture(item.source, thumbnail=item.masked_thumbnail, note=note)


def _accepted(
    report: DatasetReport, shelf: _Shelf, sizes: Sequence[Size]
) -> Iterator[AcceptedLine]:
    """Yield the pictures that are used; where they differ in size, with the size of each."""
    for item in report.accepted[:MAX_ACCEPTED]:
        picture = shelf.picture(item.source, thumbnail=item.thumbnail)
        remarks = [remark.message for remark in report.remarks if remark.source == item.source]
        size = (item.width_px, item.height_px)
        cut = f" cut to {_size(nearest(size, sizes))}" if len(sizes) > 1 else ""
        if item.mask:
            remarks.append(f"{100 * item.learnt_share:.0f} % of it is learnt")
        if picture:
            yield AcceptedLine(
                source=item.source,
                caption=item.caption,
                facts="; ".join(
                    [f"{item.format}, {_size(size)}{cut}, sharpness {item.sharpness:.0f}", *remarks]
                ),
                picture=picture,
                masked=_masked(item, shelf),
            )
