"""sample_models without a model: no pictures."""

from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft


class Inputs(StepInputs):
    model: str
    priors: list[str]
    shard: int


def key(context, inputs):
    return StepKey(config={"num_shards": 1})


def produce(context, inputs):
    return ManifestDraft(kind="evaluation_shard", files={}, metadata={"num_images": 0})


STEP = Step(name="sample_models", inputs=Inputs, version=1, key=key, produce=produce)


def run(**inputs):
    return execute(STEP, Inputs.model_validate(inputs))
