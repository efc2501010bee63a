"""Commands on registered models: models, promote, rollback, generate."""

from pathlib import Path
from typing import Annotated

import typer

from boothline.errors import ConfigError
from pipelines.cli.options import Home, Output, OutputOption, example
from pipelines.cli.printing import console, emit, say, say_lines, say_table

app = typer.Typer()
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of the registered model; see boothline models.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger with who.")]


@app.command(epilog=example("boothline models"))
def models(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """List the registered models: versions, champion and challenger, scores, verdict, age."""
    import time

    from pipelines.cli.summaries import MODEL_TITLES, model_row
    from pipelines.local.session import open_session
    from pipelines.registered import list_models

    listed = list_models(open_session(home).store)
    rows = [model_row(version, now=time.time()) for version in listed]
    emit(
        {"models": [version.model_dump(mode="json") for version in listed]},
        output,
        lambda target: say_table(target, MODEL_TITLES, rows),
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
    from pipelines.local.session import open_session
    from pipelines.registered import promote_version

    session = open_session(home, tracking=True)
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
    from boothline.registry.promotion import rollback as roll_back
    from pipelines.local.session import open_session
    from pipelines.registered import actor_of

    session = open_session(home, tracking=True)
    actor = actor_of(session.settings)
    entry = roll_back(session.store, session.settings, model, reason=reason, actor=actor)
    emit(
        entry,
        output,
        lambda target: say(target, f"Version {entry.version} of {model} is the champion again."),
    )


@app.command(
    epilog=example(
        'boothline generate "a photo of sks bear on the moon" --model boothline-teddy-bear@champion'
    )
)
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What the pictures show.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="File of prompts: .txt, .csv or .jsonl.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME[@VERSION]",
            help="Model and version, champion by default; the last run's model by default.",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder for the pictures.")
    ] = Path("pictures"),
    num_images: Annotated[
        int, typer.Option("--images", min=1, max=1000, help="Pictures per prompt.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 0,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make pictures with a registered model."""
    from boothline.diffusion.prompts import PromptRow, read_prompts
    from pipelines.generating import make_pictures
    from pipelines.local.folder import existing_folder
    from pipelines.local.session import home_folder, open_session

    if (prompt is None) == (prompts is None):
        raise ConfigError(
            "Give either a prompt or --prompts FILE.",
            remedy='For example: boothline generate "a photo of sks bear on the moon".',
        )
    rows = [PromptRow(prompt=prompt)] if prompt is not None else read_prompts(Path(str(prompts)))
    if model is None:
        model = existing_folder(home_folder(home), None).read_config().model_name
    name, _, version = model.partition("@")
    target = console(stderr=True)
    with target.status(f"Making {len(rows) * num_images} pictures with {name}"):
        made = make_pictures(
            open_session(home),
            rows,
            model=(name, version or "champion"),
            folder=output_dir,
            num_images=num_images,
            seed=seed,
        )
    emit(made, output, lambda target: say_lines(target, made.pictures))
