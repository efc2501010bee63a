"""Turns an evaluation into metrics to compare, with names for people."""

from boothline.config import RunConfig
from boothline.measures import METRICS, Score
from boothline.report.model import Contender, Metric
from boothline.results import BASE, CHAMPION, FINE_TUNED, REAL, Evaluation

CONTENDERS = {
    FINE_TUNED: "Fine-tuned",
    CHAMPION: "Champion",
    BASE: "Base",
    REAL: "Real pictures",
}
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


def published_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """Return subject fidelity as a share of the real pictures' own, beside the published figures.

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
    """Tell whether the configured encoders are those that the paper measured with."""
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
