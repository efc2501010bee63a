"""Examines a subject's pictures without running a pipeline."""

from pathlib import Path

from boothline import settings as process_environment
from boothline.config import RunConfig
from boothline.data.examination import examine
from boothline.data.report import DatasetReport
from boothline.data.scratch import scratch_folder
from boothline.diffusion.base_model import resolve


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
    settings = process_environment.current().model_copy(update={"home": home})
    base = config.base_model
    model = resolve(base.source, settings=settings, allow_hub=base.allow_hub)
    with scratch_folder("boothline-validate-") as folder:
        report = examine(
            config.subject,
            output=folder,
            settings=settings,
            tokenizer=model.path / "tokenizer",
        )
        if page is not None:
            from boothline.report.validation import render_validation

            html = render_validation(report, folder, subject=config.subject)
            page.write_text(html, encoding="utf-8")
        return report
