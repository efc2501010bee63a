"""Say whether there is a reason to train again, and claim it so that no other run does."""

import logging

from boothline import settings as environment
from boothline.components.check_triggers import ABOUT
from boothline.registry.triggers import claim
from boothline.results import Decision
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, Store

logger = logging.getLogger(__name__)


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        dataset: reference of today's dataset.
    """

    dataset: str


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the decision depends on; it is taken once a run."""
    return StepKey(
        config={
            "run_id": context.run_id,
            "model_name": context.config.model_name,
            "retrain": context.config.retrain.model_dump(mode="json"),
        },
        inputs=(ManifestRef.parse(inputs.dataset),),
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Decide and claim.

    A run that is killed between claim and commit finds its own claim when it is resumed.
    """
    dataset = ManifestRef.parse(inputs.dataset)
    decision = claim(
        context.store,
        context.config,
        dataset=context.store.read(dataset).content_digest,
        run_id=context.run_id,
    )
    for trigger in decision.triggers:
        logger.info("%s: %s", trigger.name, trigger.text)
    context.progress.update(1, 1, unit="decisions", note=decision.decision)
    return decision.draft(inputs=(dataset,))


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce)
run = STEP.run


def outcome(decision: str) -> str:
    """Return `train` or `skip`, as the decision's manifest says."""
    return Store.connect(environment.current()).read_as(Decision, decision).decision
