"""Pin the version of a registered model that a run serves: all its shards serve the same."""

import logging

from boothline import settings as environment
from boothline.components.choose_model import ABOUT
from boothline.registry.versions import resolve
from boothline.results import Choice
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, Store

logger = logging.getLogger(__name__)


class Inputs(StepInputs):
    """Inputs of choose_model: the configuration names model and version."""


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the choice depends on; it is made once a run, and a resumed run keeps it."""
    return StepKey(
        config={
            "run_id": context.run_id,
            "model_name": context.config.model_name,
            "version": context.config.inference.version,
        }
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Look the version up.

    Raises:
        ModelNotFoundError: there is no such model, or no such version of it.
    """
    name, selector = context.config.model_name, context.config.inference.version
    version = resolve(context.store, name, selector)
    logger.info("%s@%s is version %d, %s", name, selector, version.version, version.digest)
    context.progress.update(1, 1, unit="models", note=f"version {version.version}")
    choice = Choice(
        model=str(version.ref), model_name=name, version=version.version, selector=selector
    )
    return choice.draft(inputs=(version.ref,))


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce)
run = STEP.run


def chosen(choice: str) -> str:
    """Return the reference of the model that a choice names."""
    return Store.connect(environment.current()).read_as(Choice, choice).model
