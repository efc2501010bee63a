"""Step evaluate: judges the fine-tuned model against the base model and the champion."""

from typing import TYPE_CHECKING

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boothline.pictures.sheets import Cell
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

    Row = dict[str, str | float]

_MAX_SHEETS = 32
_MAX_TABLE_ROWS = 64
_MODELS = {"finetuned": "fine-tuned model", "base": "base model", "champion": "champion"}
_SCORES = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T", "score": "score"}


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the means of all subjects together and of each, sheets, and a table of pictures."""
    from boothline.subjects import of_each

    evaluation = context.store.read_as(Evaluation, ref)
    for one, part in of_each(context, ref):
        _show_pictures(one, part)
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


def _show_pictures(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the means of one subject, and sheets: a row of pictures for each contender."""
    import json

    from boothline.pictures.sheets import track_sheet, track_table

    manifest = context.store.read(ref)
    evaluation = Evaluation.of(manifest, name=str(ref))
    _show_means(context, evaluation)
    judged: dict[str, list[Row]] = {}
    for line in context.store.read_entry(manifest.entry("scores.jsonl")).splitlines():
        row: Row = json.loads(line)
        judged.setdefault(str(row["model"]), []).append(row)
    count = evaluation.images_per_prompt
    table = []
    for number in range(min(len(evaluation.prompts), _MAX_SHEETS)):
        shown = [rows[number * count : (number + 1) * count] for rows in judged.values()]
        pictures = {
            image: context.store.read_entry(manifest.entry(image))
            for rows in shown
            for image in (str(row["image"]) for row in rows)
        }
        path = context.folder / f"prompt-{number:02d}.png"
        track_sheet(
            context.tracker, [*pictures.values()], path=path, folder="evaluation", num_columns=count
        )
        table += [_table_row(rows, pictures) for rows in zip(*shown, strict=False)]
    track_table(
        context.tracker, table[:_MAX_TABLE_ROWS], name="evaluation_pictures", folder=context.folder
    )


def _table_row(rows: "Sequence[Row]", pictures: "Mapping[str, bytes]") -> "dict[str, Cell]":
    """Return a row of MLflow's table: a prompt, what each model made of it, and its scores."""
    first = rows[0]
    scores = {_SCORES[name]: first[name] for name in _SCORES if name in first}
    models = {str(row["model"]): pictures[str(row["image"])] for row in rows}
    shown = {_MODELS.get(model, model): picture for model, picture in models.items()}
    return {"prompt": first["prompt"], **shown, **scores}


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
