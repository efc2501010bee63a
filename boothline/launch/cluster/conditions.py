"""Takes the group around a single conditional step out of a pipeline; it costs a pod."""

from typing import Any


def lift_conditions(spec: dict[str, Any]) -> None:
    """Put a condition that surrounds one step on the step itself, in place.

    kfp compiles `dsl.If` to a group, for which Kubeflow starts a driver pod. The driver of a step
    evaluates a condition too: `triggerPolicy` may stand on any task (PipelineTaskSpec in
    pipeline_spec.proto, and the driver of Kubeflow Pipelines 2.17).

    Args:
        spec: a compiled pipeline without its platforms.
    """
    components = spec["components"]
    for holder in [spec["root"], *components.values()]:
        tasks = holder.get("dag", {}).get("tasks", {})
        for name, group in list(tasks.items()):
            inner = components[group["componentRef"]["name"]].get("dag", {}).get("tasks", {})
            if "condition" not in group.get("triggerPolicy", {}) or len(inner) != 1:
                continue
            ((step, task),) = inner.items()
            is_plain = "executorLabel" in components[task["componentRef"]["name"]]
            if is_plain and "triggerPolicy" not in task and step not in tasks:
                del components[group["componentRef"]["name"]], tasks[name]
                tasks[step] = _lifted(task, group)


def _lifted(task: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    """Return a task as it stands outside of its group, with the group's condition."""
    outside = group["inputs"]["parameters"]
    inputs = {
        name: outside[value["componentInputParameter"]]
        if "componentInputParameter" in value
        else value
        for name, value in task["inputs"]["parameters"].items()
    }
    # The condition names inputs of the group; the driver looks for them among those of the step.
    condition = group["triggerPolicy"]["condition"]
    inputs |= {name: value for name, value in outside.items() if repr(name) in condition}
    return {
        **task,
        "dependentTasks": group["dependentTasks"],
        "inputs": {"parameters": inputs},
        "triggerPolicy": group["triggerPolicy"],
    }
