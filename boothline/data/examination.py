"""Examines a set of pictures: decodes, checks, normalises, and writes the dataset."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from boothline.buckets import ensure_filled, sizes_of
from boothline.config.subject import SubjectConfig
from boothline.data import checks
from boothline.data.captions import caption_for, read_caption
from boothline.data.decoder import Picture, Unreadable, decode_all
from boothline.data.identifier import TokenCounter, check_identifier, length_warnings
from boothline.data.intake import SourceFile
from boothline.data.limits import Limits
from boothline.data.naming import shown_name, stem_of
from boothline.data.report import (
    AcceptedImage,
    DatasetRemark,
    DatasetReport,
    DatasetWarning,
    QuarantinedImage,
)
from boothline.data.scratch import scratch_folder
from boothline.data.sources import Collection, collect
from boothline.errors import DataError
from boothline.settings import Settings

logger = logging.getLogger(__name__)

ProgressFunction = Callable[[int, int], None]


@dataclass
class _Findings:
    """What has been found so far; `chosen` are the pictures that are used."""

    chosen: list[tuple[SourceFile, Picture]] = field(default_factory=list)
    quarantined: list[QuarantinedImage] = field(default_factory=list)
    warnings: list[DatasetWarning] = field(default_factory=list)
    remarks: list[DatasetRemark] = field(default_factory=list)
    thumbnails: dict[str, Image.Image] = field(default_factory=dict)


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

    Bad pictures are left out with a reason; `DatasetReport.ensure_usable` tells if enough are left.

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
        DataError: the source holds no picture or exceeds the limits, or a bucket stays empty.
    """
    caps = limits or Limits()
    counter = TokenCounter.load(tokenizer) if tokenizer else None
    with scratch_folder("boothline-pictures-") as scratch:
        files = collection or collect(
            subject.images, scratch / "source", settings=settings, limits=caps
        )
        pictures = decode_all(
            [file.path for file in files.pictures],
            sizes_px=sizes_of(subject),
            folder=scratch / "decoded",
            limits=caps,
            interpolation=subject.interpolation,
            on_progress=on_progress,
        )
        findings = _first_findings(files)
        for file, picture in zip(files.pictures, pictures, strict=True):
            _sort_in(file, picture, findings=findings)
        _limit_number(findings, subject)
        ensure_filled({picture.size_px for _, picture in findings.chosen}, subject)
        _note_near_duplicates(findings)
        accepted = _write_images(findings, files=files, subject=subject, output=output)
        if counter:
            findings.warnings += _text_warnings(accepted, files, subject=subject, counter=counter)
    report = DatasetReport(
        resolution_px=subject.resolution_px,
        identifier=subject.identifier,
        class_noun=subject.class_noun,
        accepted=accepted,
        quarantined=_write_quarantined(findings, output),
        warnings=tuple(findings.warnings),
        remarks=tuple(findings.remarks),
    )
    _write_texts(report, output)
    return report


def _first_findings(files: Collection) -> _Findings:
    """Return what is known before anything is decoded."""
    findings = _Findings()
    for refusal in files.refused:
        findings.quarantined.append(
            QuarantinedImage(
                source=shown_name(refusal.name),
                check="source",
                reason=refusal.reason,
                advice=refusal.advice,
            )
        )
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


def _sort_in(file: SourceFile, picture: Picture | Unreadable, *, findings: _Findings) -> None:
    """Decide what becomes of one file."""
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
    if refused is not None:
        _quarantine(refused, picture, findings)
        return
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
        findings.remarks.append(DatasetRemark(source=source, check="decode", message=remark))
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
    names = [shown_name(file.name) for file, _ in findings.chosen]
    thumbnails = [picture.thumbnail for _, picture in findings.chosen]
    for first, second, similarity in checks.near_duplicates(thumbnails):
        findings.warnings.append(
            DatasetWarning(
                source=names[second],
                check="duplicate",
                message=f"looks like {names[first]} ({100 * similarity:.0f} % of the hash)",
                advice="Use pictures that differ in view, place or light.",
                other=names[first],
            )
        )


def _write_images(
    findings: _Findings, *, files: Collection, subject: SubjectConfig, output: Path
) -> tuple[AcceptedImage, ...]:
    """Write the normalised pictures and their thumbnails; measures their sharpness on the way."""
    for folder in ("images", "thumbnails"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    accepted: list[AcceptedImage] = []
    for number, (file, picture) in enumerate(findings.chosen):
        source = shown_name(file.name)
        caption_file = files.captions.get(stem_of(file.name))
        caption, warnings = caption_for(
            source, caption_file.path if caption_file else None, subject=subject
        )
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
        accepted.append(image)
    return tuple(accepted)


def _write_quarantined(findings: _Findings, output: Path) -> tuple[QuarantinedImage, ...]:
    """Write the thumbnails of quarantined pictures; returns the quarantined files by name."""
    for path, thumbnail in findings.thumbnails.items():
        thumbnail.save(output / path)
    return tuple(sorted(findings.quarantined, key=lambda item: item.source))


def _text_warnings(
    accepted: tuple[AcceptedImage, ...],
    files: Collection,
    *,
    subject: SubjectConfig,
    counter: TokenCounter,
) -> list[DatasetWarning]:
    """Return what the tokenizer says about the identifier and the captions."""
    templates = [subject.prompt]
    for file in files.captions.values():
        try:
            templates.append(read_caption(file.path))
        except DataError:
            logger.debug("caption file of %s is refused", shown_name(file.name))
    return [
        *check_identifier(subject, templates, counter=counter),
        *length_warnings([(image.source, image.caption) for image in accepted], counter=counter),
    ]


def _write_texts(report: DatasetReport, output: Path) -> None:
    lines = [
        json.dumps(item.model_dump(include={"image", "caption", "source"}), ensure_ascii=False)
        for item in report.accepted
    ]
    (output / "captions.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (output / "report.json").write_text(report.as_json(), encoding="utf-8")
