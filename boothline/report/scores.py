"""Turns an evaluation into metrics to compare, with names for people."""

from boothline.config import RunConfig
from boothline.report.model import Contender, Estimate, Metric
from boothline.report.records import EvaluationRecord, Measured

FINE_TUNED, BASE, CHAMPION, REAL = "finetuned", "base", "champion", "real"
CONTENDERS = {
    FINE_TUNED: "Fine-tuned",
    CHAMPION: "Champion",
    BASE: "Base",
    REAL: "Real pictures",
}
METRICS = {
    "dino": (
        "Subject fidelity",
        "DINO: how much generated pictures look like the real ones. Higher is better.",
    ),
    "clip_i": (
        "Subject fidelity, CLIP-I",
        "The same question, asked with the picture half of CLIP. Higher is better.",
    ),
    "clip_t": (
        "Prompt fidelity",
        "CLIP-T: how well a picture shows what its prompt says. Higher is better.",
    ),
    "score": (
        "Overall score",
        "Weighted mean of subject and prompt fidelity; the gate compares it with the champion's.",
    ),
    "pres": (
        "Prior preservation",
        "PRES: how much random pictures of the class look like the subject. Lower is better.",
    ),
    "div": ("Diversity", "DIV: how different the pictures of one prompt are. Higher is better."),
}

PAPER = "paper"
PUBLISHED_REAL = {"dino": 0.774, "clip_i": 0.885}
PUBLISHED = {
    "DreamBooth, Imagen": {"dino": 0.696, "clip_i": 0.812, "clip_t": 0.306},
    "DreamBooth, SD": {"dino": 0.668, "clip_i": 0.803, "clip_t": 0.305},
    "Textual Inversion": {"dino": 0.569, "clip_i": 0.780, "clip_t": 0.255},
}
"""Means over 30 subjects in table 1 of Ruiz et al., CVPR 2023 (DINO ViT-S/16, CLIP ViT-B/32)."""


def metrics_of(evaluation: EvaluationRecord) -> tuple[Metric, ...]:
    """Return the metrics that the fine-tuned model was measured by, best known first."""
    measured = evaluation.metrics.get(FINE_TUNED, {})
    known = [key for key in METRICS if key in measured]
    others = sorted(key for key in measured if key not in METRICS)
    return tuple(_metric(key, evaluation) for key in known + others)


def _metric(key: str, evaluation: EvaluationRecord) -> Metric:
    """Return one metric with every contender that has it."""
    name, meaning = METRICS.get(key, (key.replace("_", " ").capitalize(), ""))
    scores = {**evaluation.metrics, REAL: evaluation.real}
    contenders = tuple(
        Contender(key=contender, name=title, estimate=scores[contender][key].estimate())
        for contender, title in CONTENDERS.items()
        if key in scores.get(contender, {})
    )
    gain = evaluation.gains.get(BASE, {}).get(key)
    return Metric(
        key=key,
        name=name,
        meaning=meaning,
        contenders=contenders,
        gain=gain.estimate() if gain else None,
    )


def published_of(evaluation: EvaluationRecord) -> tuple[Metric, ...]:
    """Return subject fidelity as a share of the real pictures' own, beside the published figures.

    Cosines of different encoders have different ranges, so no value of one is drawn on the scale
    of another; the share of what real pictures reach is the nearest that they have in common.
    """
    return tuple(
        _share(key, name, evaluation)
        for key, name in (("dino", "DINO"), ("clip_i", "CLIP-I"))
        if key in evaluation.real
        and evaluation.real[key].mean > 0
        and key in evaluation.metrics.get(FINE_TUNED, {})
    )


def _share(key: str, name: str, evaluation: EvaluationRecord) -> Metric:
    """Return one score, of this run and of the paper, divided by that of the real pictures."""
    real = evaluation.real[key].mean
    here = [
        Contender(key=who, name=title, estimate=_divided(evaluation.metrics[who][key], real))
        for who, title in CONTENDERS.items()
        if key in evaluation.metrics.get(who, {})
    ]
    there = [
        Contender(key=PAPER, name=title, estimate=Estimate(mean=row[key] / PUBLISHED_REAL[key]))
        for title, row in PUBLISHED.items()
    ]
    return Metric(key=f"{key}_share", name=name, meaning="", contenders=(*here, *there))


def _divided(measured: Measured, by: float) -> Estimate:
    bounds = (measured.low, measured.high)
    low, high = (None if value is None else value / by for value in bounds)
    return Estimate(mean=measured.mean / by, low=low, high=high)


def has_papers_encoders(config: RunConfig | None) -> bool:
    """Tell whether the configured encoders are those that the paper measured with."""
    if config is None:
        return False
    evaluation = config.evaluation
    return (
        "dino-vits16" in evaluation.dino_model and "clip-vit-base-patch32" in evaluation.clip_model
    )


def evaluation_facts(
    evaluation: EvaluationRecord, config: RunConfig | None
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
