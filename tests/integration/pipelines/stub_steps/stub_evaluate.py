"""evaluate without pictures: the score is 1 at a learning rate of 2e-4 and falls from there."""

from boothline.registry.ledger import champion_to_beat
from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef


class Inputs(StepInputs):
    model: str
    dataset: str
    priors: list[str]
    samples: list[str]


def refs_of(context, inputs):
    model = ManifestRef.parse(inputs.model)
    champion = champion_to_beat(context.store, context.config.model_name, model)
    named = [model, ManifestRef.parse(inputs.dataset), *map(ManifestRef.parse, inputs.priors)]
    return tuple([*named, champion] if champion else named), champion


def key(context, inputs):
    refs, champion = refs_of(context, inputs)
    return StepKey(config={"champion": str(champion or "")}, inputs=refs)


def score_of(context, ref):
    return 1 - abs(context.store.read(ref).metadata["learning_rate"] - 2e-4) * 1000


def flat(value):
    return {"mean": value, "low": value, "high": value}


def produce(context, inputs):
    refs, champion = refs_of(context, inputs)
    score = score_of(context, inputs.model)
    scores = {name: flat(score) for name in ("dino", "clip_t", "score")}
    gains = {"base": {"dino": flat(score), "clip_t": flat(0.0), "score": flat(score)}}
    metrics = {"finetuned": scores, "base": {name: flat(0.0) for name in scores}}
    if champion:
        gains["champion"] = {"score": flat(score - score_of(context, champion))}
    return ManifestDraft(
        kind="evaluation",
        files={},
        inputs=refs,
        metadata={
            "metrics": metrics,
            "gains": gains,
            "real": {},
            "prompts": ["a photo"],
            "images_per_prompt": 1,
            "champion": str(champion or ""),
        },
    )


def means(evaluation):
    return {}


STEP = Step(name="evaluate", inputs=Inputs, version=1, key=key, produce=produce)


def run(**inputs):
    return execute(STEP, Inputs.model_validate(inputs))
