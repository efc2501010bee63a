"""How each step is tried: its inputs, and what of its result a setting has to change."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from sensitivity.lab import Bits, Lab, Probe, content, everything, files
from sensitivity.material import dataset, prior

from boothline.components.batch_infer import step as batch_infer
from boothline.components.check_triggers import step as check_triggers
from boothline.components.choose_model import step as choose_model
from boothline.components.compare_trials import step as compare_trials
from boothline.components.evaluate import step as evaluate
from boothline.components.finish_run import step as finish_run
from boothline.components.generate_prior import step as generate_prior
from boothline.components.promote import step as promote
from boothline.components.publish_checkpoint import step as publish_checkpoint
from boothline.components.sample_models import step as sample_models
from boothline.components.train import step as train
from boothline.components.validate_data import step as validate_data
from boothline.config import RunConfig
from boothline.registry import ledger
from boothline.registry.versions import ensure_version
from boothline.store import FileEntry, ManifestDraft, ManifestRef, Store
from boothline.store.manifest import digest_of, files_under
from boothline.trials import FAILED_TRIAL

RUN = {"run_id": "20260101-000000-abcd", "config": "{}"}
NAME = "boothline-subject"
JUDGED = {"training.validation.every_steps": 1}
SMALL_SHEET = {"evaluation.prompts": ["a {subject}"], "evaluation.sampling.num_steps": 1}
SCORES = ("dino", "clip_i", "clip_t", "div", "pres", "score")


def model(lab: Lab, store: Store, name: str, config: RunConfig | None = None) -> ManifestRef:
    """Commit one of the lab's models as published for the subjects of a configuration."""
    config = config or lab.config({})
    words = [one.model_dump(exclude={"images"}) for one in config.subjects]
    own = {name: getattr(config.subject, name) for name in ("identifier", "class_noun")}
    facts: dict[str, Any] = {"subjects": words} if words else own
    path = f"steps/publish_checkpoint/{name}-{digest_of(facts)[:16]}"
    found = store.find(path)
    weights = files_under(lab.named[name], prefix="diffusers/")
    draft = ManifestDraft(kind="model", files=weights, metadata={"name": name, **facts})
    return found or store.commit(path, draft)


def crown(lab: Lab, store: Store) -> ManifestRef:
    """Make a model champion of the base's subject, ten days ago, with a score of 0.5."""
    champion = model(lab, store, "champion")
    if ledger.champion(store, NAME) is not None:
        return champion
    ensure_version(store, lab.settings, model_name=NAME, ref=champion)
    scores = {"finetuned": {"score": {"mean": 0.5}}}
    judged = ManifestDraft(
        kind="evaluation", files={}, inputs=(champion,), metadata={"metrics": scores}
    )
    evaluation = store.commit("steps/evaluate/champion", judged)
    verdict = ManifestDraft(kind="promotion", files={}, inputs=(champion, evaluation))
    entry = ledger.LedgerEntry(
        number=1,
        action="promote",
        model_name=NAME,
        version=1,
        ref=champion,
        evidence=str(store.commit("steps/promote/champion", verdict)),
        reason="the first",
        actor="run r",
    )
    ledger.append(store, entry.model_copy(update={"time": entry.time - 10 * 86400}))
    return champion


def pixels(lab: Lab, store: Store, draft: ManifestDraft) -> dict[str, str]:
    """Return the digest of every picture's pixels, whatever is written into its file."""
    found = {}
    for path, source in draft.files.items():
        if path.endswith(".png"):
            with Image.open(io.BytesIO(content(store, source))) as image:
                found[path] = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
    return found


def dataset_effect(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return pictures, captions and findings."""
    report = json.loads(content(store, draft.files["report.json"]))
    findings = {name: report[name] for name in ("accepted", "quarantined", "warnings")}
    captions = files(lab, store, draft, under="captions")
    return {**pixels(lab, store, draft), **captions, **findings}


def prior_effect(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return pictures and captions."""
    return {**pixels(lab, store, draft), **files(lab, store, draft, under="captions")}


def trained(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return weights, optimizer, losses and validations; sample sheets are diagnostics."""
    state = next(ref for ref in draft.inputs if ref.path.startswith("training/"))
    weights = {e.path: e.sha256 for e in store.read(state).files if e.path.endswith(".safetensors")}
    rows = {n: f for n, f in files(lab, store, draft).items() if not n.startswith("samples/")}
    return {**weights, **rows, "chosen": draft.metadata.get("chosen_step")}


def prior_inputs(lab: Lab, store: Store, config: RunConfig) -> generate_prior.Inputs:
    """Return pictures of the subject that come without class pictures of their own."""
    return generate_prior.Inputs(**RUN, dataset=str(dataset(store, config)), shard=0)


def training_inputs(lab: Lab, store: Store, config: RunConfig) -> train.Inputs:
    """Return pictures of the subject and of the class."""
    priors = [str(prior(store, config))]
    return train.Inputs(**RUN, dataset=str(dataset(store, config)), priors=priors)


def publish_inputs(lab: Lab, store: Store, config: RunConfig) -> publish_checkpoint.Inputs:
    """Return a training of the base whose weights are those of another model."""
    from boothline.diffusion.base_model import resolve

    tuned = lab.named["tuned"]
    state_files: dict[str, Path | bytes | FileEntry] = {
        "unet.safetensors": tuned / "unet/diffusion_pytorch_model.safetensors",
        "text_encoder.safetensors": tuned / "text_encoder/model.safetensors",
    }
    state = store.commit(
        "training/t/step-000001", ManifestDraft(kind="training_state", files=state_files)
    )
    draft = ManifestDraft(
        kind="training",
        files={},
        inputs=(dataset(store, lab.config({})), state),
        metadata={
            "final_state": store.read(state).content_digest,
            "base_model_digest": resolve(str(lab.named["base"]), settings=lab.settings).digest,
        },
    )
    return publish_checkpoint.Inputs(**RUN, training=str(store.commit("steps/train/t", draft)))


def sampling_inputs(lab: Lab, store: Store, config: RunConfig) -> sample_models.Inputs:
    """Return a model, a champion to beat, and class pictures."""
    crown(lab, store)
    priors = [str(prior(store, config))]
    tuned = str(model(lab, store, "tuned", config))
    return sample_models.Inputs(**RUN, model=tuned, priors=priors, shard=0)


def judging_inputs(lab: Lab, store: Store, config: RunConfig) -> evaluate.Inputs:
    """Return a model, a champion to beat, and the pictures of subject and class."""
    sampled = sampling_inputs(lab, store, config)
    return evaluate.Inputs(
        **RUN,
        model=sampled.model,
        dataset=str(dataset(store, config)),
        priors=sampled.priors,
        samples=[],
    )


def judged(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return pictures, the scores of each, and what they come to."""
    lines = [json.loads(x) for x in content(store, draft.files["scores.jsonl"]).splitlines()]
    numbers = [[value for value in line.values() if isinstance(value, float)] for line in lines]
    sums = {n: draft.metadata[n] for n in ("metrics", "gains", "real", "copies")}
    return {**pixels(lab, store, draft), "scores": numbers, **sums}


def promote_inputs(lab: Lab, store: Store, config: RunConfig) -> promote.Inputs:
    """Return a model that passes every rule by any statistic, and whose bounds all differ."""
    candidate, champion = model(lab, store, "tuned"), crown(lab, store)

    def scores(first: float) -> dict[str, Any]:
        means = {name: first + number / 100 for number, name in enumerate(SCORES)}
        return {n: {"mean": m, "low": m - 0.03, "high": m + 0.02} for n, m in means.items()}

    gains = {"base": scores(0.05), "champion": scores(0.1)}
    gains["base"]["clip_t"] = {"mean": -0.05, "low": -0.07, "high": 0.005}
    gains["base"]["div"] = {"mean": -0.2, "low": -0.3, "high": -0.15}
    metrics = {"finetuned": scores(0.5), "base": scores(0.45)}
    facts = {"metrics": metrics, "gains": gains, "champion": str(champion)}
    draft = ManifestDraft(kind="evaluation", files={}, inputs=(candidate,), metadata=facts)
    evaluation = store.commit("steps/evaluate/tuned", draft)
    return promote.Inputs(**RUN, model=str(candidate), evaluation=str(evaluation))


def verdict(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return the verdict, and of each rule whether it passes and what was measured for it."""
    rules = [(rule["passed"], rule["value"]) for rule in draft.metadata["rules"]]
    facts = {name: draft.metadata[name] for name in ("verdict", "model_name", "champion_before")}
    return {**facts, "rules": rules}


def trigger_inputs(lab: Lab, store: Store, config: RunConfig) -> check_triggers.Inputs:
    """Return pictures that no version has seen, beside a champion."""
    crown(lab, store)
    return check_triggers.Inputs(**RUN, dataset=str(dataset(store, lab.config({}))))


def decision(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return the decision with the triggers that were asked."""
    triggers = [(trigger["name"], trigger["fired"]) for trigger in draft.metadata["triggers"]]
    facts = {name: draft.metadata[name] for name in ("decision", "model_name")}
    return {**facts, "triggers": triggers}


def trial_inputs(lab: Lab, store: Store, config: RunConfig) -> compare_trials.Inputs:
    """Return a trial with an evaluation and one that failed."""
    tuned = model(lab, store, "tuned")
    facts = {"metrics": {"finetuned": {"score": {"mean": 0.5}}}}
    draft = ManifestDraft(kind="evaluation", files={}, inputs=(tuned,), metadata=facts)
    evaluation = str(store.commit("steps/evaluate/trial", draft))
    return compare_trials.Inputs(
        **RUN, models=[str(tuned), FAILED_TRIAL], evaluations=[evaluation, FAILED_TRIAL]
    )


def inference_inputs(lab: Lab, store: Store, config: RunConfig) -> batch_infer.Inputs:
    """Return a model."""
    return batch_infer.Inputs(**RUN, model=str(model(lab, store, "tuned")), shard=0)


def choice_inputs(lab: Lab, store: Store, config: RunConfig) -> choose_model.Inputs:
    """Register two versions under the configured name."""
    for name in ("champion", "tuned"):
        ref = model(lab, store, name)
        ensure_version(store, lab.settings, model_name=config.model_name, ref=ref)
    return choose_model.Inputs(**RUN)


def chosen(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return what was chosen; how it was asked for is told beside it."""
    return dict(draft.metadata)


def inferred(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return the pixels of pictures and sheets, and the names of other files."""
    return {**dict.fromkeys(draft.files, "file"), **pixels(lab, store, draft)}


def page(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return the report."""
    return files(lab, store, draft)


def _in_run(inputs: type[Any], **more: Any) -> Any:
    return lambda lab, store, config: inputs(**RUN, **more)


PROBES: Mapping[str, Probe] = {
    probe.step.name: probe
    for probe in (
        Probe(step=validate_data.STEP, inputs=_in_run(validate_data.Inputs), effect=dataset_effect),
        Probe(
            step=generate_prior.STEP,
            inputs=prior_inputs,
            effect=prior_effect,
        ),
        Probe(
            step=train.STEP,
            inputs=training_inputs,
            effect=trained,
            scenes=(SMALL_SHEET, JUDGED),
            whole=trained,
        ),
        Probe(step=publish_checkpoint.STEP, inputs=publish_inputs, effect=everything),
        Probe(
            step=sample_models.STEP,
            inputs=sampling_inputs,
            effect=pixels,
            scenes=({"evaluation.num_shards": 2},),
        ),
        Probe(step=evaluate.STEP, inputs=judging_inputs, effect=judged),
        Probe(step=promote.STEP, inputs=promote_inputs, effect=verdict),
        Probe(step=batch_infer.STEP, inputs=inference_inputs, effect=inferred),
        Probe(step=choose_model.STEP, inputs=choice_inputs, effect=chosen),
        Probe(step=check_triggers.STEP, inputs=trigger_inputs, effect=decision),
        Probe(
            step=compare_trials.STEP,
            inputs=trial_inputs,
            effect=everything,
            scenes=({"sweep.trials": [{"training.learning_rate": n} for n in (0.1, 0.2)]},),
        ),
        Probe(step=finish_run.STEP, inputs=_in_run(finish_run.Inputs), effect=page),
    )
}
