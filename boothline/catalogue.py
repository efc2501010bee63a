"""The steps as they describe themselves; every list of steps is derived from here.

A step is a folder of `boothline/components`, whose `__init__.py` holds its description as `ABOUT`,
with what its result shows in tracking, and loads nothing else. Who adds a step adds a folder, and
names it in the pipelines that use it.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

import boothline
from boothline.results import Result

if TYPE_CHECKING:
    from boothline.config import RunConfig
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

TRAINING_PIPELINES: Final = ("dreambooth", "sweep", "retrain")
PIPELINES: Final = (*TRAINING_PIPELINES, "batch_inference")
TOOLS: Final = f"boothline/tools:{boothline.__version__}"
TORCH: Final = f"boothline/torch:{boothline.__version__}"
"""Names of the container images that the steps run in."""
_TITLES: Final = {"batch_infer": "Batch inference"}


def show_nothing(context: "StepContext", ref: "ManifestRef") -> None:
    """Log nothing of a result."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """How a step is cut into shards.

    Attributes:
        setting: the setting that says how many.
        count: how many a configuration asks for.
    """

    setting: str
    count: "Callable[[RunConfig], int]"


@dataclass(frozen=True, kw_only=True)
class StepDescription:
    """What the rest of Boothline knows of a step.

    Attributes:
        name: its verb, the same in folder, component and MLflow run.
        place: where it stands among the steps of all pipelines, in an order that holds for each.
        image: the container image that it runs in; TORCH holds every GPU that it sees.
        result: what its manifest says.
        gives: the input by which other steps are given its result; empty: none is.
        unit: what one unit of its work is; empty: nothing is counted.
        runs: when a run gets to it: `always`; when it is `trained`, which a retraining may find no
            reason for; when the model was `promoted`; at the `end`, whatever happened before.
        pipelines: those that have it.
        shards: how it is cut; None: it is not.
        in_trials: whether a sweep runs it once a trial.
        optional: whether a run is complete without it.
        signs: whether it publishes models, and so needs the key that signs them.
        verifies: whether it loads published models, and so needs the key that verifies them.
        show: logs to the context's tracker what a committed result shows, from the store alone:
            the settings are the context's `key_config`.
    """

    name: str
    place: int
    image: str
    result: type[Result]
    gives: str = ""
    unit: str = ""
    runs: Literal["always", "trained", "promoted", "end"] = "trained"
    pipelines: tuple[str, ...] = TRAINING_PIPELINES
    shards: Shards | None = None
    in_trials: bool = False
    optional: bool = False
    signs: bool = False
    verifies: bool = False
    show: "Callable[[StepContext, ManifestRef], None]" = show_nothing


@cache
def steps() -> tuple[StepDescription, ...]:
    """Return all steps in their order."""
    package = import_module("boothline.components")
    folders = [module for module in pkgutil.iter_modules(package.__path__) if module.ispkg]
    modules = [import_module(f"{package.__name__}.{folder.name}") for folder in folders]
    return tuple(sorted([module.ABOUT for module in modules], key=lambda step: step.place))


def steps_of(pipeline: str) -> tuple[StepDescription, ...]:
    """Return the steps of a pipeline in their order; none of one that is not known."""
    return tuple(step for step in steps() if pipeline in step.pipelines)


def has_gate(pipeline: str) -> bool:
    """Return whether a pipeline judges a model before it serves one."""
    return any(step.name == "promote" for step in steps_of(pipeline))


def described(name: str) -> StepDescription | None:
    """Return the description of a step; None for one that is not known."""
    return next((step for step in steps() if step.name == name), None)


def title_of(name: str) -> str:
    """Return what a pipeline's graph calls a step."""
    return _TITLES.get(name) or name.replace("_", " ").capitalize()


def place_of(name: str) -> int:
    """Return where a step stands among all; those that are not known come last."""
    return next((number for number, step in enumerate(steps()) if step.name == name), len(steps()))


def trial_steps() -> tuple[str, ...]:
    """Return the steps that a sweep runs once a trial."""
    return tuple(step.name for step in steps() if step.in_trials)


def ends_run(name: str) -> bool:
    """Return whether a step looks after the end of the run rather than its model."""
    step = described(name)
    return step is not None and step.runs == "end"
