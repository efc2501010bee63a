"""Turns an evaluation into metrics to compare, with names for people."""

from boothline.config import RunConfig
from boothline.report.model import Contender, Metric
from boothline.report.records import EvaluationRecord

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
            ("CLIP model", settings.clip_model),
            ("DINO model", settings.dino_model),
            ("Bootstrap resamples", str(settings.num_bootstrap)),
        ]
    return tuple(facts)
