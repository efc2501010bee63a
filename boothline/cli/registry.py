"""Commands on the registry as a whole: registry repair."""

from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import emit, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from boothline.registry.repair import Repair

app = typer.Typer()
registry = typer.Typer(no_args_is_help=True, help="Mend what MLflow shows of registered models.")
app.add_typer(registry, name="registry")


@registry.callback()
def _registry() -> None:
    """Mend what MLflow shows of the registered models."""


@registry.command(
    epilog=example("boothline registry repair --dry-run", "boothline registry repair")
)
def repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")
    ] = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make MLflow show what the store's ledger says, after it was lost or changed by hand.

    Versions that share a number get one each; versions and aliases that MLflow lacks are made
    again. Nothing is deleted; a second call finds nothing to do.
    """
    from boothline.launch.local.session import existing_session
    from boothline.registry.repair import repair as mend

    with existing_session(home, tracking=True) as session:
        done = mend(session.store, session.settings, dry_run=dry_run)
    emit(
        {
            "dry_run": dry_run,
            "mlflow": session.settings.mlflow_uri,
            "repairs": [found.model_dump(mode="json") for found in done],
        },
        output,
        lambda target: _say(target, done, dry_run=dry_run, mlflow=session.settings.mlflow_uri),
    )


def _say(target: "Console", done: "Sequence[Repair]", *, dry_run: bool, mlflow: str) -> None:
    """Print what was mended."""
    if not mlflow:
        say(target, "No tracking server is configured or runs: only version numbers were examined.")
    for found in done:
        say(target, f"{'Would do' if dry_run else 'Done'}: {found.text}.")
    if not done:
        say(target, "Nothing to repair: the registry agrees with the ledger.")
