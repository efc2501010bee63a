"""`boothline`: the command line's entry point."""

import errno
import logging
import sys
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

import boothline
from boothline.cli import (
    bases,
    cluster,
    completing,
    configuring,
    exporting,
    generating,
    inspecting,
    keeping,
    models,
    planning,
    registry,
    retraining,
    running,
    serving,
    sweeping,
)
from boothline.cli.printing import say_error
from boothline.errors import BoothlineError, ConfigError, DiskFullError

logger = logging.getLogger(__name__)

GROUPS = {
    "Start": ("demo", "init", "validate", "plan", "base", "doctor"),
    "Run": ("run", "resume", "sweep", "retrain"),
    "Look": ("status", "logs", "explain", "report", "models"),
    "Serve": ("generate", "serve", "export", "push", "promote", "rollback", "registry"),
    "Cluster": ("compile", "upload", "submit", "cancel", "schedule", "unschedule"),
    "Housekeeping": ("up", "down", "verify", "gc", "completions"),
}
_PANELS = {name: title for title, names in GROUPS.items() for name in names}


class _Grouped(TyperGroup):
    """The commands under headings, in the order in which they are used."""

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names of the commands, those of a group together."""
        place = {name: number for number, name in enumerate(_PANELS)}
        return sorted(self.commands, key=lambda name: place.get(name, len(place)))


app = typer.Typer(
    name="boothline",
    cls=_Grouped,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Personalise a text-to-image model on 3 to 5 pictures, as a pipeline with a gate, a "
    "registry and a report.",
    epilog="Exit codes: 0 done, 1 bug, 2 usage or configuration, 3 bad data, 4 gate refused, "
    "5 a service is unreachable or this machine failed, 130 interrupted.",
)
for group in (
    configuring,
    planning,
    serving,
    running,
    cluster,
    sweeping,
    retraining,
    inspecting,
    models,
    generating,
    exporting,
    keeping,
    bases,
    registry,
    completing,
):
    for command in group.app.registered_commands:
        called = command.name or getattr(command.callback, "__name__", "")
        command.rich_help_panel = _PANELS.get(called)
    for inner in group.app.registered_groups:
        inner.rich_help_panel = _PANELS.get(inner.name or "")
    app.add_typer(group.app)


def _show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(boothline.__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show log lines on stderr.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Configure logging."""
    if not verbose:  # it says of each try again what the error says in the end
        # The clients of Kubernetes and KFP set the level of "urllib3" itself.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    log_format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    if verbose:
        from boothline import logs
        from boothline.settings import current

        logs.configure(current().log_format, text=log_format)
    else:
        logging.basicConfig(level=logging.ERROR, format=log_format, stream=sys.stderr)


def main() -> None:
    """Run a command; an expected error becomes a message and an exit code, never a traceback."""
    completing.prepare()
    try:
        app(prog_name=completing.PROGRAM)
    except BoothlineError as error:
        _leave(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _leave(
                DiskFullError(
                    f"No space is left for {error.filename or 'a file'}.",
                    remedy="Free some space; nothing that was finished is lost.",
                )
            )
        if isinstance(error, PermissionError):
            _leave(
                ConfigError(
                    f"{error.filename or 'A file'} may not be read or written: {error.strerror}.",
                    remedy="Correct its permissions, or use another --home.",
                )
            )
        raise


def _leave(error: BoothlineError) -> NoReturn:
    """Print an expected error and exit with its code; its cause in full is for --verbose."""
    if error.__cause__ is not None:
        logger.info("caused by", exc_info=error.__cause__)
    say_error(error)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
