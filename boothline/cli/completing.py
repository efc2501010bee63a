"""The command `completions`: what a shell needs to complete Boothline's commands and options."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from boothline.cli.options import example

PROGRAM, VARIABLE = "boothline", "_BOOTHLINE_COMPLETE"

app = typer.Typer()


class Shell(StrEnum):
    """Shells whose completions were tried."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def prepare() -> None:
    """Let the program answer a shell that completes, if that is what started it."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()


@app.command(
    epilog=example(
        'eval "$(boothline completions bash)"  # in ~/.bashrc',
        'eval "$(boothline completions zsh)"  # in ~/.zshrc, after compinit',
        "boothline completions fish > ~/.config/fish/completions/boothline.fish",
    )
)
def completions(
    shell: Annotated[Shell, typer.Argument(help="The shell that completes.")],
) -> None:
    """Print the script with which a shell completes commands, options and run ids."""
    from typer._completion_shared import get_completion_script

    typer.echo(
        get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value),
        color=False,
    )
