"""Runs `boothline` inside the test's process: what a user sees, without a new Python each time."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from boothline import settings

OUR_PREFIX = "BOOTHLINE_"


def boothline(
    folder: Path, *words: str, variables: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any], str]:
    """Run a command in a folder; return its exit code, its JSON object and what it said on stderr.

    Args:
        folder: the working directory; local state goes below it.
        words: the command and its options.
        variables: set in the environment; no other `BOOTHLINE_*` variable is.
    """
    from boothline.cli.app import main

    argv = ["boothline", *words, "--output", "json"]
    with (
        _surroundings(folder, variables or {}),
        mock.patch.object(sys, "argv", argv),
        redirect_stdout(StringIO()) as printed,
        redirect_stderr(StringIO()) as said,
    ):
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    text = printed.getvalue()
    return code, json.loads(text) if text else {}, said.getvalue()


@contextmanager
def _surroundings(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Be in a folder, with a clean environment, and read the settings anew before and after."""
    before = Path.cwd()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OUR_PREFIX)}
    settings.current.cache_clear()
    try:
        os.chdir(folder)
        with mock.patch.dict(os.environ, {**clean, **variables}, clear=True):
            yield
    finally:
        os.chdir(before)
        settings.current.cache_clear()
