"""Judge a model by its evaluation and make it champion if every rule of the gate passes."""

import logging

from boothline import settings as environment
from boothline.components.promote import ABOUT
from boothline.config.promotion import PromotionConfig
from boothline.errors import DataError
from boothline.registry.gate import Verdict, judge_each
from boothline.registry.promotion import promote, sync_challenger
from boothline.registry.subjects import judge_subject
from boothline.results import PROMOTED, REFUSED, Evaluation, Model, Promotion
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import Manifest, ManifestDraft, ManifestRef, Store
from boothline.subjects import parts_of

# So that verdicts from before they existed keep their keys.
_LATER_RULES = ("max_prior_loss", "max_diversity_loss")
logger = logging.getLogger(__name__)


class Inputs(StepInputs):
    """Inputs of promote.

    Attributes:
        model: reference of the model manifest to judge.
        evaluation: reference of its evaluation.
    """

    model: str
    evaluation: str


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the verdict depends on; the champion enters through the evaluation."""
    return StepKey(
        config={
            "model_name": context.config.model_name,
            "promotion": _settings(context.config.promotion),
        },
        inputs=(ManifestRef.parse(inputs.model), ManifestRef.parse(inputs.evaluation)),
    )


def _settings(promotion: PromotionConfig) -> dict[str, object]:
    """Return the gate's settings; later rules count only where they are asked for."""
    unset = {name for name in _LATER_RULES if getattr(promotion.margins, name) is None}
    return promotion.model_dump(mode="json", exclude={"margins": unset})


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Judge the model; nothing is promoted yet.

    Raises:
        DataError: the evaluation is of another model.
    """
    promotion = context.config.promotion
    evaluation = context.store.read_as(Evaluation, inputs.evaluation)
    _check_subject(context.store, context.store.read(inputs.evaluation), inputs)
    champion = evaluation.champion
    parts = parts_of(context.store, inputs.evaluation)
    each = {name: context.store.read_as(Evaluation, ref) for name, ref in parts.items()}
    judgement = judge_each(each, promotion)
    if champion:
        models = ManifestRef.parse(inputs.model), ManifestRef.parse(champion)
        rule = judge_subject(context.store, *models)
        judgement = Verdict(rules=(*judgement.rules, rule))
    outcome = PROMOTED if judgement.promoted else REFUSED
    for rule in judgement.rules:
        logger.info("%s: %s", rule.name, rule.text)
    context.progress.update(1, 1, unit="verdicts", note=outcome)
    inputs_read = [inputs.model, inputs.evaluation, *([champion] if champion else [])]
    result = Promotion(
        verdict=outcome,
        rules=judgement.rules,
        model=inputs.model,
        model_name=context.config.model_name,
        champion_before=champion,
    )
    return result.draft(inputs=tuple(ManifestRef.parse(ref) for ref in inputs_read))


def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
    """Carry the verdict out: the ledger's entry, then MLflow's alias.

    Here and not in `produce`, so that a kill at any moment leaves something to continue from: the
    verdict is committed before anything acts on it, the entry names that verdict and is written
    once for it, and a resumed run calls `finish` again, which continues after what was done
    last.

    Raises:
        ConflictError: another model has become champion since the evaluation.
        TrackingError: MLflow is unreachable.
    """
    result = context.store.read_as(Promotion, ref)
    if not result.promoted:
        sync_challenger(context.store, context.settings, result.model_name)
        return
    before = result.champion_before
    promote(
        context.store,
        context.settings,
        result.model_name,
        ref=ManifestRef.parse(result.model),
        beaten=ManifestRef.parse(before) if before else None,
        evidence=ref,
        reason=result.reason,
        actor=f"run {context.run_id}",
    )


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce, finish=finish)
run = STEP.run


def verdict(promotion: str) -> str:
    """Return `promoted` or `refused`, as the promotion manifest says."""
    store = Store.connect(environment.current())
    return store.read_as(Promotion, promotion).verdict


def figures(promotion: str) -> dict[str, float]:
    """Return 1 for a model that was promoted, else 0, and what each rule measured, by name."""
    found = Store.connect(environment.current()).read_as(Promotion, promotion)
    values = {rule.name: rule.value for rule in found.rules if rule.value is not None}
    return {"promoted": float(found.promoted)} | values


def _check_subject(store: Store, evaluation: Manifest, inputs: Inputs) -> None:
    """Make sure that the evaluation judges this very model, by content.

    Raises:
        DataError: it judges another one.
    """
    if inputs.model in evaluation.inputs:
        return
    content = store.read(inputs.model).content_digest
    judged = [
        manifest for manifest in map(store.read, evaluation.inputs) if manifest.kind == Model.kind
    ]
    if all(manifest.content_digest != content for manifest in judged):
        raise DataError(
            f"The evaluation {inputs.evaluation} belongs to a different model than {inputs.model}.",
            remedy="Evaluate the model first.",
        )
