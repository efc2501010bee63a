"""The rules of styles/Boothline find the phrases that they are for, and leave English alone."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".boothline-vale" / "vale"
VALE = shutil.which("vale") or (str(BUILT) if BUILT.exists() else None)

pytestmark = pytest.mark.skipif(VALE is None, reason="no Vale: run `make prose`")


def found(text: str, *, suffix: str = ".md") -> list[str]:
    """Return what Vale finds in a text: the matched words."""
    command = (str(VALE), "--output=JSON", "--no-exit", f"--ext={suffix}", text)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [alert["Match"] for alerts in json.loads(done.stdout).values() for alert in alerts]


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("A token is no word.", ["is no word"]),
        ("The training goes on after it.", ["goes on"]),
        ("It tells whether the run ended.", ["tells"]),
        ("It is read anew.", ["anew"]),
        ("It lies beside the model.", ["beside"]),
        ("It is held against a margin.", ["held against"]),
        ("It ended without a word.", ["without a word"]),
        ("The line, end to end.", ["The line, end to end"]),
        ("Pages \u2014 and more.", ["\u2014"]),
    ],
)
def test_phrase_that_is_no_english_is_found(text: str, matches: list[str]) -> None:
    assert found(text) == matches


@pytest.mark.parametrize(
    "text",
    [
        "There is no rule, there is no such rule, and where there is none it passes.",
        "It is no longer there, and besides it was no more than a test.",
        "The light goes on the stand.",
        "Run `boothline tell` anewer.",
        "```\nbeside it\n```",
    ],
)
def test_english_and_code_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_docstring_is_read_and_code_is_not() -> None:
    text = '"""Sampled anew."""\n\nanew = "beside"  # held against it\n'
    assert found(text, suffix=".py") == ["anew", "held against"]
