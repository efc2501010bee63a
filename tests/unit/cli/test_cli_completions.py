"""What a shell completes, by the scripts that `boothline completions` prints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = ("20260131-093000-1a2b", "20260201-093000-1a2b")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the program, the records of two runs, and the scripts of the shells."""
    folder = tmp_path_factory.mktemp("shells")
    program = folder / "boothline"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m boothline.cli.app "$@"\n'
    )
    program.chmod(0o755)
    for run in RUNS:
        (folder / ".boothline" / "runs" / run).mkdir(parents=True)
        (folder / ".boothline" / "runs" / run / "config.yaml").touch()
    (folder / "rules.yaml").touch()
    return folder


def shown(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run a program with the folder's `boothline` on the PATH."""
    clean = {name: value for name, value in os.environ.items() if "BOOTHLINE" not in name}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words,
        cwd=folder,
        env=clean | {"PATH": path, "XDG_CONFIG_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def completed_by_bash(folder: Path, line: str) -> set[str]:
    """Return what bash would offer at the end of a line."""
    script = (
        'eval "$(boothline completions bash)"; COMP_WORDS=($1); [[ $1 = *" " ]] && COMP_WORDS+=("")'
        "; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _boothline_completion boothline"
        '; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = shown(folder, "bash", "--norc", "-c", script, "bash", line)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("boothline res", {"resume"}),
        ("boothline base ", {"add", "list", "remove"}),
        ("boothline export --form", {"--format"}),
        ("boothline export --format ", {"diffusers", "single-file", "lora", "comfyui"}),
        ("boothline resume 20260", set(RUNS)),
        ("boothline logs --home nowhere 2026", set()),
        ("boothline run ru", set()),  # bash offers the files itself
    ],
)
def test_bash_offers_commands_options_values_and_run_ids(folder, line, offered) -> None:
    assert completed_by_bash(folder, line) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_registers_the_completion(folder) -> None:
    script = "autoload -Uz compinit; compinit -u -D; source <(boothline completions zsh)"
    done = shown(folder, "zsh", "-f", "-c", f"{script}; print $_comps[boothline]")
    assert (done.stdout, done.stderr) == ("_boothline_completion\n", "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_offers_run_ids_and_files(folder) -> None:
    script = 'boothline completions fish | source; complete -C "boothline resume 2"'
    assert shown(folder, "fish", "-c", script).stdout.split() == sorted(RUNS)
    script = 'boothline completions fish | source; complete -C "boothline run ru"'
    assert shown(folder, "fish", "-c", script).stdout.split() == ["rules.yaml"]


def test_unknown_shell_is_refused(folder) -> None:
    done = shown(folder, "boothline", "completions", "tcsh")
    assert done.returncode == 2
    assert "bash" in done.stderr
