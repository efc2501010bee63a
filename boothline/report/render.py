"""Renders the report's view model into one self-contained HTML page."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from boothline.report import drawing
from boothline.report.charts import interval_chart, loss_chart, score_chart
from boothline.report.drawing import lineage_chart
from boothline.report.model import RunReport, SweepReport, Verdict
from boothline.report.outcome import resume_command
from boothline.report.scores import leaderboard
from boothline.results import TrialRow

TEMPLATE = "report.html.j2"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return the template environment: escapes everything, refuses unknown names."""
    environment = Environment(
        loader=PackageLoader("boothline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=drawing.number,
        signed=drawing.signed,
        duration=drawing.duration,
        size=drawing.size,
        energy=drawing.energy,
        processor_time=drawing.processor_time,
        moment=moment,
        loss_chart=loss_chart,
        score_chart=score_chart,
        interval_chart=interval_chart,
        lineage_chart=lineage_chart,
    )
    return environment


def moment(seconds: float) -> str:
    """Return a time for people, in UTC: `22 November 2026, 10:42 UTC`."""
    when = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def script_digest(script: str) -> str:
    """Return the expression that allows exactly this script in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def render(report: RunReport) -> str:
    """Return the report of a run: no request leaves the page, and it runs only its own script."""
    return render_page(
        TEMPLATE,
        report,
        resume=resume_command(report.run_id),
        longest_step_seconds=max((step.seconds for step in report.steps), default=0.0),
        alone=False,
    )


def render_trials(model_name: str, rows: Sequence[TrialRow]) -> str:
    """Return the leaderboard of a sweep as a page of its own, as it stands in the report.

    Args:
        model_name: the registered model that the trials compete for.
        rows: the trials, the best first.
    """
    verdict = Verdict(tone="plain", word="sweep", title=f"Sweep of {model_name}")
    report = SweepReport(verdict=verdict, leaderboard=leaderboard(rows))
    return render_page("sweep.html.j2", report, alone=True)


def render_prompt_page(*, name: str, version: int, digest: str, samplers: Sequence[str]) -> str:
    """Return the page on which the prompts of a served model are tried.

    Args:
        name: the registered model.
        version: its version that answers now.
        digest: of that version.
        samplers: those to choose from.
    """
    environment = _environment()
    script = _asset(environment, "serve.js")
    return environment.get_template("serve.html.j2").render(
        name=name,
        version=version,
        digest=digest[:12],
        samplers=samplers,
        css=Markup(_asset(environment, "report.css")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_digest=script_digest(script),
    )


def render_page(template: str, report: object, **values: object) -> str:
    """Return a page of this package: a template in the common frame.

    Args:
        template: file name of the template; it extends page.html.j2.
        report: its view model, with a `verdict`.
        values: what else the template names.
    """
    environment = _environment()
    script = _asset(environment, "report.js")
    return environment.get_template(template).render(
        report=report,
        # The two assets are part of this package, not input.
        css=Markup(_asset(environment, "report.css")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_digest=script_digest(script),
        **values,
    )


def _asset(environment: Environment, name: str) -> str:
    """Return a file of the templates folder as it stands."""
    loader = environment.loader
    if loader is None:
        raise LookupError(name)
    return loader.get_source(environment, name)[0].strip()
