"""The card of a model for a hub: what it draws, how it was judged, what it was made from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from boothline.measures import Score
from boothline.registry.versions import ModelVersion
from boothline.results import BASE, Evaluation, Model, Promotion

PICTURES: Final = "pictures/"
# Of the hub's own names those that its models have; another name is given as text.
_KNOWN_LICENCES: Final = frozenset(
    {"afl-3.0", "apache-2.0", "bigscience-openrail-m", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0",
     "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "creativeml-openrail-m", "gpl-3.0", "mit",
     "openrail", "openrail++", "unknown"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """A picture of the evaluation that the card shows.

    Attributes:
        file: its name in the repository.
        prompt: what it was asked for.
    """

    file: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        version: the version.
        model: what its manifest says.
        licence: of the base model; empty: not known.
        evaluation: how it was evaluated, if it was.
        promotion: what the gate said, if it judged.
        pictures: those that are shown.
        settings: of the training, by dotted name.
        dataset: reference of the subject's pictures; empty: not known.
        num_pictures: how many they are.
        loading: how tools load it.
        boothline: version of Boothline.
    """

    version: ModelVersion
    model: Model
    licence: str
    evaluation: Evaluation | None
    promotion: Promotion | None
    pictures: Sequence[Pictured]
    settings: Mapping[str, object]
    dataset: str
    num_pictures: int
    loading: Mapping[str, Sequence[str]]
    boothline: str


def model_card(facts: CardFacts) -> str:
    """Return the README.md of a repository: the hub's header, then Markdown."""
    phrases = facts.model.phrases
    subject = phrases[0]
    words = " and ".join(f"`{phrase}`" for phrase in phrases)
    count = "one subject" if len(phrases) == 1 else f"{len(phrases)} subjects"
    parts = [
        f"---\n{yaml.safe_dump(_header(facts, subject), sort_keys=False, allow_unicode=True)}---",
        f"# {facts.version.name}, version {facts.version.version}",
        f"A text-to-image model that was personalised on {_pictures(facts)} of {count} by "
        f"DreamBooth. The words {words} draw {'it' if len(phrases) == 1 else 'them'}.",
        _gallery(facts.pictures),
        *_tools(facts.loading),
        _scores(facts.evaluation),
        _verdict(facts.promotion),
        _table("Settings of the training", ("setting", "value"), _settings(facts.settings)),
        _table("Provenance", ("what", "value"), _provenance(facts)),
        "## Licence\n\n" + _licence(facts),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _header(facts: CardFacts, subject: str) -> dict[str, object]:
    """Return what the hub reads: licence, library, base, tags."""
    licence = facts.licence or "unknown"
    known = licence.lower() in _KNOWN_LICENCES
    header: dict[str, object] = {"license": licence.lower() if known else "other"}
    if not known:
        header["license_name"] = licence.lower().replace(" ", "-")
    base = facts.model.base_model.source.partition("@")[0]
    if "/" in base and not base.startswith("/"):
        header["base_model"] = base
    kind = ["lora"] if facts.model.method == "lora" else []
    return header | {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "instance_prompt": f"a photo of {subject}",
        "tags": ["text-to-image", "diffusers", "dreambooth", "boothline", *kind],
        "widget": [
            {"text": picture.prompt, "output": {"url": picture.file}} for picture in facts.pictures
        ],
    }


def _pictures(facts: CardFacts) -> str:
    return f"{facts.num_pictures} pictures" if facts.num_pictures else "pictures"


def _gallery(pictures: Sequence[Pictured]) -> str:
    """Return the pictures in one row, each with its prompt."""
    if not pictures:
        return ""
    shown = " | ".join(f"![{_plain(each.prompt)}]({each.file})" for each in pictures)
    asked = " | ".join(_plain(each.prompt) for each in pictures)
    rule = " | ".join("---" for _ in pictures)
    return (
        f"| {shown} |\n| {rule} |\n| {asked} |\n\nPictures of its evaluation, none chosen by eye."
    )


def _tools(loading: Mapping[str, Sequence[str]]) -> list[str]:
    """Return how each tool loads the model."""
    return [
        f"## {tool}\n\n```{'python' if tool == 'diffusers' else ''}\n" + "\n".join(lines) + "\n```"
        for tool, lines in loading.items()
    ]


def _scores(evaluation: Evaluation | None) -> str:
    """Return the scores of the model next to those of its base."""
    if evaluation is None:
        return ""
    base, gains = evaluation.scores(BASE), evaluation.gained(BASE)
    rows = [
        (name, _number(score), _number(base.get(name)), _gain(gains.get(name)))
        for name, score in evaluation.scores().items()
    ]
    return _table("Scores", ("metric", "this model", "its base", "gain (95 %)"), rows)


def _number(score: Score | None) -> str:
    return "" if score is None else f"{score.mean:.3f}"


def _gain(score: Score | None) -> str:
    """Return a gain with its interval, where there is one."""
    if score is None:
        return ""
    known = score.low is not None and score.high is not None
    interval = f" ({score.low:+z.3f} to {score.high:+z.3f})" if known else ""
    return f"{score.mean:+z.3f}{interval}"


def _verdict(promotion: Promotion | None) -> str:
    if promotion is None:
        return ""
    rules = "\n".join(f"- {rule.text}" for rule in promotion.rules)
    return f"## Gate: {promotion.verdict}\n\n{rules}"


def _settings(settings: Mapping[str, object]) -> list[tuple[str, ...]]:
    def text(value: object) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return [(f"`{name}`", text(value)) for name, value in settings.items() if value is not None]


def _provenance(facts: CardFacts) -> list[tuple[str, ...]]:
    base = facts.model.base_model
    rows = {
        "manifest": f"`{facts.version.ref}`",
        "base model": f"{base.source} (digest `{base.digest}`)",
        "pictures": f"`{facts.dataset}`" if facts.dataset else "",
        "state": f"`{facts.model.state}`" if facts.model.state else "",
        "made by": f"Boothline {facts.boothline}",
        "digests of all files": "[provenance.json](provenance.json)",
    }
    return [(name, value) for name, value in rows.items() if value]


def _licence(facts: CardFacts) -> str:
    if not facts.licence:
        return "The licence of the base model holds for this model, too; it is not known here."
    return f"The licence of the base model, {facts.licence}, holds for this model, too."


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table under a title; nothing without rows."""
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *([_plain(cell) for cell in row] for row in rows)]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return text that stays within a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
