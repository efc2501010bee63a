"""Options that the commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How a command prints its result."""

    TEXT = "text"
    JSON = "json"


Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Folder of local state; .boothline by default.", show_default=False
    ),
]
OutputOption = Annotated[
    Output, typer.Option("--output", help="text for people, json for programs.")
]
Configs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[CONFIG]...",
        help="YAML files, merged left to right, or a folder of pictures; ./run.yaml by default.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, e.g. training.learning_rate=2e-6; repeatable.",
        show_default=False,
    ),
]
Subject = Annotated[
    Path | None,
    typer.Option(
        "--subject",
        metavar="FOLDER",
        help="Folder of pictures; sets subject.images and subject.name.",
        show_default=False,
    ),
]


def run_ids(context: typer.Context) -> list[str]:
    """Return the ids of this folder's runs for a shell to complete, newest first."""
    from boothline.launch.local.folder import run_folders
    from boothline.launch.local.session import home_folder

    folders = run_folders(home_folder(context.params.get("home")))
    return [folder.run_id for folder in reversed(folders)]


RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="Run id; the last run by default.",
        show_default=False,
        autocompletion=run_ids,
    ),
]
NamedRun = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Run id; see boothline status.", autocompletion=run_ids),
]

DeploymentChoice = Annotated[
    Path | None,
    typer.Option(
        "--deployment",
        metavar="FILE",
        help="Deployment settings of a cluster: ask there instead of here.",
        show_default=False,
    ),
]


def example(*lines: str) -> str:
    """Return the example that ends a command's help."""
    return "\n\n".join(f"Example: {line}" if not i else line for i, line in enumerate(lines))
