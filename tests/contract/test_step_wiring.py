"""What each step is given, as its description has it, is what the pipeline's graph gives it."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from boothline.catalogue import steps_of
from boothline.launch.local.replay import PIPELINE

GOLDEN = Path(__file__).parents[1] / "golden" / f"{PIPELINE}.yaml"


@pytest.fixture(scope="module")
def wired() -> dict[str, dict[str, str]]:
    """The input parameters of the tasks, as YAML, in whatever loop or condition they are."""
    spec = next(yaml.safe_load_all(GOLDEN.read_text()))
    graphs = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    tasks = {name: task for graph in graphs for name, task in graph["tasks"].items()}
    return {
        name.replace("-", "_"): {
            parameter: yaml.safe_dump(value)
            for parameter, value in task.get("inputs", {}).get("parameters", {}).items()
        }
        for name, task in tasks.items()
    }


def givers(value: str) -> set[str]:
    """The steps whose result an input of a task is."""
    outputs = {
        step.name: (f"{task}-Output", f"producerTask: {task}\n")
        for step in steps_of(PIPELINE)
        for task in [step.name.replace("_", "-")]
    }
    return {step for step, names in outputs.items() if any(name in value for name in names)}


@pytest.mark.parametrize("about", steps_of(PIPELINE), ids=lambda about: about.name)
def test_inputs_of_a_step_come_from_the_steps_that_give_them(
    wired: dict[str, dict[str, str]], about: Any
) -> None:
    step = import_module(f"boothline.components.{about.name}.step").STEP
    given_by = {one.gives: {one.name} for one in steps_of(PIPELINE) if one.gives}
    needed = set(step.inputs.model_fields) - {"run_id", "config", "shard"}

    found = {name: givers(value) for name, value in wired[about.name].items() if name in needed}
    assert found == {name: given_by[name] for name in needed}
