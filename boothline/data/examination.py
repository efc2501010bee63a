"""Examines a set of pictures: decodes, checks, normalises, and writes the dataset."""

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from boothline.buckets import empty_buckets
from boothline.config.subject import SubjectConfig
from boothline.data import checks, masks
from boothline.data.captions import CaptionBook, caption_for, names
from boothline.data.class_pictures import ClassPictures, write_class_pictures
from boothline.data.decoder import Picture, ProgressFunction, Unreadable
from boothline.data.identifier import TokenCounter, check_identifier, length_warnings
from boothline.data.intake import Refusal, SourceFile
from boothline.data.kohya import Place, is_laid_out, place_of
from boothline.data.limits import Limits, scratch_folder
from boothline.data.naming import shown_name
from boothline.data.report import (
    AcceptedImage,
    CheckName,
    DatasetRemark,
    DatasetReport,
    DatasetWarning,
    QuarantinedImage,
)
from boothline.data.sources import Collection, collect
from boothline.errors import DataError
from boothline.settings import Settings

_MAX_NAMED = 5


@dataclass
class _Findings:
    """What has been found so far; `chosen` are the pictures that are used."""

    chosen: list[tuple[SourceFile, Picture]] = field(default_factory=list)
    quarantined: list[QuarantinedImage] = field(default_factory=list)
    warnings: list[DatasetWarning] = field(default_factory=list)
    remarks: list[DatasetRemark] = field(default_factory=list)
    thumbnails: dict[str, Image.Image] = field(default_factory=dict)
    masks: dict[str, Image.Image] = field(default_factory=dict)
    is_laid_out: bool = False

    def remark(self, source: str, message: str, *, check: CheckName = "decode") -> None:
        """Note something that is nothing to worry about."""
        self.remarks.append(DatasetRemark(source=source, check=check, message=message))

    def place_of(self, file: SourceFile) -> Place:
        """Return what the folders of a picture say, in kohya's layout."""
        return place_of(file.name) if self.is_laid_out else Place()


def examine(
    subject: SubjectConfig,
    *,
    output: Path,
    settings: Settings,
    tokenizer: Path | None = None,
    collection: Collection | None = None,
    limits: Limits | None = None,
    on_progress: ProgressFunction | None = None,
) -> DatasetReport:
    """Examine the pictures of a subject and write the dataset that they make.

    Bad pictures are left out with a reason; `DatasetReport.ensure_usable` checks that enough stay.

    Args:
        subject: names the pictures, the identifier, the class noun and the training size.
        output: folder that receives `images/`, `thumbnails/`, `captions.jsonl` and `report.json`.
        settings: the environment, for s3:// sources.
        tokenizer: `tokenizer` folder of the base model; None leaves the identifier unchecked.
        collection: the files, if `collect` was called already.
        limits: caps; None takes the defaults.
        on_progress: called with (decoded, total) after each picture.

    Raises:
        ConfigError: the source does not exist, or the identifier is unknown to the tokenizer.
        DataError: the source holds no picture or exceeds the limits.
    """
    caps = limits or Limits()
    counter = TokenCounter.load(tokenizer) if tokenizer else None
    with scratch_folder("boothline-pictures-") as scratch:
        files = collection or collect(
            subject.images, scratch / "source", settings=settings, limits=caps
        )
        own, others = _parted(files)
        found = masks.sorted_out(own, others, subject.masks)
        decoded = masks.decode(
            found, subject, folder=scratch / "decoded", limits=caps, on_progress=on_progress
        )
        findings = _first_findings(files, strays=found.strays)
        for file, picture, mask in decoded:
            _sort_in(file, picture, mask=mask, findings=findings)
        shown = [file.name for file in (*found.pictures, *found.class_pictures)]
        book = CaptionBook.of(files.caption_index, names=shown)
        _note_the_whole(findings, subject, book)
        accepted = _write_images(findings, book=book, subject=subject, output=output)
        if counter:
            _check_texts(findings, accepted, book=book, subject=subject, counter=counter)
        if found.class_pictures:
            written = write_class_pictures(
                found.class_pictures,
                book,
                subject=subject,
                scratch=scratch / "class",
                output=output,
                limits=caps,
            )
            _note_class_pictures(findings, written, counter=counter)
    report = _report_of(findings, accepted, subject=subject, output=output)
    _write_texts(report, output, weights=_weights(findings))
    return report


def _note_the_whole(findings: _Findings, subject: SubjectConfig, book: CaptionBook) -> None:
    """Note what only all pictures together show."""
    _limit_number(findings, subject)
    _note_empty_buckets(findings, subject)
    _note_folders(findings, subject)
    _note_near_duplicates(findings)
    findings.warnings += book.warnings


def _check_texts(
    findings: _Findings,
    accepted: tuple[AcceptedImage, ...],
    *,
    book: CaptionBook,
    subject: SubjectConfig,
    counter: TokenCounter,
) -> None:
    """Note what the tokenizer says about the identifier and the captions."""
    templates = _templates(findings, book, subject)
    findings.warnings += check_identifier(subject, templates, counter=counter)
    captions = [(image.source, image.caption) for image in accepted]
    findings.warnings += length_warnings(captions, counter=counter, identifier=subject.identifier)


def _note_class_pictures(
    findings: _Findings, written: ClassPictures, *, counter: TokenCounter | None
) -> None:
    """Note how many class pictures are used, which are not, and captions that are too long."""
    findings.quarantined += written.left_out
    message = f"{len(written.captions)} pictures in it show the class"
    findings.remark("", message, check="source")
    if counter:
        findings.warnings += length_warnings(written.captions, counter=counter)


def _report_of(
    findings: _Findings,
    accepted: tuple[AcceptedImage, ...],
    *,
    subject: SubjectConfig,
    output: Path,
) -> DatasetReport:
    return DatasetReport(
        resolution_px=subject.resolution_px,
        identifier=subject.identifier,
        class_noun=subject.class_noun,
        accepted=accepted,
        quarantined=_write_quarantined(findings, output),
        warnings=tuple(findings.warnings),
        remarks=tuple(findings.remarks),
    )


def _first_findings(files: Collection, *, strays: Sequence[Refusal]) -> _Findings:
    """Return what is known before anything is decoded; strays are masks without a picture."""
    findings = _Findings(is_laid_out=is_laid_out([file.name for file in files.pictures]))
    checked: list[tuple[Refusal, CheckName]] = [(item, "source") for item in files.refused]
    checked += [(item, "mask") for item in strays]
    for refusal, check in checked:
        findings.quarantined.append(
            QuarantinedImage(
                source=shown_name(refusal.name),
                check=check,
                reason=refusal.reason,
                advice=refusal.advice,
            )
        )
    if files.side_files:
        shown = ", ".join(shown_name(name) for name in files.side_files[:_MAX_NAMED])
        more = len(files.side_files) - _MAX_NAMED
        rest = f" and {more} more" if more > 0 else ""
        findings.remark("", f"passed over, as no pictures: {shown}{rest}", check="source")
    for folder in files.ignored_folders:
        findings.warnings.append(
            DatasetWarning(
                source=shown_name(folder),
                check="source",
                message="is a subfolder and is not read",
                advice="Move its pictures up if they belong to the subject.",
            )
        )
    return findings


def _parted(files: Collection) -> tuple[list[SourceFile], list[SourceFile]]:
    """Return the pictures of the subject, and those of its class in kohya's layout."""
    if not is_laid_out([file.name for file in files.pictures]):
        return list(files.pictures), []
    own = [file for file in files.pictures if not place_of(file.name).is_class]
    return own, [file for file in files.pictures if file not in own]


def _note_empty_buckets(findings: _Findings, subject: SubjectConfig) -> None:
    """Note the buckets without a picture; they are left out of the training."""
    for bucket in empty_buckets({picture.size_px for _, picture in findings.chosen}, subject):
        findings.remark(
            "", f"no picture has the shape of the aspect bucket {bucket}", check="shape"
        )


def _note_folders(findings: _Findings, subject: SubjectConfig) -> None:
    """Note what folders of kohya's layout say, and warn of words that are not the subject's."""
    places = {findings.place_of(file) for file, _ in findings.chosen}
    for place in sorted(places, key=lambda place: place.words):
        if not place.words:
            continue
        times = f"{place.repeats} repeats; what counts is their ratio to other folders'"
        findings.remark(place.words, f"is a folder of {times}", check="source")
        if not names(place.words, subject.phrase):
            findings.warnings.append(
                DatasetWarning(
                    source=place.words,
                    check="caption",
                    message=f"is what the folder says; the configuration says {subject.phrase!r}",
                    advice="Set subject.identifier and subject.class_noun, or rename the folder.",
                )
            )


def _weights(findings: _Findings) -> list[int]:
    """Return how often each used picture stands in an epoch, by the repeats of their folders."""
    repeats = [findings.place_of(file).repeats for file, _ in findings.chosen]
    return [number // math.gcd(*repeats) for number in repeats]


def _templates(findings: _Findings, book: CaptionBook, subject: SubjectConfig) -> list[str]:
    """Return all texts that captions are made of, as they are written."""
    templates = [subject.prompt]
    for file, _ in findings.chosen:
        with contextlib.suppress(DataError):  # it has its warning already
            if text := book.text_of(file.name):
                templates.append(text)
    return templates


def _sort_in(
    file: SourceFile,
    picture: Picture | Unreadable,
    *,
    mask: Picture | Unreadable | None,
    findings: _Findings,
) -> None:
    """Decide what becomes of one file, whose mask file is None where it has none."""
    source = shown_name(file.name)
    if isinstance(picture, Unreadable):
        findings.quarantined.append(
            QuarantinedImage(
                source=source, check="decode", reason=picture.reason, advice=picture.advice
            )
        )
        return
    first = next((f for f, p in findings.chosen if p.pixel_digest == picture.pixel_digest), None)
    refused = checks.too_small(source, picture)
    if first is not None:
        refused = QuarantinedImage(
            source=source,
            check="duplicate",
            reason=f"has the same pixels as {shown_name(first.name)}",
            advice="Leave one of them out; a duplicate counts twice in training.",
            other=shown_name(first.name),
        )
    learnt = None
    if refused is None:
        try:
            learnt = masks.mask_of(picture, mask)
        except DataError as error:
            refused = QuarantinedImage(
                source=source, check="mask", reason=error.message, advice=error.remedy
            )
    if refused is not None:
        _quarantine(refused, picture, findings)
        return
    if learnt is not None:
        findings.masks[file.name] = learnt
    for note in picture.notes:
        findings.warnings.append(
            DatasetWarning(
                source=source,
                check="decode",
                message=note,
                advice="Check its thumbnail in the report.",
            )
        )
    for remark in picture.remarks:
        findings.remark(source, remark)
    findings.warnings.extend(checks.size_warnings(source, picture))
    findings.chosen.append((file, picture))


def _quarantine(item: QuarantinedImage, picture: Picture, findings: _Findings) -> None:
    """Quarantine a picture that could be decoded, with its thumbnail."""
    path = f"thumbnails/quarantined-{len(findings.thumbnails):03d}.png"
    findings.thumbnails[path] = picture.thumbnail
    findings.quarantined.append(item.model_copy(update={"thumbnail": path}))


def _limit_number(findings: _Findings, subject: SubjectConfig) -> None:
    """Leave out the pictures beyond `subject.max_images`, the last by name."""
    surplus = findings.chosen[subject.max_images :]
    del findings.chosen[subject.max_images :]
    for file, picture in surplus:
        item = QuarantinedImage(
            source=shown_name(file.name),
            check="count",
            reason=f"is beyond the first {subject.max_images} pictures",
            advice="Raise subject.max_images to use it.",
        )
        _quarantine(item, picture, findings)
    kept = {shown_name(file.name) for file, _ in findings.chosen}
    left_out = {shown_name(file.name) for file, _ in surplus} - kept
    findings.warnings[:] = [w for w in findings.warnings if w.source not in left_out]
    findings.remarks[:] = [r for r in findings.remarks if r.source not in left_out]


def _note_near_duplicates(findings: _Findings) -> None:
    sources = [shown_name(file.name) for file, _ in findings.chosen]
    thumbnails = [picture.thumbnail for _, picture in findings.chosen]
    for first, second, similarity in checks.near_duplicates(thumbnails):
        findings.warnings.append(
            DatasetWarning(
                source=sources[second],
                check="duplicate",
                message=f"looks like {sources[first]} ({100 * similarity:.0f} % of the hash)",
                advice="Use pictures that differ in view, place or light.",
                other=sources[first],
            )
        )


def _write_images(
    findings: _Findings, *, book: CaptionBook, subject: SubjectConfig, output: Path
) -> tuple[AcceptedImage, ...]:
    """Write the normalised pictures and their thumbnails; measures their sharpness on the way."""
    for folder in ("images", "thumbnails"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    accepted: list[AcceptedImage] = []
    for number, (file, picture) in enumerate(findings.chosen):
        source = shown_name(file.name)
        words = findings.place_of(file).words
        fallback = "" if words.casefold() in ("", subject.phrase.casefold()) else words
        caption, warnings = caption_for(source, file.name, book, subject=subject, fallback=fallback)
        cut = picture.cut()
        sharpness = checks.sharpness_of(cut)
        if warning := checks.sharpness_warning(source, sharpness):
            warnings.append(warning)
        findings.warnings.extend(warnings)
        image = AcceptedImage(
            source=source,
            image=f"images/{number:03d}.png",
            thumbnail=f"thumbnails/{number:03d}.png",
            caption=caption,
            format=picture.format,
            width_px=picture.width_px,
            height_px=picture.height_px,
            sharpness=round(sharpness, 1),
        )
        cut.save(output / image.image)
        picture.thumbnail.save(output / image.thumbnail)
        if (mask := findings.masks.get(file.name)) is not None:
            image = image.model_copy(update=masks.write(cut, mask, output, number=number))
        accepted.append(image)
    return tuple(accepted)


def _write_quarantined(findings: _Findings, output: Path) -> tuple[QuarantinedImage, ...]:
    """Write the thumbnails of quarantined pictures; returns the quarantined files by name."""
    for path, thumbnail in findings.thumbnails.items():
        thumbnail.save(output / path)
    return tuple(sorted(findings.quarantined, key=lambda item: item.source))


def _write_texts(report: DatasetReport, output: Path, *, weights: Sequence[int]) -> None:
    """Write captions.jsonl, where a picture stands as often as in an epoch, and report.json."""
    lines = [
        json.dumps(item.caption_row(), ensure_ascii=False)
        for item, weight in zip(report.accepted, weights, strict=True)
        for _ in range(weight)
    ]
    (output / "captions.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (output / "report.json").write_text(report.as_json(), encoding="utf-8")
