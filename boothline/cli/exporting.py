"""The commands that take a model out: export, push."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import console, emit, say, say_lines

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.launch.pushing import Pushed
    from boothline.registry.exporting import Exported

app = typer.Typer()
_MEGABYTE = 10**6


class ExportFormat(StrEnum):
    """What is written."""

    DIFFUSERS = "diffusers"
    SINGLE_FILE = "single-file"
    LORA = "lora"
    COMFYUI = "comfyui"


class PushFormat(StrEnum):
    """What is uploaded."""

    DIFFUSERS = "diffusers"
    SINGLE_FILE = "single-file"
    LORA = "lora"


@app.command(
    epilog=example(
        "boothline export boothline-teddy-bear teddy",
        "boothline export boothline-teddy-bear@3 teddy --format single-file",
        "boothline export boothline-teddy-bear@champion ComfyUI/models --format comfyui",
    )
)
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@VERSION]",
            help="Registered model, and champion (the default), challenger or a number.",
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write: a new or an empty one.")
    ],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="diffusers: a folder for from_pretrained; single-file: one checkpoint (A1111, "
            "ComfyUI); lora: the adapters; comfyui: into the folders of ComfyUI/models.",
        ),
    ] = ExportFormat.DIFFUSERS,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a registered model to a folder that other tools load, verified while it is written."""
    from boothline.launch.local.session import existing_session
    from boothline.registry.exporting import export_model

    name, _, version = model.partition("@")
    with (
        console(stderr=True).status(f"Exporting {name}") as status,
        existing_session(home) as session,
    ):
        done = export_model(
            session.store,
            session.settings,
            model=(name, version or "champion"),
            folder=folder,
            form=form.value,
            on_progress=lambda done, total: status.update(
                f"Exporting {name}: {done // _MEGABYTE} of {total // _MEGABYTE} MB"
            ),
        )
    emit(done, output, lambda target: _say_export(target, done))


@app.command(
    epilog=example(
        "boothline push boothline-teddy-bear my-team/teddy-bear --dry-run",
        "boothline push boothline-teddy-bear@3 my-team/teddy-bear --public",
        "boothline push boothline-teddy-bear my-team/teddy-lora --format lora",
    )
)
def push(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@VERSION]",
            help="Registered model, and champion (the default), challenger or a number.",
        ),
    ],
    repository: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/NAME", help="Repository of the model hub; made if it is missing."
        ),
    ],
    form: Annotated[
        PushFormat, typer.Option("--format", help="Of the weights, as in boothline export.")
    ] = PushFormat.DIFFUSERS,
    public: Annotated[
        bool, typer.Option("--public", help="Let a new repository be public; else it is private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the card and the files; upload nothing.")
    ] = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Upload a registered model to a model hub, with a card of its pictures, scores and origin."""
    from boothline.launch.local.session import existing_session
    from boothline.launch.pushing import push_model

    name, _, version = model.partition("@")
    with (
        console(stderr=True).status(f"Gathering {name}") as status,
        existing_session(home) as session,
    ):
        done = push_model(
            session,
            model=(name, version or "champion"),
            repository=repository,
            form=form.value,
            private=not public,
            dry_run=dry_run,
            on_progress=lambda done, total: status.update(
                f"Pushing {name}: gathered {done // _MEGABYTE} of {total // _MEGABYTE} MB"
            ),
        )
    emit(done, output, lambda target: _say_push(target, done))


def _say_push(target: "Console", done: "Pushed") -> None:
    """Print what was uploaded, or the card and the files that would be."""
    total = f"{len(done.files)} files, {sum(done.files.values()) / _MEGABYTE:.1f} MB"
    what = f"version {done.version} of {done.model} to {done.repository}: {total}"
    if done.url:
        say(target, f"Pushed {what}.\n{done.url}")
        return
    say(target, f"Would push {what}.\n")
    say_lines(target, (f"  {name}  {size:,} B" for name, size in done.files.items()))
    say(target, f"\nREADME.md\n\n{done.card}")


def _say_export(target: "Console", done: "Exported") -> None:
    """Print what was written, and how other tools load it."""
    say(
        target,
        f"Wrote version {done.version} of {done.model} to {done.folder}: {len(done.files)} files, "
        f"{done.num_bytes / _MEGABYTE:.1f} MB, every byte verified.",
    )
    for tool, lines in done.loading.items():
        say(target, f"\n{tool}", style="bold")
        say_lines(target, (f"  {line}" for line in lines))
