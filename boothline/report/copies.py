"""Shows how near generated pictures come to the training pictures."""

from boothline.report.axes import number
from boothline.report.model import Copies, CopyPair, Picture
from boothline.report.pictures import PictureLoader, Wanted
from boothline.report.records import ScoreRow
from boothline.report.sources import RunSources, Source
from boothline.results import FINE_TUNED, CopySigns, Evaluation

MAX_PAIRS = 6


def copies_of(run: RunSources, evaluation: Evaluation | None, loader: PictureLoader) -> Copies:
    """Return the generated pictures that come nearest to a training picture, nearest first."""
    source, dataset = run.first("evaluate"), run.first("validate_data")
    if evaluation is None or source is None or dataset is None or not evaluation.copies.num_images:
        return Copies()
    found = evaluation.copies
    rows = run.attempt("The scores of the pictures", lambda: _rows(run, source)) or []
    pairs = [_pair(row, source, dataset, loader, bound=found.bound) for row in rows[:MAX_PAIRS]]
    return Copies(
        pairs=tuple(pair for pair in pairs if pair),
        bound=found.bound,
        num_images=found.num_images,
        num_near_copies=found.num_near_copies,
        expected_share=found.expected_share,
        warning=found.warning,
    )


def warning_of(copies: CopySigns) -> str:
    """Return the sentence that warns of a model that repeats its training pictures, or nothing."""
    if not copies.warning:
        return ""
    return (
        f"{copies.num_near_copies} of {copies.num_images} generated pictures are nearer to a "
        "training picture than any two training pictures are to each other: the model may be "
        "repeating what it was shown."
    )


def _rows(run: RunSources, source: Source) -> list[ScoreRow]:
    """Return the fine-tuned model's rows that name a training picture, nearest first."""
    rows = [ScoreRow.model_validate_json(line) for line in run.lines(source, "scores.jsonl")]
    named = [row for row in rows if row.model == FINE_TUNED and row.nearest]
    return sorted(named, key=lambda row: (-row.nearest_cosine, row.image))


def _pair(
    row: ScoreRow, source: Source, dataset: Source, loader: PictureLoader, *, bound: float
) -> CopyPair | None:
    """Return one pair, or nothing when a picture is missing or the page is full."""
    cosine = f"cosine {number(row.nearest_cosine)}"
    generated = _picture(
        loader,
        Wanted(
            ref=source.ref,
            path=row.image,
            alt=f"Generated: {row.prompt}, sample {row.sample + 1}",
            caption=f"Generated: {row.prompt} ({cosine})",
            twin=row.image,
        ),
    )
    real = _picture(
        loader,
        Wanted(
            ref=dataset.ref,
            path=row.nearest,
            alt="The training picture that it is most like",
            caption="Training picture",
            twin=row.image,
        ),
    )
    if generated is None or real is None:
        return None
    return CopyPair(
        generated=generated,
        real=real,
        cosine=row.nearest_cosine,
        is_near_copy=row.nearest_cosine > bound,
    )


def _picture(loader: PictureLoader, wanted: Wanted) -> Picture | None:
    found = loader.gallery([wanted], limit=1).pictures
    return found[0] if found else None
