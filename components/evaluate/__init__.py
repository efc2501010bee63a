"""Step evaluate: judges the fine-tuned model against the base model and the champion."""

from typing import TYPE_CHECKING

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Evaluation

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

_MAX_SHEETS = 32


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the means of all subjects together and of each, and a sheet for each prompt."""
    from boothline.subjects import of_each

    evaluation = context.store.read_as(Evaluation, ref)
    for one, part in of_each(context, ref):
        _show_sheets(one, part)
    if confusion := evaluation.confusion:
        shares = {f"confusion/{model}": confusion.confused(model) for model in confusion.shares}
        context.tracker.metrics(shares)
        _show_means(context, evaluation)


def _show_means(context: "StepContext", evaluation: Evaluation) -> None:
    """Log the means of an evaluation."""
    context.tracker.metrics(
        {
            f"{section}/{model}/{metric}": mean
            for section, model, metric, mean in evaluation.figures()
        }
    )


def _show_sheets(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the means of one subject, and sheets: a row of pictures for each contender."""
    import json

    from boothline.pictures.sheets import track_sheet

    manifest = context.store.read(ref)
    evaluation = Evaluation.of(manifest, name=str(ref))
    _show_means(context, evaluation)
    images: dict[str, list[str]] = {}
    for line in context.store.read_entry(manifest.entry("scores.jsonl")).splitlines():
        row = json.loads(line)
        images.setdefault(row["model"], []).append(row["image"])
    count = evaluation.images_per_prompt
    for number in range(min(len(evaluation.prompts), _MAX_SHEETS)):
        names = [n for of in images.values() for n in of[number * count : (number + 1) * count]]
        pictures = [context.store.read_entry(manifest.entry(name)) for name in names]
        path = context.folder / f"prompt-{number:02d}.png"
        track_sheet(context.tracker, pictures, path=path, folder="evaluation", num_columns=count)


ABOUT = StepDescription(
    name="evaluate",
    place=70,
    image=TORCH,
    result=Evaluation,
    gives="evaluation",
    unit="picture judged",
    in_trials=True,
    verifies=True,
    show=show,
)
