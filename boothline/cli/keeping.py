"""Commands that look after what is stored: verify, gc."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import console, emit, is_live, say, say_table
from boothline.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.store import Store
    from boothline.store.garbage import Garbage
    from boothline.store.verification import Verification

app = typer.Typer()

HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS
_MEBIBYTE = 2**20
_LINE_SECONDS = 10.0
OnProgress = Callable[[int, int], None]


@app.command(epilog=example("boothline verify", "boothline verify --output json"))
def verify(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """Read and hash everything that is stored, and name what is damaged and who uses it."""
    from boothline.errors import IntegrityError
    from boothline.store.verification import verify as examine

    with (
        progress("verifying", unit_bytes=_MEBIBYTE, unit="MiB") as report,
        stored(home) as store,
    ):
        found = examine(store, on_progress=report)
    emit(found, output, lambda target: _say_verification(target, found))
    if found.damages:
        first = found.damages[0]
        raise IntegrityError(
            f"{len(found.damages)} stored objects are damaged; the first: {first.uri}"
            f" {first.problem}.",
            remedy="Restore them from a copy of the bucket; or delete them and the manifests that"
            " use them, then resume the runs that made those.",
        )


@app.command(epilog=example("boothline gc", "boothline gc --delete --runs-older-than 90"))
def gc(
    delete: Annotated[
        bool,
        typer.Option("--delete/--dry-run", help="Delete it; otherwise it is only counted."),
    ] = False,
    grace_hours: Annotated[
        float, typer.Option("--grace-hours", min=1, help="Nothing younger is deleted.")
    ] = 24,
    runs_older_than: Annotated[
        float | None,
        typer.Option(
            "--runs-older-than",
            min=1,
            metavar="DAYS",
            help="Forget older runs, with what only they need; registered models are kept.",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Find what no run, model or training needs any more, and delete it with --delete."""
    from boothline.store.garbage import Retention, collect

    retention = Retention(
        grace_seconds=grace_hours * HOUR_SECONDS,
        runs_seconds=None if runs_older_than is None else runs_older_than * DAY_SECONDS,
    )
    with progress("reading", unit_bytes=1, unit="objects") as report, stored(home) as store:
        garbage = collect(store, retention=retention, delete=delete, on_progress=report)
    emit(_summary(garbage, deleted=delete), output, lambda t: _say_garbage(t, garbage, delete))


@contextmanager
def stored(home: Path | None) -> "Iterator[Store]":
    """Open the store of a home folder.

    Raises:
        ConfigError: nothing was ever stored there: it is the wrong folder, most likely.
    """
    from boothline.launch.local.session import existing_session

    with existing_session(home) as session:
        if session.is_new:
            raise ConfigError(
                f"Nothing is stored in {session.home}.",
                remedy="Name the home folder of your runs with --home.",
            )
        yield session.store


def _summary(garbage: "Garbage", *, deleted: bool) -> dict[str, object]:
    """Return what was found as one JSON object."""
    return {
        "deleted": deleted,
        "num_bytes": garbage.num_bytes,
        "manifests": [item.key for item in garbage.manifests],
        "records": [item.key for item in garbage.records],
        "blobs": [item.key for item in garbage.blobs],
        "uploads": [item.key for item in garbage.uploads],
    }


def _say_garbage(target: "Console", garbage: "Garbage", deleted: bool) -> None:
    rows = [
        ("manifests", str(len(garbage.manifests))),
        ("records", str(len(garbage.records))),
        ("blobs", str(len(garbage.blobs))),
        ("unfinished uploads", str(len(garbage.uploads))),
    ]
    say_table(target, ("Kind", "Deleted" if deleted else "Not needed"), rows)
    size = f"{garbage.num_bytes / _MEBIBYTE:.1f} MiB"
    if deleted:
        say(target, f"Freed {size}.")
    elif len(garbage):
        say(target, f"{size} can be freed with --delete; nothing was deleted.")


def _say_verification(target: "Console", found: "Verification") -> None:
    for damage in found.damages:
        say(target, f"{damage.uri} {damage.problem}", style="bold red")
        for user in damage.used_by:
            say(target, f"  used by {user}")
    say(
        target,
        f"Read {found.num_manifests} manifests, {found.num_records} records and"
        f" {found.num_blobs} blobs ({found.num_bytes / _MEBIBYTE:.1f} MiB):"
        f" {len(found.damages) or 'none'} damaged.",
    )
    if found.missing_inputs:
        say(target, f"The lineage of some ends early: {len(found.missing_inputs)} inputs are gone.")


@contextmanager
def progress(what: str, *, unit_bytes: int, unit: str) -> Iterator[OnProgress]:
    """Yield a function that shows how far a command is: a bar on a terminal, else plain lines."""
    target = console(stderr=True)
    if not is_live(target):
        yield _plain_lines(what, unit_bytes=unit_bytes, unit=unit)
        return
    from rich.progress import Progress, TimeRemainingColumn

    with Progress(
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        console=target,
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain_lines(what: str, *, unit_bytes: int, unit: str) -> OnProgress:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            say(
                console(stderr=True),
                f"{what}: {done // unit_bytes} of {total // unit_bytes} {unit}",
            )

    return report
