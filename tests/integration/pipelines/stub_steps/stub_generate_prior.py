"""generate_prior without a model: an empty set a shard."""

from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft


class Inputs(StepInputs):
    dataset: str
    shard: int


def key(context, inputs):
    return StepKey(config={"shard": inputs.shard, "prior": context.config.prior.num_images})


def produce(context, inputs):
    return ManifestDraft(kind="prior", files={}, metadata={"num_images": 0, "shard": inputs.shard})


STEP = Step(name="generate_prior", inputs=Inputs, version=1, key=key, produce=produce)


def run(**inputs):
    return execute(STEP, Inputs.model_validate(inputs))
