"""The report of a run: one self-contained HTML page that says first how the run ended."""

from boothline.report.collect import collect, collect_from
from boothline.report.model import RunReport
from boothline.report.render import render
from boothline.report.sources import RunNotFoundError
from boothline.store import Store

__all__ = [
    "RunNotFoundError",
    "RunReport",
    "collect",
    "collect_from",
    "render",
    "render_run",
]


def render_run(store: Store, run_id: str) -> str:
    """Return the report of a run, finished or not, as HTML.

    Raises:
        RunNotFoundError: the store has no record of the run.
        ServiceError: the store is unreachable.
    """
    return render(collect(store, run_id))
