"""No step changes its key unnoticed: a store full of results stays good for what it was made."""

import json
from dataclasses import replace

import pytest
from step_keys import CONFIGURATIONS, STEP_KEYS, as_json, step_keys

import boothline
from boothline.catalogue import steps
from boothline.components.promote import step as promote


def test_keys_of_all_steps_equal_their_golden_copy() -> None:
    golden = json.loads(STEP_KEYS.read_text(encoding="utf-8"))
    keys = step_keys()
    changed = [
        f"{step} of {name}"
        for name in CONFIGURATIONS
        for step in (one.name for one in steps())
        if keys[name][step]["key"] != golden.get(name, {}).get(step, {}).get("key")
    ]
    assert not changed, (
        f"the keys of {', '.join(changed)} changed, so that no stored result of them is found any "
        "more: run make golden and look at the difference"
    )
    assert STEP_KEYS.read_text(encoding="utf-8") == as_json(keys)


def test_keys_differ_between_the_configurations_where_their_settings_do() -> None:
    golden = json.loads(STEP_KEYS.read_text(encoding="utf-8"))
    for step in ("generate_prior", "train", "evaluate", "promote", "batch_infer", "finish_run"):
        assert len({golden[name][step]["key"] for name in golden}) > 1, step


def test_keys_of_another_release_are_compared_by_the_numbers_of_the_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = step_keys()
    monkeypatch.setattr(boothline, "__version__", "99.0")
    assert step_keys() == before
    raised = replace(promote.STEP, version=promote.STEP.version + 1)
    monkeypatch.setattr(promote, "STEP", raised)
    assert step_keys()["demo"]["promote"]["key"] != before["demo"]["promote"]["key"]
