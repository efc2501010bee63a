import inspect
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import boothline
from boothline.cli.app import GROUPS, app

COMMANDS = [name for names in GROUPS.values() for name in names if name != "unschedule"]
# Those that have commands of their own, work on a cluster alone, or print for programs anyway.
WITHOUT_COMMON_OPTIONS = {
    "base",
    "registry",
    "completions",
    "serve",
    "upload",
}
# What takes a configuration. Pipelines are uploaded for settings, not for a subject.
CONFIGURED = ("validate", "plan", "run", "sweep", "retrain", "submit", "schedule", "upload")
# What `boothline --help` may not load if it is to answer at once.
HEAVY = (
    "torch",
    "diffusers",
    "mlflow",
    "kfp",
    "minio",
    "numpy",
    "PIL",
    "pydantic",
    "yaml",
    "boothline.config",
    "boothline.store",
    "boothline.services",
)


def boothline_cli(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "boothline.cli.app", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def test_cli_import_loads_no_heavy_module():
    code = (
        f"import sys, boothline.cli.app\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]", done.stderr


def test_cli_help_lists_every_command_and_the_exit_codes():
    done = boothline_cli("--help")

    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout
    assert "130 interrupted" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_cli_command_help_has_an_example_and_the_common_options(command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})

    assert done.exit_code == 0
    if command not in ("base", "registry", "completions"):
        assert f"Example: boothline {command}" in done.stdout
    for option in () if command in WITHOUT_COMMON_OPTIONS else ("--home", "--output"):
        assert option in done.stdout


@pytest.mark.parametrize("name", CONFIGURED)
def test_command_that_takes_a_configuration_takes_it_in_every_form(name):
    (command,) = (
        info
        for group in app.registered_groups
        for info in group.typer_instance.registered_commands
        if (info.name or info.callback.__name__) == name
    )
    options = {"overrides", "subject", "home"} - (
        {"subject", "home"} if name == "upload" else set()
    )
    assert {"configs", "output"} | options <= set(inspect.signature(command.callback).parameters)


def test_cli_help_shows_the_commands_in_groups_in_the_order_of_their_use():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).stdout

    titles = [line.split()[1] for line in shown.splitlines() if line.startswith("╭─")]
    assert titles == ["Options", *GROUPS]
    rows = re.findall(r"^│ (\w+) ", shown, re.MULTILINE)
    assert rows == [name for names in GROUPS.values() for name in names if name in rows]
    assert "unschedule" not in shown


def test_every_command_stands_in_a_group():
    known = {name for names in GROUPS.values() for name in names}
    infos = [
        info for group in app.registered_groups for info in group.typer_instance.registered_commands
    ]
    names = {info.name or info.callback.__name__ for info in infos}
    assert names - known == set()


def test_cli_version_is_the_packages():
    done = boothline_cli("--version")

    assert (done.returncode, done.stdout.strip()) == (0, boothline.__version__)


def test_cli_unknown_command_exits_with_2_and_no_traceback():
    done = boothline_cli("trian")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "trian" in done.stderr
