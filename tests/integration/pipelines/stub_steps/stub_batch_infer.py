"""batch_infer without a model: no pictures."""

from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef


class Inputs(StepInputs):
    model: str
    shard: int


def key(context, inputs):
    return StepKey(config={"shard": inputs.shard}, inputs=(ManifestRef.parse(inputs.model),))


def produce(context, inputs):
    return ManifestDraft(
        kind="images",
        files={"index.jsonl": b""},
        inputs=(ManifestRef.parse(inputs.model),),
        metadata={"model": inputs.model, "num_images": 0, "shard": inputs.shard},
    )


STEP = Step(name="batch_infer", inputs=Inputs, version=1, key=key, produce=produce)


def run(**inputs):
    return execute(STEP, Inputs.model_validate(inputs))
