"""Checks the subject's pictures and commits the usable ones as a dataset."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

from boothline import settings as environment
from boothline.components.validate_data import ABOUT, PAGE
from boothline.config import RunConfig
from boothline.config.subject import SubjectConfig
from boothline.data import Collection, DatasetReport, collect, examine
from boothline.data.class_pictures import number_in, shares
from boothline.data.identifier import TokenCounter, check_free
from boothline.data.kohya import has_repeats, is_laid_out
from boothline.data.masks import may_mask
from boothline.diffusion.base_model import model_of
from boothline.evaluation.prompt_sets import long_caption_templates, long_prompts
from boothline.results import Dataset
from boothline.settings import Settings
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import files_under
from boothline.subjects import Files, each_subject, parts_of
from boothline.training.job import ensure_some_left, words_of

logger = logging.getLogger(__name__)

# So that datasets from before they existed keep their keys.
_LATER_SETTINGS = ("aspect_buckets", "interpolation", "masks")


class Inputs(StepInputs):
    """Inputs of validate_data: none but the run and its configuration."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What the step reads.

    Attributes:
        files: the pictures and captions, copied so that they cannot change any more.
        tokenizer: `tokenizer` folder of the base model.
    """

    files: Collection
    tokenizer: Path


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the dataset depends on: names and bytes of the files, subject, tokenizer."""
    source = _source(context)
    names = [file.name for file in source.files.pictures]
    # Not where repeats say so already, as they did before.
    apart = is_laid_out(names) and not has_repeats(names)
    masked = context.config.subject.masks == "auto" and may_mask(source.files.pictures)
    return StepKey(
        config={
            **({"class_pictures_apart": True} if apart else {}),
            **({"masks": True} if masked else {}),
            "files": source.files.fingerprint(),
            "ignored_folders": list(source.files.ignored_folders),
            "subject": _subject_settings(context.config.subject),
            "tokenizer": TokenCounter.load(source.tokenizer).digest,
        }
    )


def _subject_settings(subject: SubjectConfig) -> dict[str, object]:
    """Return the settings that decide the dataset; later ones count only where they are used."""
    settings = subject.model_dump(mode="json", exclude={"name", "images"})
    for name in _LATER_SETTINGS:
        if getattr(subject, name) == SubjectConfig.model_fields[name].default:
            settings.pop(name)
    return settings


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Examine the pictures and return the dataset.

    Raises:
        ConfigError: the source or the base model does not exist, or the identifier is unknown.
        DataError: fewer than `subject.min_images` pictures are usable.
    """
    subject = context.config.subject
    source = _source(context)
    output = context.folder / "dataset"
    report = examine(
        subject,
        output=output,
        settings=context.settings,
        tokenizer=source.tokenizer,
        collection=source.files,
        on_progress=lambda done, total: context.progress.update(done, total, unit="images"),
    )
    _announce(report, context)
    page = _write_page(report, output, context)
    context.tracker.artifact(page, folder="dataset")
    report.ensure_usable(subject)
    files = files_under(output)
    return _dataset(report, num_class_images=number_in(output)).draft(files)


def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
    """Say what was left out and where class pictures come from; put the page into the run folder.

    The page is written when the dataset was there already.
    """
    report = DatasetReport.model_validate_json(context.store.read_bytes(ref, "report.json"))
    rows = context.store.read_bytes(ref, "captions.jsonl").count(b"\n")
    hold_out = context.config.training.validation.hold_out
    ensure_some_left(hold_out=hold_out, num_pictures=rows)
    num_own = context.store.read_as(Dataset, ref).num_class_images
    said = [
        report.left_out(),
        shares(context.config.prior, num_own),
        _cut_off(context.config, report, settings=context.settings),
    ]
    if any(said):
        context.progress.remark("; ".join(filter(None, said)))
    run_dir = context.settings.run_dir
    if run_dir is None or (run_dir / _page_of(context)).exists():
        return
    folder = context.store.fetch(ref, context.folder / "reused", prefix="thumbnails/")
    _write_page(report, folder, context)


def _cut_off(config: RunConfig, report: DatasetReport, *, settings: Settings) -> str:
    """Log each prompt that the text encoder cuts off, and return their settings in one line.

    Raises:
        ConfigError: a token is to be learnt that the tokenizer has.
    """
    counter = TokenCounter.load(_tokenizer(config, settings))
    check_free(words_of(config), counter.tokenizer.get_vocab())
    found = long_prompts(config, counter=counter)
    found += long_caption_templates(config, report, counter=counter)
    for item in found:
        logger.warning("%s %s. %s", item.source, item.message, item.advice)
    named = ", ".join(sorted({item.source for item in found}))
    return f"longer than the text encoder reads: {named}" if named else ""


def _tokenizer(config: RunConfig, settings: Settings) -> Path:
    """Return the `tokenizer` folder of the base model."""
    return model_of(config, settings, need="tokenizer").path / "tokenizer"


def html(dataset: str, config: str) -> bytes:
    """Return the pages on what was found in the pictures of a dataset as one, as UTF-8."""
    store = Store.connect(environment.current())
    configs = RunConfig.model_validate_json(config).by_subject
    parts = parts_of(store, dataset)
    pages = {name: _page(store, ref, configs[name].subject) for name, ref in parts.items()}
    if "" in pages:
        return pages[""].encode()
    frames = "".join(
        f'<h1>{name}</h1><iframe title="{name}" srcdoc="{escape(page)}" '
        'style="width: 100%; height: 90vh; border: 0"></iframe>'
        for name, page in pages.items()
    )
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{frames}</html>'.encode()


def _page(store: Store, dataset: ManifestRef, subject: SubjectConfig) -> str:
    """Return the page on the pictures of one subject."""
    from boothline.report.validation import render_validation

    report = DatasetReport.model_validate_json(store.read_bytes(dataset, "report.json"))
    with tempfile.TemporaryDirectory(prefix="boothline-page-") as folder:
        thumbnails = store.fetch(dataset, Path(folder) / "dataset", prefix="thumbnails/")
        return render_validation(report, thumbnails, subject=subject)


def _write_page(report: DatasetReport, folder: Path, context: StepContext) -> Path:
    """Write the findings as a page, next to the run's report where there is a run folder."""
    from boothline.report.validation import render_validation

    place = context.settings.run_dir or context.folder
    place.mkdir(parents=True, exist_ok=True)
    page = render_validation(report, folder, subject=context.config.subject)
    path = place / _page_of(context)
    path.write_text(page, encoding="utf-8")
    return path


def _page_of(context: StepContext) -> str:
    """Return the file name of the page; each of several subjects has one of its own."""
    return PAGE.replace(".", f"-{context.subject}.") if context.subject else PAGE


def _source(context: StepContext) -> _Source:
    """Return the files and the tokenizer; the files are read once for key and result alike."""
    config = context.config
    files = _collect_once(config.subject.images, context.folder / "source", context.settings)
    return _Source(files=files, tokenizer=_tokenizer(config, context.settings))


@lru_cache(maxsize=16)  # as many as a run has subjects at most
def _collect_once(images: str, folder: Path, settings: Settings) -> Collection:
    """Read a source into a scratch folder; the folder is this step's own, so nothing is stale."""
    return collect(images, folder, settings=settings)


def _dataset(report: DatasetReport, *, num_class_images: int) -> Dataset:
    """Return the dataset's facts; class pictures count only where there are some."""
    return Dataset(
        num_images=len(report.accepted),
        num_quarantined=len(report.quarantined),
        num_warnings=len(report.warnings),
        resolution_px=report.resolution_px,
        identifier=report.identifier,
        class_noun=report.class_noun,
        **({"num_class_images": num_class_images} if num_class_images else {}),
    )


def _announce(report: DatasetReport, context: StepContext) -> None:
    """Log every finding and hand the report to the tracker."""
    for refused in report.quarantined:
        logger.warning("%s %s; left out. %s", refused.source, refused.reason, refused.advice)
    for warning in report.warnings:
        logger.warning("%s %s. %s", warning.source, warning.message, warning.advice)
    for remark in report.remarks:
        logger.info("%s %s", remark.source, remark.message)
    context.progress.update(
        len(report.accepted),
        len(report.accepted),
        unit="images",
        note=f"{len(report.quarantined)} left out, {len(report.warnings)} warnings",
    )
    context.tracker.metrics(
        {
            "dataset/num_images": len(report.accepted),
            "dataset/num_quarantined": len(report.quarantined),
            "dataset/num_warnings": len(report.warnings),
        }
    )
    context.tracker.artifact(context.folder / "dataset" / "report.json", folder="dataset")


def gather(context: StepContext, parts: Mapping[str, ManifestRef]) -> tuple[Dataset, Files]:
    """Return what the datasets of several subjects come to."""
    found = [context.store.read_as(Dataset, ref) for ref in parts.values()]
    whole = Dataset(
        num_images=sum(one.num_images for one in found),
        num_class_images=sum(one.num_class_images for one in found),
        num_quarantined=sum(one.num_quarantined for one in found),
        num_warnings=sum(one.num_warnings for one in found),
        resolution_px=context.config.subject.resolution_px,
    )
    return whole, {}


# 3: colours are managed, more captions are read, and no fault of a machine is a verdict; what was
# committed before may lack all of that. Plain sRGB pictures give the bits that they gave.
STEP = each_subject(
    Step(name=ABOUT.name, inputs=Inputs, version=3, key=key, produce=produce, finish=finish),
    gather=gather,
)
run = STEP.run
