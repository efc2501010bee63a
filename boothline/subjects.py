"""Steps that do their work for each subject by itself, and gather what several have come to.

What such a step makes for one of several subjects is the very result that a run of that subject
alone would have: it has the same key and is found or committed in the same place (ADR 0028).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from boothline.config import RunConfig
from boothline.errors import DataError
from boothline.facts import SubjectPart
from boothline.results import Result, parts_in
from boothline.steps import Step, StepContext, StepInputs, StepKey, key_parts
from boothline.store import FileEntry, ManifestDraft, ManifestRef, Store, layout

InputsT = TypeVar("InputsT", bound=StepInputs)
Files = Mapping[str, bytes | FileEntry]
Gather = Callable[[StepContext, Mapping[str, ManifestRef]], tuple[Result, Files]]
_NAMED = "subjects"


def parts_of(store: Store, ref: ManifestRef | str) -> dict[str, ManifestRef]:
    """Return the results of each subject in a result, by name; of one subject itself, unnamed."""
    whole = ManifestRef.parse(ref) if isinstance(ref, str) else ref
    return parts_in(store.read(whole)) or {"": whole}


def part_of(store: Store, ref: ManifestRef | str, subject: str) -> ManifestRef:
    """Return what a result holds of one of several subjects; what is of no subject is of all.

    Raises:
        DataError: it holds other subjects alone.
    """
    parts = parts_of(store, ref)
    if found := parts.get(subject) or parts.get(""):
        return found
    raise DataError(
        f"{ref} holds nothing of the subject {subject!r}, but of {', '.join(parts)}.",
        remedy="Run the step that made it again.",
    )


def each_subject(step: Step[InputsT], *, gather: Gather) -> Step[InputsT]:
    """Return a step that does its work for each subject; of one it is the step itself.

    Args:
        step: does the work for one.
        gather: given the results of several by name, returns what they come to and its files.
    """

    def key(context: StepContext, inputs: InputsT) -> StepKey:
        keys = {one.subject: step.key(one, of_one) for one, of_one in _each(context, inputs)}
        if "" in keys:
            return keys[""]
        read = dict.fromkeys(ref for one in keys.values() for ref in one.inputs)
        config = {_NAMED: {name: dict(one.config) for name, one in keys.items()}}
        return StepKey(config=config, inputs=tuple(read))

    def produce(context: StepContext, inputs: InputsT) -> ManifestDraft:
        if not context.config.subjects:
            return step.produce(context, inputs)
        parts = {
            one.subject: _found_or_made(step, one, of_one) for one, of_one in _each(context, inputs)
        }
        result, files = gather(context, parts)
        named = tuple(
            SubjectPart(subject=name, content=context.store.read(ref).content_digest)
            for name, ref in parts.items()
        )
        whole = result.model_copy(update={"parts": named})
        read = dict.fromkeys((*parts.values(), *_references(inputs)))
        return whole.draft(dict(files), inputs=tuple(read))

    def finish(context: StepContext, inputs: InputsT, ref: ManifestRef) -> None:
        for one, of_one in _each(context, inputs):
            step.finish(one, of_one, part_of(context.store, ref, one.subject))

    return replace(step, key=key, produce=produce, finish=finish)


def of_each(context: StepContext, ref: ManifestRef) -> Iterator[tuple[StepContext, ManifestRef]]:
    """Yield the results of each subject in the result of a step, each with a context of its own."""
    configs = context.config.by_subject
    for name, part in parts_of(context.store, ref).items():
        yield (_about(context, name, configs[name]) if name in configs else context), part


def _each(context: StepContext, inputs: InputsT) -> Iterator[tuple[StepContext, InputsT]]:
    """Yield context and inputs for each subject."""
    for name, config in context.config.by_subject.items():
        if not name:
            yield context, inputs
            continue
        references = {
            field: _narrowed(context.store, value, name) for field, value in _named(inputs)
        }
        update = {**references, "config": config.model_dump_json()}
        yield _about(context, name, config), inputs.model_copy(update=update)


def _named(inputs: StepInputs) -> Iterator[tuple[str, str | list[str]]]:
    """Yield what a step is given as references, by field."""
    for field, value in inputs:
        if field not in StepInputs.model_fields and isinstance(value, str | list):
            yield field, value


def _references(inputs: StepInputs) -> Iterator[ManifestRef]:
    """Yield all references that a step is given."""
    for _, value in _named(inputs):
        yield from map(ManifestRef.parse, [value] if isinstance(value, str) else value)


def _narrowed(store: Store, value: str | Sequence[str], subject: str) -> str | list[str]:
    """Return references with those of several subjects replaced by what they hold of one."""
    if not isinstance(value, str):
        return [str(part_of(store, ref, subject)) for ref in value]
    return str(part_of(store, value, subject))


def _about(context: StepContext, name: str, config: RunConfig) -> StepContext:
    """Return the context of a step for one subject; of several, each has a folder of its own."""
    if not name:
        return context
    folder = context.folder / name
    folder.mkdir(exist_ok=True)
    configs = context.key_config.get(_NAMED)
    return replace(
        context,
        config=config,
        folder=folder,
        tracker=context.tracker.within(name),
        key_config=configs[name] if isinstance(configs, Mapping) else {},
        subject=name,
    )


def _found_or_made(step: Step[InputsT], context: StepContext, inputs: InputsT) -> ManifestRef:
    """Return the result of one subject, and have it kept until that of all names it."""
    store = context.store
    parts = key_parts(step, step.key(context, inputs), store)
    path = layout.step_result(step.name, layout.key_of(parts))
    context = replace(context, manifest_path=path)
    mark = store.sweep_mark()
    ref = store.find(path)
    if ref is not None:
        context.needed(ref)
        if not store.undisturbed_since(mark):
            ref = store.find(path)
    if ref is None:
        ref = store.commit(path, step.produce(context, inputs))
        context.needed(ref)
    return ref
