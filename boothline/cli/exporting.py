"""The command that takes a model out: export."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import console, emit, say, say_lines

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.registry.exporting import Exported

app = typer.Typer()
_MEGABYTE = 10**6


class ExportFormat(StrEnum):
    """What is written."""

    DIFFUSERS = "diffusers"
    SINGLE_FILE = "single-file"
    LORA = "lora"
    COMFYUI = "comfyui"


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
    from boothline.launch.local.session import open_session
    from boothline.registry.exporting import export_model

    name, _, version = model.partition("@")
    session = open_session(home)
    with console(stderr=True).status(f"Exporting {name}") as status:
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
