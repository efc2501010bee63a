"""train without a model: the settings are the result; a learning rate of 1 fails."""

from boothline.errors import NonFiniteLossError
from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef


class Inputs(StepInputs):
    dataset: str
    priors: list[str]


def key(context, inputs):
    return StepKey(
        config={"training": context.config.training.model_dump(mode="json")},
        inputs=(ManifestRef.parse(inputs.dataset),),
    )


def produce(context, inputs):
    training = context.config.training
    if training.learning_rate == 1:
        raise NonFiniteLossError("The loss became NaN.", remedy="Lower training.learning_rate.")
    context.progress.update(training.num_steps, training.num_steps, unit="steps", note="loss 0.1")
    return ManifestDraft(
        kind="training",
        files={},
        inputs=(ManifestRef.parse(inputs.dataset), *map(ManifestRef.parse, inputs.priors)),
        metadata={
            "learning_rate": training.learning_rate,
            "num_steps": training.num_steps,
            "pictures": context.store.read(inputs.dataset).content_digest,
        },
    )


STEP = Step(name="train", inputs=Inputs, version=1, key=key, produce=produce)


def run(**inputs):
    return execute(STEP, Inputs.model_validate(inputs))
