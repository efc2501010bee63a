"""The page of all commands, written from the command line's own parsers."""

from collections.abc import Iterator
from typing import Any, cast

import typer
from typer.core import TyperGroup

from boothline.cli.app import GROUPS, app

INTRODUCTION = """# Commands

Every command of `boothline`, as `boothline COMMAND --help` shows it. This page is written from the
command line's own parsers when the site is built.
"""


def page() -> str:
    """Return the page: the commands in their groups, each with usage, arguments and options."""
    commands = cast(TyperGroup, typer.main.get_command(app)).commands
    parts = [INTRODUCTION]
    for title, names in GROUPS.items():
        parts.append(f"\n## {title}\n")
        for name in names:
            if not commands[name].hidden:
                parts += _sections(commands[name], f"boothline {name}", level=3)
    return "\n".join(parts)


def _sections(command: Any, called: str, *, level: int) -> Iterator[str]:  # noqa: ANN401
    """Yield the section of a command, and those of its own commands."""
    context = command.context_class(command, info_name=called)
    yield f"\n{'#' * level} {called}\n"
    yield f"{command.help}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{called} {usage}\n```\n"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [record for record in records if record and record[0] != "--help"]
    if rows:
        yield "| argument or option | meaning |\n| --- | --- |"
    for shown, meaning in rows:
        yield f"| `{_cell(shown)}` | {_prose(meaning)} |"
    if command.epilog:
        lines = command.epilog.removeprefix("Example: ").split("\n\n")
        yield "\n```\n" + "\n".join(line.strip() for line in lines) + "\n```"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _sections(inner, f"{called} {name}", level=level + 1)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """Return a help text as Markdown: what looks like a tag or a place of a table is text."""
    return _cell(" ".join(text.split())).replace("<", "&lt;")
