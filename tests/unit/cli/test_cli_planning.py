"""`boothline plan` as a user calls it."""

import json

import pytest
from typer.testing import CliRunner

from boothline.cli.app import app
from boothline.errors import ConfigError
from boothline.planning import dry_run

ARGUMENTS = ["plan", "examples/demo.yaml"]


def test_plan_as_json_names_parts_and_cards() -> None:
    result = CliRunner().invoke(app, [*ARGUMENTS, "--output", "json"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["total_bytes"] == sum(plan["parts"].values())
    assert plan["cards"]["8 GB"] == {}


def test_plan_traces_nothing_smaller_than_what_fits_the_smallest_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = []
    trace_step = dry_run.trace_step
    monkeypatch.setattr(dry_run, "trace_step", lambda *args: traced.append(1) or trace_step(*args))
    assert CliRunner().invoke(app, ARGUMENTS).exit_code == 0
    assert len(traced) == 1


@pytest.mark.proves("F47/refusal")
def test_plan_beyond_the_memory_names_the_setting_with_which_it_fits() -> None:
    large = ["--set", "training.batch_size=32", "--memory-gb", "1.1"]
    with pytest.raises(ConfigError, match=r"more than 1\.1 GB") as refusal:
        CliRunner().invoke(app, [*ARGUMENTS, *large], catch_exceptions=False)
    assert refusal.value.exit_code == 2
    assert "training.gradient_checkpointing=true" in refusal.value.remedy


def test_plan_beyond_the_memory_is_refused_with_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"more than 0\.2 GB") as refusal:
        CliRunner().invoke(app, [*ARGUMENTS, "--memory-gb", "0.2"], catch_exceptions=False)
    assert refusal.value.exit_code == 2
    assert "smaller" in refusal.value.remedy


def test_plan_for_an_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="sd99"):
        CliRunner().invoke(app, [*ARGUMENTS, "--family", "sd99"], catch_exceptions=False)
