"""What was measured, for people: metrics to compare, a sweep's trials, likeness to the training."""

from collections.abc import Sequence

from boothline import results
from boothline.config import RunConfig
from boothline.measures import METRICS, Score
from boothline.report.confusion import ConfusionTable
from boothline.report.drawing import number
from boothline.report.model import (
    Contender,
    Copies,
    CopyPair,
    Leaderboard,
    Metric,
    Picture,
    TrialLine,
)
from boothline.report.pictures import PictureLoader, Wanted
from boothline.report.sources import RunSources, ScoreRow, Source
from boothline.results import BASE, CHAMPION, FINE_TUNED, REAL, CopySigns, Evaluation
from boothline.trials import in_words

CONTENDERS = {
    FINE_TUNED: "Fine-tuned",
    CHAMPION: "Champion",
    BASE: "Base",
    REAL: "Real pictures",
}
MAX_PAIRS = 6
PAPER = "paper"
PUBLISHED_REAL = {"dino": 0.774, "clip_i": 0.885}
PUBLISHED = {
    "DreamBooth, Imagen": {"dino": 0.696, "clip_i": 0.812, "clip_t": 0.306},
    "DreamBooth, SD": {"dino": 0.668, "clip_i": 0.803, "clip_t": 0.305},
    "Textual Inversion": {"dino": 0.569, "clip_i": 0.780, "clip_t": 0.255},
}
"""Means over 30 subjects in table 1 of Ruiz et al., CVPR 2023 (DINO ViT-S/16, CLIP ViT-B/32)."""


def metrics_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """Return the metrics that the fine-tuned model was measured by, best known first."""
    return tuple(_metric(key, evaluation) for key in evaluation.scores())


def _metric(key: str, evaluation: Evaluation) -> Metric:
    """Return one metric with every contender that has it."""
    metric = METRICS.get(key)
    contenders = tuple(
        Contender(key=who, name=title, estimate=score)
        for who, title in CONTENDERS.items()
        if (score := evaluation.scores(who).get(key))
    )
    return Metric(
        key=key,
        name=metric.title if metric else key.replace("_", " ").capitalize(),
        meaning=metric.explanation if metric else "",
        contenders=contenders,
        gain=evaluation.gained(BASE).get(key),
    )


def confusion_tables(evaluation: Evaluation | None) -> tuple[ConfusionTable, ...]:
    """Return how far each model takes its subjects for each other; nothing for one subject."""
    confusion = evaluation.confusion if evaluation else None
    if confusion is None:
        return ()
    names = confusion.subjects
    return tuple(
        ConfusionTable(
            title=title,
            confused=confusion.confused(model),
            rows=tuple(
                (name, tuple(zip(shares, scores, strict=True)))
                for name, shares, scores in zip(
                    names, confusion.shares[model], confusion.scores[model], strict=True
                )
            ),
        )
        for model, title in CONTENDERS.items()
        if model in confusion.shares
    )


def published_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """Return subject fidelity as a share of the real pictures' own, next to the published figures.

    Cosines of different encoders have different ranges, so no value of one is drawn on the scale
    of another; the share of what real pictures reach is the nearest that they have in common.
    """
    real, measured = evaluation.scores(REAL), evaluation.scores()
    return tuple(
        _share(key, evaluation)
        for key in PUBLISHED_REAL
        if key in measured and key in real and real[key].mean > 0
    )


def _share(key: str, evaluation: Evaluation) -> Metric:
    """Return one score, of this run and of the paper, divided by that of the real pictures."""
    real = evaluation.scores(REAL)[key].mean
    here = [
        Contender(key=who, name=title, estimate=score.divided(real))
        for who, title in CONTENDERS.items()
        if who != REAL and (score := evaluation.scores(who).get(key))
    ]
    there = [
        Contender(key=PAPER, name=title, estimate=Score(mean=row[key] / PUBLISHED_REAL[key]))
        for title, row in PUBLISHED.items()
    ]
    name = METRICS[key].short
    return Metric(key=f"{key}_share", name=name, meaning="", contenders=(*here, *there))


def has_papers_encoders(config: RunConfig | None) -> bool:
    """Return whether the configured encoders are those that the paper measured with."""
    if config is None:
        return False
    evaluation = config.evaluation
    return (
        "dino-vits16" in evaluation.dino_model and "clip-vit-base-patch32" in evaluation.clip_model
    )


def evaluation_facts(
    evaluation: Evaluation, config: RunConfig | None
) -> tuple[tuple[str, str], ...]:
    """Return how the scores were measured."""
    facts = [
        ("Prompts", str(len(evaluation.prompts))),
        ("Pictures per prompt", str(evaluation.images_per_prompt)),
    ]
    if evaluation.div_distance:
        facts.append(("Distance of DIV", evaluation.div_distance))
    if config:
        settings = config.evaluation
        facts += [
            ("Sampler", f"{settings.sampling.sampler}, {settings.sampling.num_steps} steps"),
            ("Guidance scale", f"{settings.sampling.guidance_scale:g}"),
            ("Seed", str(settings.sampling.seed)),
            ("Prompt list", settings.prompt_set),
            ("CLIP model", settings.clip_model),
            ("DINO model", settings.dino_model),
            ("Bootstrap resamples", str(settings.num_bootstrap)),
        ]
    return tuple(facts)


def leaderboard_of(run: RunSources) -> Leaderboard:
    """Return the trials that a sweep compared, the best first; nothing for other runs."""
    found = run.read("compare_trials", results.Leaderboard, "The leaderboard")
    return leaderboard(found.trials) if found else Leaderboard()


def leaderboard(rows: Sequence[results.TrialRow]) -> Leaderboard:
    """Return trials, the best first, as they are shown."""
    measured = [
        metric.short for name, metric in METRICS.items() if any(name in row.scores for row in rows)
    ]
    return Leaderboard(trials=tuple(_line(row) for row in rows), scores=tuple(measured))


def _line(row: results.TrialRow) -> TrialLine:
    """Return one row of the leaderboard."""
    return TrialLine(
        number=row.trial,
        settings=in_words(row.settings),
        scores={METRICS[name].short: mean for name, mean in row.scores.items() if name in METRICS},
        failure=row.failure,
    )


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
