"""publish_checkpoint with one file and no weights; registers the version as the real one does."""

from boothline.registry.versions import ensure_version
from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef


class Inputs(StepInputs):
    training: str


def key(context, inputs):
    return StepKey(
        config={"model_name": context.config.model_name},
        inputs=(ManifestRef.parse(inputs.training),),
    )


def produce(context, inputs):
    facts = context.store.read(inputs.training).metadata
    return ManifestDraft(
        kind="model",
        files={"diffusers/model_index.json": b"{}"},
        inputs=(ManifestRef.parse(inputs.training),),
        metadata={"model_name": context.config.model_name, **facts},
    )


def finish(context, inputs, ref):
    ensure_version(context.store, context.settings, model_name=context.config.model_name, ref=ref)


STEP = Step(
    name="publish_checkpoint", inputs=Inputs, version=1, key=key, produce=produce, finish=finish
)


def run(**inputs):
    return execute(STEP, Inputs.model_validate(inputs))
