"""Each component's interface equals its step's inputs; compiling loads no heavy module."""

import importlib
import inspect
import subprocess
import sys
import typing

import pytest
import yaml

from pipelines.compile import GOLDEN, compiled
from pipelines.dreambooth import dreambooth
from pipelines.parameters import STEPS

HEAVY = ("torch", "diffusers", "transformers", "mlflow", "accelerate", "peft", "minio", "PIL")


def component_function(step: str):
    module = importlib.import_module(f"components.{step}.component")
    return getattr(module, step).python_func


def parameters_of(step: str) -> dict[str, object]:
    """Return the component's input parameters: names and plain types, artifacts left out."""
    return {
        name: typing.get_origin(parameter.annotation) or parameter.annotation
        for name, parameter in inspect.signature(component_function(step)).parameters.items()
        if parameter.annotation in (str, int, list[str])
    }


@pytest.mark.parametrize("step", STEPS)
def test_component_parameters_equal_the_inputs_of_its_step(step):
    inputs = importlib.import_module(f"components.{step}.step").Inputs

    fields = {
        name: typing.get_origin(field.annotation) or field.annotation
        for name, field in inputs.model_fields.items()
    }
    assert parameters_of(step) == fields
    assert all(field.is_required() for field in inputs.model_fields.values())


@pytest.mark.parametrize("step", STEPS)
def test_component_other_parameters_are_output_artifacts(step):
    signature = inspect.signature(component_function(step))

    others = set(signature.parameters) - set(parameters_of(step))
    expected = {"evaluate": {"metrics"}, "finish_run": {"page"}}
    assert others == expected.get(step, set())


@pytest.mark.parametrize("step", STEPS)
def test_step_module_exposes_one_step_of_its_own_name(step):
    module = importlib.import_module(f"components.{step}.step")

    assert module.STEP.name == step
    assert module.STEP.version >= 1
    assert callable(module.run)


def test_pipeline_uses_every_component_and_no_other():
    executors = yaml.safe_load(compiled(dreambooth))["deploymentSpec"]["executors"]

    assert {name.removeprefix("exec-").replace("-", "_") for name in executors} == set(STEPS)


def test_compiling_loads_no_heavy_module():
    code = (
        "import sys\n"
        "from pipelines.compile import compiled\n"
        "from pipelines.dreambooth import dreambooth\n"
        "compiled(dreambooth)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("step", STEPS)
def test_step_module_loads_no_heavy_module(step):
    heavy = ("torch", "diffusers", "transformers", "mlflow", "accelerate", "peft", "kfp")
    code = (
        "import sys, importlib\n"
        f"importlib.import_module('components.{step}.step')\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_compiled_pipeline_equals_its_golden_copy():
    assert GOLDEN.read_text(encoding="utf-8") == compiled(dreambooth), (
        "the pipeline changed: run make golden and look at the difference"
    )


def test_compiled_pipeline_caches_nothing_and_retries_nothing():
    text = compiled(dreambooth)

    assert "enableCache: true" not in text
    assert "retryPolicy" not in text


def test_compiled_conditions_ask_only_for_outputs_that_kfp_local_resolves():
    tasks = [
        task
        for component in yaml.safe_load(compiled(dreambooth))["components"].values()
        for task in component.get("dag", {}).get("tasks", {}).values()
    ]

    conditions = [task["triggerPolicy"]["condition"] for task in tasks if "triggerPolicy" in task]
    assert conditions == [
        "inputs.parameter_values['pipelinechannel--promote-Output'] == 'promoted'"
    ]


def test_compiled_pipeline_runs_each_step_in_its_image():
    executors = yaml.safe_load(compiled(dreambooth))["deploymentSpec"]["executors"]

    images = {name: executor["container"]["image"] for name, executor in executors.items()}
    tools = {name for name, image in images.items() if image.startswith("boothline/tools:")}
    assert tools == {"exec-validate-data", "exec-promote", "exec-finish-run"}
    assert all(
        image.startswith("boothline/torch:") for name, image in images.items() if name not in tools
    )


def test_kfp_starts_processes_through_the_function_that_the_launcher_replaces():
    from kfp.local import subprocess_task_handler

    signature = inspect.signature(subprocess_task_handler.run_local_subprocess)
    assert list(signature.parameters) == ["full_command", "env_vars"]
    source = inspect.getsource(subprocess_task_handler.SubprocessTaskHandler.run)
    assert "run_local_subprocess(" in source
