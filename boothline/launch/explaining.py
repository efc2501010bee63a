"""Why a step was reused or not: its key's parts next to those of the run before."""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from boothline.catalogue import ends_run, trial_steps
from boothline.runs import StepRecord, read_run, read_steps
from boothline.store import Store, layout
from boothline.trials import steps_with_trials

Outcome = Literal["reused", "made", "failed", "running"]
_UNSET = object()


class Explanation(BaseModel):
    """Why one step or shard was reused or not.

    Attributes:
        step: name of the step or shard.
        outcome: what happened.
        reasons: in words, one a line.
        compared_with: the earlier run that the key was compared with; empty when there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    outcome: Outcome
    reasons: list[str]
    compared_with: str = ""


def explain_run(store: Store, run_id: str, *, step: str | None = None) -> list[Explanation]:
    """Return the explanations of a run's steps in the order they started.

    Args:
        store: holds the records of the runs.
        run_id: the run.
        step: name of a step or shard; None: all.
    """
    records = [r for r in steps_with_trials(store, run_id) if step in (None, r.step, r.label)]
    earlier = _earlier_runs(store, run_id)
    return [_explanation(store, run_id, record, earlier) for record in records]


def _earlier_runs(store: Store, run_id: str) -> list[str]:
    """Return the earlier runs of the same subject, newest first."""
    this = read_run(store, run_id)
    subject = this.config.get("subject", {}).get("name") if this else None
    names = {layout.run_of(path) for path in store.list_records(layout.RUNS)}
    found = []
    for name in sorted((name for name in names if name < run_id), reverse=True):
        record = read_run(store, name)
        if record and record.config.get("subject", {}).get("name") == subject:
            found.append(name)
    return found


def _explanation(store: Store, run_id: str, record: StepRecord, earlier: list[str]) -> Explanation:
    """Return the explanation of one step record."""
    if ends_run(record.step):
        reasons = ["Every attempt at a run writes its report again."]
        return Explanation(step=record.label, outcome=_outcome(record), reasons=reasons)
    outcome = _outcome(record)
    for name in earlier:
        before = _record_of(store, name, record.label)
        if before is None and record.step in trial_steps():  # a plain run, or a trial's own records
            before = _record_of(store, name, record.step)
        if before is None or not before.key_parts:
            continue
        changes = list(_changes(store, (name, before), (run_id, record)))
        if changes:
            reasons = [f"Since run {name}:", *changes]
        elif before.status != "done":
            reasons = [f"Nothing changed since run {name}, in which this step did not finish."]
        elif record.reused:
            reasons = [f"Nothing it depends on changed since run {name}."]
        else:
            reasons = [f"Nothing changed since run {name}; its result was gone from the store."]
        if record.reused and changes:
            reasons = ["The store had a result for exactly these inputs.", *reasons]
        return Explanation(step=record.label, outcome=outcome, reasons=reasons, compared_with=name)
    first = (
        "The store had its result." if record.reused else "No earlier run of this subject has it."
    )
    return Explanation(step=record.label, outcome=outcome, reasons=[first])


def _outcome(record: StepRecord) -> Outcome:
    """Return what happened to a step, in one word."""
    if record.reused:
        return "reused"
    return "made" if record.status == "done" else record.status


def _record_of(store: Store, run_id: str, label: str) -> StepRecord | None:
    """Return one step record of a run."""
    value = store.get_record(layout.step_record(run_id, label))
    return None if value is None else StepRecord.model_validate(value)


def _changes(
    store: Store, before: tuple[str, StepRecord], after: tuple[str, StepRecord]
) -> Iterator[str]:
    """Yield what differs between the keys of two (run, step record), in words."""
    old, new = dict(_flat(before[1].key_parts)), dict(_flat(after[1].key_parts))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name.startswith("inputs."):
            made_by = _maker(store, after[0], new.get(name)) or _maker(
                store, before[0], old.get(name)
            )
            yield f"the result of {made_by or 'an earlier step'} changed"
        elif name == "version":
            yield f"the code changed: {old.get(name)} -> {new.get(name)}"
        else:
            change = _change(old.get(name, _UNSET), new.get(name, _UNSET))
            yield f"{name.removeprefix('config.')}: {change}"


def _maker(store: Store, run_id: str, content_digest: object) -> str:
    """Return the step of a run whose manifest has a content digest; empty when there is none."""
    for record in read_steps(store, run_id):
        if record.manifest and store.read(record.manifest).content_digest == content_digest:
            return record.label
    return ""


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of nested mappings and of the list of inputs by dotted names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}{key}.")
    elif isinstance(value, list) and prefix == "inputs.":
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}{index}.")
    else:
        yield prefix.removesuffix("."), value


def _change(old: object, new: object) -> str:
    """Return what became of a value, in words; of lists only what differs."""
    if isinstance(old, list) and isinstance(new, list):
        gone = [f"without {_text(item)}" for item in old if item not in new]
        come = [f"with {_text(item)}" for item in new if item not in old]
        return ", ".join([*gone, *come]) or "in another order"
    return f"{_text(old)} -> {_text(new)}"


def _text(value: object) -> str:
    """Return a value for people, shortened."""
    text = "unset" if value is _UNSET else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
