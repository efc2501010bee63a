"""Step validate_data: from a folder of pictures to a checked dataset."""

from typing import TYPE_CHECKING

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Dataset

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

PAGE = "validation.html"


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log what was found in the pictures of each subject: counts, report and page."""
    from boothline.subjects import of_each

    for one, part in of_each(context, ref):
        _show(one, part)


def _show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log what was found in the pictures of one subject."""
    from boothline.data import DatasetReport
    from boothline.report.validation import render_validation

    dataset = context.store.read_as(Dataset, ref)
    context.tracker.metrics(
        {
            "dataset/num_images": dataset.num_images,
            "dataset/num_quarantined": dataset.num_quarantined,
            "dataset/num_warnings": dataset.num_warnings,
        }
    )
    folder = context.folder / "shown"
    for part in ("report.json", "thumbnails/"):
        context.store.fetch(ref, folder, prefix=part)
    context.tracker.artifact(folder / "report.json", folder="dataset")
    report = DatasetReport.model_validate_json((folder / "report.json").read_bytes())
    page = folder / PAGE
    page.write_text(
        render_validation(report, folder, subject=context.config.subject), encoding="utf-8"
    )
    context.tracker.artifact(page, folder="dataset")


ABOUT = StepDescription(
    name="validate_data",
    place=10,
    image=TOOLS,
    result=Dataset,
    gives="dataset",
    runs="always",
    show=show,
)
