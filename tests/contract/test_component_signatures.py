"""Each component's interface equals its step's inputs; compiling loads no heavy module."""

import importlib
import inspect
import subprocess
import sys
import typing

import pytest
import yaml

from boothline.catalogue import described, steps, steps_of
from boothline.config.form import FORMS
from boothline.launch.compile import GOLDENS, compiled, pipeline_named
from boothline.pipelines.dreambooth import dreambooth
from boothline.pipelines.parameters import TARGETS

ALL_STEPS = tuple(step.name for step in steps())
FORM_OF_FIRST_STEPS = {
    "validate_data": {"pipeline", "loops", "preset", *FORMS["dreambooth"]},
    "choose_model": {"loops", *FORMS["batch_inference"]},
}
HEAVY = ("torch", "diffusers", "transformers", "mlflow", "accelerate", "peft", "minio", "PIL")


def component_function(step: str):
    module = importlib.import_module(f"boothline.components.{step}.component")
    return getattr(module, step).python_func


def parameters_of(step: str) -> dict[str, object]:
    """Return the component's input parameters: names and plain types, artifacts left out."""
    return {
        name: typing.get_origin(parameter.annotation) or parameter.annotation
        for name, parameter in inspect.signature(component_function(step)).parameters.items()
        if parameter.annotation in (str, int, float, list[str], dict[str, int])
    }


@pytest.mark.parametrize("step", ALL_STEPS)
def test_component_parameters_equal_the_inputs_of_its_step(step):
    inputs = importlib.import_module(f"boothline.components.{step}.step").Inputs

    fields = {
        name: typing.get_origin(field.annotation) or field.annotation
        for name, field in inputs.model_fields.items()
    }
    parameters = parameters_of(step)
    form = parameters.keys() - fields.keys()
    assert parameters == fields | {name: parameters[name] for name in form}
    assert form == FORM_OF_FIRST_STEPS.get(step, set())
    assert all(field.is_required() for field in inputs.model_fields.values())


@pytest.mark.parametrize("step", ALL_STEPS)
def test_component_other_parameters_are_output_artifacts(step):
    signature = inspect.signature(component_function(step))

    others = set(signature.parameters) - set(parameters_of(step))
    expected = {
        "validate_data": {"data", "page"},
        "generate_prior": {"pictures"},
        "publish_checkpoint": {"exported"},
        "evaluate": {"metrics"},
        "promote": {"metrics"},
        "finish_run": {"page"},
        "compare_trials": {"page"},
    }
    assert others == expected.get(step, set())


@pytest.mark.parametrize("step", ALL_STEPS)
def test_step_module_exposes_one_step_of_its_own_name(step):
    module = importlib.import_module(f"boothline.components.{step}.step")

    assert module.STEP.name == step == described(step).name
    assert module.STEP.inputs is module.Inputs
    assert module.STEP.version >= 1
    assert callable(module.run)


@pytest.mark.parametrize("name", TARGETS)
def test_pipeline_uses_every_component_of_its_own_and_no_other(name):
    spec = yaml.load(compiled(pipeline_named(name)), yaml.CSafeLoader)

    used = {key.removeprefix("exec-") for key in spec["deploymentSpec"]["executors"]}
    assert {key.replace("-", "_") for key in used} == {step.name for step in steps_of(name)}


def test_compiling_loads_no_heavy_module():
    code = (
        "import sys\n"
        "from boothline.launch.compile import compiled\n"
        "from boothline.pipelines.dreambooth import dreambooth\n"
        "compiled(dreambooth)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.proves("F31/compiled")
@pytest.mark.parametrize("name", TARGETS)
def test_compiled_pipeline_equals_its_golden_copy(name):
    golden = (GOLDENS / f"{name}.yaml").read_text(encoding="utf-8")
    assert golden == compiled(pipeline_named(name)), (
        "the pipeline changed: run make golden and look at the difference"
    )


@pytest.mark.parametrize("name", TARGETS)
def test_compiled_pipeline_caches_nothing_and_retries_nothing(name):
    text = compiled(pipeline_named(name))

    assert "enableCache: true" not in text
    assert "retryPolicy" not in text


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("dreambooth", ["promote", "publish-checkpoint", "validate-data"]),
        ("sweep", ["promote", "validate-data", "validate-data"]),
        ("retrain", ["promote", "check-triggers", "publish-checkpoint"]),
    ],
)
def test_compiled_conditions_ask_only_for_outputs_that_kfp_local_resolves(name, steps):
    spec = yaml.load(compiled(pipeline_named(name)), yaml.CSafeLoader)
    tasks = [
        task
        for component in [*spec["components"].values(), spec["root"]]
        for task in component.get("dag", {}).get("tasks", {}).values()
    ]

    never = "!= ''"
    demands = {"promote": "== 'promoted'", "check-triggers": "== 'train'"}
    policies = [task.get("triggerPolicy", {}) for task in tasks]
    conditions = [policy["condition"] for policy in policies if "condition" in policy]
    assert sorted(conditions) == sorted(
        f"inputs.parameter_values['pipelinechannel--{step}-Output'] {demands.get(step, never)}"
        for step in steps
    )


def test_compiled_pipeline_runs_each_step_in_its_image():
    executors = yaml.load(compiled(dreambooth), yaml.CSafeLoader)["deploymentSpec"]["executors"]

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
