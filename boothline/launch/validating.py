"""Examines a subject's pictures without running a pipeline."""

from pathlib import Path

from boothline import settings as process_environment
from boothline.config import RunConfig
from boothline.data.class_pictures import number_in, shares
from boothline.data.examination import examine
from boothline.data.identifier import TokenCounter
from boothline.data.limits import scratch_folder
from boothline.data.report import DatasetRemark, DatasetReport, DatasetWarning
from boothline.diffusion.base_model import is_here, resolve
from boothline.evaluation.prompt_sets import long_caption_templates, long_prompts
from boothline.launch.local.session import settings_for
from boothline.launch.needs import lacking
from boothline.training.job import ensure_some_left


def cut_prompts(config: RunConfig, *, home: Path) -> list[str]:
    """Return a sentence about each prompt of a run that its text encoder cuts off.

    Args:
        config: names the prompts and the base model; nothing is said of one on a hub.
        home: the home folder, which remembers digests of models.

    Raises:
        ModelNotFoundError: the base model does not exist.
        DataError: a prompts file cannot be read.
    """
    base = config.base_model
    if base.allow_hub and not is_here(base.source):
        return []
    settings = settings_for([base.source], home)
    tokenizer = resolve(base.source, settings=settings, need="tokenizer").path / "tokenizer"
    if not tokenizer.is_dir():  # the first step says so
        return []
    found = long_prompts(config, counter=TokenCounter.load(tokenizer))
    return [f"{item.source} {item.message}. {item.advice}" for item in found]


def check_readable(config: RunConfig) -> DatasetReport:
    """Return what the pictures are, whatever the base model; they are decoded, and no more.

    Raises:
        ConfigError: they do not exist.
        DataError: the source holds no picture, or fewer than `subject.min_images` can be used.
    """
    with scratch_folder("boothline-check-") as folder:
        report = examine(config.subject, output=folder, settings=process_environment.current())
    report.ensure_usable(config.subject)
    return report


def examine_pictures(config: RunConfig, *, home: Path, page: Path | None = None) -> DatasetReport:
    """Return what the validate_data step would find.

    Args:
        config: names the pictures and the base model.
        home: the home folder, which remembers digests of models.
        page: file that receives the findings as HTML; its folder must exist.

    Raises:
        ConfigError: the pictures or the base model do not exist, or the identifier is unknown.
        DataError: the source holds no picture or exceeds the limits.
    """
    base = config.base_model
    settings = settings_for([base.source], home)
    model = resolve(base.source, settings=settings, allow_hub=base.allow_hub, need="tokenizer")
    with scratch_folder("boothline-validate-") as folder:
        report = examine(
            config.subject,
            output=folder,
            settings=settings,
            tokenizer=model.path / "tokenizer",
        )
        counter = TokenCounter.load(model.path / "tokenizer")
        long = long_prompts(config, counter=counter)
        long += long_caption_templates(config, report, counter=counter)
        long += [
            DatasetWarning(
                source=need.setting,
                check="machine",
                message=need.message,
                advice=f"A run on this machine would be refused. {need.remedy}",
            )
            for need in lacking(config, settings)
        ]
        if len(report.accepted) >= config.subject.min_images:
            rows = (folder / "captions.jsonl").read_bytes().count(b"\n")
            hold_out = config.training.validation.hold_out
            ensure_some_left(hold_out=hold_out, num_pictures=rows)
        said = shares(config.prior, number_in(folder))
        notes = [DatasetRemark(source="", check="source", message=said)] if said else []
        report = report.model_copy(
            update={
                "warnings": (*report.warnings, *long),
                "remarks": (*report.remarks, *notes),
            }
        )
        if page is not None:
            from boothline.report.validation import render_validation

            html = render_validation(report, folder, subject=config.subject)
            page.write_text(html, encoding="utf-8")
        return report
