"""The command line, run in the process of the test."""

import sys
from collections.abc import Callable

import pytest

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return a function that runs a command and gives its exit code, stdout and stderr."""
    from boothline.cli.app import main

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["boothline", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(caught.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def object_store() -> None:
    """Refuse what the fixtures of the whole suite would start."""
    pytest.fail("servers start in tests/integration: a unit test uses boothline.store.memory")


@pytest.fixture(scope="session")
def mlflow_uri() -> None:
    """Refuse what the fixtures of the whole suite would start."""
    pytest.fail("servers start in tests/integration: a unit test uses boothline.tracking's own")
