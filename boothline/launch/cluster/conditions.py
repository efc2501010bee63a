"""Takes the groups around conditional steps out of a pipeline; each costs a pod."""

from collections.abc import Iterator, Mapping
from typing import Any


def lift_conditions(spec: dict[str, Any]) -> None:
    """Put a condition that surrounds a group of steps on the first of them, in place.

    kfp compiles `dsl.If` to a group, for which Kubeflow starts a driver pod. The driver of a step
    evaluates a condition too: `triggerPolicy` may stand on any task (PipelineTaskSpec in
    pipeline_spec.proto, and the driver of Kubeflow Pipelines 2.17). Where it says no, Argo starts
    none of the steps that wait for this one. So a group is taken apart where its steps all wait for
    one that is a plain step.

    Args:
        spec: a compiled pipeline without its platforms.
    """
    components = spec["components"]
    while found := next(_that_can_go(spec), None):
        tasks, name, first = found
        group = tasks.pop(name)
        inner = components.pop(group["componentRef"]["name"])["dag"]["tasks"]
        tasks |= {step: _outside(task, group) for step, task in inner.items()}
        tasks[first] = _conditional(tasks[first], group)


def _that_can_go(spec: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield groups that can be taken apart: the tasks they are among, name, and first step."""
    components = spec["components"]
    for holder in (spec["root"], *components.values()):
        tasks = holder.get("dag", {}).get("tasks", {})
        for name, group in tasks.items():
            inner = components[group["componentRef"]["name"]].get("dag", {}).get("tasks", {})
            if "condition" not in group.get("triggerPolicy", {}) or tasks.keys() & inner.keys():
                continue
            first = [step for step, task in inner.items() if not task.get("dependentTasks")]
            if len(first) == 1 and _may_be_asked(inner[first[0]], components):
                yield tasks, name, first[0]


def _may_be_asked(task: Mapping[str, Any], components: Mapping[str, Any]) -> bool:
    """Return whether a task can take a condition: a plain step that has none."""
    is_plain = "executorLabel" in components[task["componentRef"]["name"]]
    return is_plain and "triggerPolicy" not in task


def _outside(task: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task as it stands outside of its group."""
    outside = group["inputs"]["parameters"]
    inputs = {
        name: outside[value["componentInputParameter"]]
        if "componentInputParameter" in value
        else value
        for name, value in task["inputs"]["parameters"].items()
    }
    return {**task, "inputs": {**task["inputs"], "parameters": inputs}}


def _conditional(task: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first task of a group with the group's condition."""
    # It names inputs of the group; the driver looks for them among those of the step.
    condition = group["triggerPolicy"]["condition"]
    asked = {
        name: value
        for name, value in group["inputs"]["parameters"].items()
        if repr(name) in condition
    }
    parameters = {**task["inputs"]["parameters"], **asked}
    return {
        **task,
        "dependentTasks": group["dependentTasks"],
        "inputs": {**task["inputs"], "parameters": parameters},
        "triggerPolicy": group["triggerPolicy"],
    }
