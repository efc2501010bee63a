"""Prints a run for people."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from boothline.cli.printing import say, say_lines, say_table
from boothline.launch.local.display import duration
from boothline.launch.local.summary import Summary
from boothline.measures import METRICS, Metric
from boothline.results import BASE, CHAMPION

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from boothline.launch.lineage import Link
    from boothline.launch.registered import ListedVersion
    from boothline.registry.drift import Drift

_MODEL_METRICS = [METRICS[name] for name in ("score", "dino", "clip_t")]
_MODEL_TITLES = (
    *("Version", "Alias"),
    *(metric.short for metric in _MODEL_METRICS),
    *("Gate", "Age", "Digest"),
)
_USUAL_SECTION = "training."
_PASSED_SILENTLY = "scores are finite numbers: passed."


def say_summary(target: "Console", summary: Summary) -> None:
    """Print the summary of a run."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, value in _facts(summary):
        rows.add_row(Text(name), Text(value))
    if summary.trials:
        say_trials(target, summary)
    target.print(Panel(rows, title=f"{summary.run_id}: {summary.status}", expand=False))
    # Outside the panel, where nothing wraps them: these are for copying.
    if summary.model:
        say(target, f"Digest: sha256:{summary.model.digest}")
    say_lines(target, (f"{name}: {place}" for name, place in _places(summary) if place))
    if summary.model and summary.model.version:
        model = f"{summary.model.name}@{summary.model.version}"
        say(target, f"Export: boothline export {model} DIR")


def say_status(target: "Console", summary: Summary) -> None:
    """Print the steps of a run, how far they are while it runs, then what it came to."""
    if summary.progress:
        say_progress(target, summary)
    else:
        say_steps(target, summary)
    say_summary(target, summary)


def say_progress(target: "Console", summary: Summary) -> None:
    """Print how far each step of a running run is."""
    say_table(
        target,
        ("Step", "Status", "Progress", "Note", "Time", "Left"),
        [
            (
                step.step,
                step.status,
                f"{step.done}/{step.total} {step.unit}" if step.total else "",
                step.note,
                duration(step.seconds) if step.seconds else "",
                duration(step.seconds_left) if step.status == "running" else "",
            )
            for step in summary.progress
        ],
    )


def say_steps(target: "Console", summary: Summary) -> None:
    """Print the steps of a run as a table."""
    say_table(
        target,
        ("Step", "Status", "Time", "Manifest"),
        [
            (
                step.name,
                "reused" if step.reused else step.status,
                duration(step.seconds),
                step.manifest.rpartition("@")[2][:19],
            )
            for step in summary.steps
        ],
    )


def say_lineage(target: "Console", link: "Link") -> None:
    """Print what a picture was made from as a tree."""
    target.print(_branch(link))


def _branch(link: "Link") -> "Tree":
    """Return one thing and all that it was made from."""
    from rich.text import Text
    from rich.tree import Tree

    label = Text(link.name, style="bold")
    if link.digest:
        label.append(f"  sha256:{link.digest[:12]}", style="dim")
    facts = ", ".join(f"{name} {value}" for name, value in link.facts.items() if value != "")
    if facts:
        label.append(f"\n{facts}", style="none")
    tree = Tree(label)
    for part in link.made_from:
        tree.children.append(_branch(part))
    return tree


def say_models(target: "Console", listed: Sequence["ListedVersion"], *, now: float) -> None:
    """Print every model with its champion and a table of its versions.

    Args:
        target: where to.
        listed: all versions, those of a model together.
        now: seconds since the epoch.
    """
    if not listed:
        say(target, "No model is registered yet.")
    for number, (name, versions) in enumerate(groupby(listed, key=lambda version: version.name)):
        together = list(versions)
        say(target, ("\n" if number else "") + name + _reign(together, now=now), style="bold")
        say_table(target, _MODEL_TITLES, [_model_row(version, now=now) for version in together])


def say_drift(target: "Console", drift: Sequence["Drift"], *, unknown: str) -> None:
    """Print where MLflow's aliases differ from the ledger; nothing where they do not.

    Args:
        target: where to.
        drift: the differences.
        unknown: why nothing could be compared; empty: it could.
    """
    from boothline.registry.drift import REMEDY

    if unknown:
        say(target, f"\nNot compared with MLflow: {unknown}")
    for found in drift:
        say(target, f"\nWarning: {found.text}. {REMEDY}")


def _reign(versions: Sequence["ListedVersion"], *, now: float) -> str:
    """Return which version is champion, and since when; empty: none."""
    for version in versions:
        if version.champion_since:
            since = age(now - version.champion_since)
            return f": version {version.version} is champion for {since}"
    return ""


def _model_row(version: "ListedVersion", *, now: float) -> tuple[str, ...]:
    """Return a version as a row under _MODEL_TITLES."""
    scores = [
        metric.text(version.scores[metric.name]) if metric.name in version.scores else ""
        for metric in _MODEL_METRICS
    ]
    gate = f"{version.verdict}, forced" if version.forced else version.verdict
    return (
        str(version.version),
        version.alias,
        *scores,
        gate.removeprefix(", "),
        age(now - version.created_at) if version.created_at else "",
        version.digest[:12],
    )


def age(seconds: float) -> str:
    """Return an age as people say it: 40 s, 12 min, 5 h, 3 days."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length or (unit != "days" and seconds >= length):
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def say_trials(target: "Console", summary: Summary) -> None:
    """Print the leaderboard of a sweep."""
    shown = [
        metric
        for name, metric in METRICS.items()
        if any(name in trial.scores for trial in summary.trials)
    ]
    say_table(
        target,
        ("Place", "Trial", "Settings", *(metric.short for metric in shown)),
        [
            (
                str(place),
                str(trial.trial),
                trial.settings.replace(_USUAL_SECTION, ""),
                *(m.text(trial.scores[m.name]) if m.name in trial.scores else "" for m in shown),
            )
            for place, trial in enumerate(summary.trials, start=1)
        ],
    )
    failed = [trial for trial in summary.trials if trial.failure]
    say_lines(target, (f"Trial {trial.trial} failed at {trial.failure}" for trial in failed))


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """Return names and values of a run's results."""
    facts = [("time", _time(summary))]
    facts += [("trigger" if not i else "", text) for i, text in enumerate(summary.triggers)]
    if summary.pictures:
        facts.append(("pictures", summary.pictures))
    if summary.verdict:
        facts.append(("verdict", summary.verdict))
    facts += [("", rule) for rule in summary.rules if not rule.endswith(_PASSED_SILENTLY)]
    for name, metric in METRICS.items():
        if name in summary.metrics:
            title = metric.title[0].lower() + metric.title[1:]
            facts.append((title, _score(summary.metrics, metric)))
    if summary.model:
        version = f" version {summary.model.version}" if summary.model.version else ""
        facts.append(("model", f"{summary.model.name}{version}"))
    return facts


def _time(summary: Summary) -> str:
    """Return how long the last attempt took, and all of them together."""
    time = duration(summary.seconds)
    if len(summary.attempts) < 2:
        return time
    return f"{time} ({duration(sum(summary.attempts))} in {len(summary.attempts)} attempts)"


def _places(summary: Summary) -> list[tuple[str, str]]:
    """Return where to look further."""
    return [("Report", summary.report), ("MLflow", summary.mlflow)]


def _score(metrics: dict[str, float], metric: Metric) -> str:
    """Return a score of the fine-tuned model next to the base's and the champion's."""
    others = [
        f"{name} {metric.text(metrics[f'{name}_{metric.name}'])}"
        for name in (BASE, CHAMPION)
        if f"{name}_{metric.name}" in metrics
    ]
    return metric.text(metrics[metric.name]) + (f"  ({', '.join(others)})" if others else "")
