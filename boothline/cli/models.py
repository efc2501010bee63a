"""Commands on registered models: models, promote, rollback."""

from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import emit, say

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of the registered model; see boothline models.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger with who.")]


@app.command(epilog=example("boothline models"))
def models(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """List the registered models: versions, champion and challenger, scores, verdict, age.

    Where MLflow's aliases differ from the store's ledger, the list says so.
    """
    import time

    from boothline.cli.summaries import say_drift, say_models
    from boothline.launch.local.session import open_session
    from boothline.launch.registered import drift_of, list_models

    session = open_session(home, start=False)
    listed = list_models(session.store)
    drift, unknown = drift_of(session)

    def show(target: "Console") -> None:
        say_models(target, listed, now=time.time())
        say_drift(target, drift, unknown=unknown)

    emit(
        {
            "models": [version.model_dump(mode="json") for version in listed],
            "drift": [found.model_dump(mode="json") for found in drift],
            "drift_unknown": unknown,
        },
        output,
        show,
    )


@app.command(
    epilog=example(
        "boothline promote boothline-teddy-bear 3",
        "boothline promote boothline-teddy-bear 2 --force --reason 'the judges prefer it'",
    )
)
def promote(
    model: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Version number.")],
    force: Annotated[
        bool, typer.Option("--force", help="Go past the gate; needs --reason.")
    ] = False,
    reason: Reason = "",
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a version that passed the gate the champion, or any version with --force."""
    from boothline.launch.local.session import existing_session
    from boothline.launch.registered import promote_version

    with existing_session(home, tracking=True) as session:
        entry = promote_version(session, model, version, reason=reason, force=force)
    past = ", past the gate" if entry.forced else ""
    emit(
        entry,
        output,
        lambda target: say(
            target,
            f"Version {entry.version} of {model} is the champion{past} "
            f"(entry {entry.number} of the ledger, by {entry.actor}).",
        ),
    )


@app.command(epilog=example("boothline rollback boothline-teddy-bear --reason 'bad pictures'"))
def rollback(
    model: ModelName,
    reason: Reason = "rolled back by hand",
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make the champion before the current one the champion again."""
    from boothline.launch.local.session import actor_of, existing_session
    from boothline.registry.promotion import rollback as roll_back

    with existing_session(home, tracking=True) as session:
        actor = actor_of(session.settings)
        entry = roll_back(session.store, session.settings, model, reason=reason, actor=actor)
    emit(
        entry,
        output,
        lambda target: say(target, f"Version {entry.version} of {model} is the champion again."),
    )
