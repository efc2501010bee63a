"""Compares, for every setting, what a step's key says of it with what it does to the result."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from sensitivity.lab import Lab, Outcome, Probe
from sensitivity.pairs import Case, all_cases, everything_on, is_valid, together
from sensitivity.sameness import REFUSED, SAME, UNDECIDED, UNTRIED

TESTS = Path(__file__).resolve().parents[2]


def dead_settings(lab: Lab, probe: Probe, *, part: int = 0, parts: int = 1) -> list[str]:
    """Return what is wrong with the settings in a step's key: two values, two results.

    Args:
        lab: where it is tried.
        probe: the step.
        part: which part of the settings to look at.
        parts: number of parts.
    """
    found: list[str] = []
    entered: set[str] = set()
    cases = list(all_cases().values())[part::parts]
    for scene in probe.scenes:
        for case in cases:
            if case.name not in entered and (keys := _keys(lab, probe, case, scene)):
                entered.add(case.name)
                found += _compared(lab, probe, case, scene, keys)
    listed = {name for step, name, *_ in (*SAME, *REFUSED, *UNTRIED) if step == probe.step.name}
    idle = listed.intersection(case.name for case in cases) - entered
    return found + [f"{name} is listed but is not in the key" for name in idle]


def hidden_settings(lab: Lab, probe: Probe) -> list[str]:
    """Return the settings outside a step's key that change its result all the same.

    They are changed together; only where that makes a difference, one by one to find it. What only
    plays a part where something else is set is tried with everything on.
    """
    found = []
    for scene in (*probe.scenes, {**everything_on(), **probe.scenes[0]}):
        base = lab.config(scene)
        key, expected = lab.key(probe, base), lab.alone(probe, base)
        changes = {
            case.name: change
            for case in all_cases().values()
            if is_valid({**scene, **(change := case.change())})
            and lab.key(probe, lab.config({**scene, **change})) == key
        }
        config = lab.config(together([scene, *changes.values()]))
        assert lab.key(probe, config) == key, "together they enter the key, but none alone"
        if not lab.alone(probe, config).changed(expected):
            continue
        for name, change in changes.items():
            changed = lab.alone(probe, lab.config({**scene, **change})).changed(expected)
            found += [f"{name} is not in the key, but changes {changed}"] if changed else []
        found = found or ["some settings outside the key change the result, but none alone"]
    return found


def settings_in_keys(lab: Lab, probes: Iterable[Probe]) -> set[str]:
    """Return the settings that the key of any of some steps has, in whatever scene."""
    found: set[str] = set()
    for probe in probes:
        for scene in probe.scenes:
            lacking = [case for case in all_cases().values() if case.name not in found]
            found.update(case.name for case in lacking if _keys(lab, probe, case, scene))
    return found


def _keys(lab: Lab, probe: Probe, case: Case, scene: Mapping[str, Any]) -> list[str]:
    """Return the key's own part for each value of a setting; empty where it is always the same."""
    configs = [lab.config({**scene, **case.overrides(value)}) for value in case.values]
    keys = [lab.key(probe, config).own for config in configs]
    return keys if any(key != keys[0] for key in keys) else []


def _compared(
    lab: Lab, probe: Probe, case: Case, scene: Mapping[str, Any], keys: list[str]
) -> Iterator[str]:
    """Yield what is wrong with the results of a setting that is in the key."""
    place = (probe.step.name, case.name)
    if place in UNTRIED:
        file, _, test = UNTRIED[place].partition("::")
        if f"def {test}(" not in (TESTS / file).read_text(encoding="utf-8"):
            yield f"{case.name}: there is no test {UNTRIED[place]}"
        return
    outcomes = [
        lab.outcome(probe, lab.config({**scene, **case.overrides(value)})) for value in case.values
    ]
    yield from _refusals(probe, case, outcomes)
    pairs = list(combinations(range(len(keys)), 2))
    equal = [
        (case.values[one], case.values[other])
        for one, other in pairs
        if keys[one] != keys[other] and not outcomes[one].changed(outcomes[other])
    ]
    for one, other in pairs:
        if keys[one] == keys[other] and outcomes[one].changed(outcomes[other]):
            yield f"{case.name}: {case.values[one]!r} and {case.values[other]!r} have one key only"
    expected = [values for *where, values in SAME if tuple(where) == place]
    for pair in equal:
        if pair not in expected and (*place, pair) not in UNDECIDED:
            yield f"{case.name} is in the key, but {pair[0]!r} and {pair[1]!r} give the same"
    for pair in expected:
        if pair not in equal:
            yield f"{case.name}: {pair[0]!r} and {pair[1]!r} are listed as the same, but are not"


def _refusals(probe: Probe, case: Case, outcomes: list[Outcome]) -> Iterator[str]:
    for value, outcome in zip(case.values, outcomes, strict=True):
        expected = (probe.step.name, case.name, _hashable(value)) in REFUSED
        if bool(outcome.refused) != expected:
            what = outcome.refused or "nothing, but is listed as refused"
            yield f"{case.name}={value!r} raises {what}"


def _hashable(value: object) -> object:
    return str(value) if isinstance(value, list | dict) else value
