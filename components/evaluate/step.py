"""Samples pictures from the models that compete, scores them, and commits the evaluation."""

import json
from collections.abc import Mapping, Sequence

from PIL import Image

from boothline import settings as environment
from boothline.components.evaluate import ABOUT
from boothline.diffusion.base_model import BaseModel, model_of
from boothline.diffusion.layout import family_of
from boothline.diffusion.presets import native_px_of, usual_px
from boothline.evaluation.contenders import (
    Contender,
    Gallery,
    Priors,
    Studio,
    champion_of,
    contenders_of,
)
from boothline.evaluation.encoders import load_clip, load_dino
from boothline.evaluation.judges import ENCODERS, unfit_judges
from boothline.evaluation.metrics import Bootstrap
from boothline.evaluation.pictures import fill
from boothline.evaluation.prompt_sets import templates
from boothline.evaluation.scoring import (
    Judge,
    PictureScores,
    Subject,
    rows_of,
    summarise,
)
from boothline.results import BASE, CHAMPION, FINE_TUNED, Evaluation
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.subjects import Files, each_subject
from boothline.trials import FAILED_TRIAL

# Settings that only name something, whose content the key has instead, or that change nothing.
_NOT_IN_KEY = {
    "num_shards",
    "clip_model",
    "dino_model",
    "lpips_model",
    "prompts",
    "prompt_set",
    "prompts_file",
}
_TITLES = {FINE_TUNED: "the fine-tuned model", BASE: "the base model", CHAMPION: "the champion"}


class Inputs(StepInputs):
    """Inputs of evaluate.

    Attributes:
        model: reference of the model to judge.
        dataset: reference of the dataset with the subject's pictures.
        priors: references of the prior manifests; may be empty.
        samples: references of the shards that have sampled pictures; nothing is read from them, the
            pictures are found by content, but they must be done.
    """

    model: str
    dataset: str
    priors: list[str]
    samples: list[str]


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the scores depend on: models, pictures, encoders, settings."""
    config = context.config
    champion = champion_of(context, ManifestRef.parse(inputs.model))
    evaluation = config.evaluation
    return StepKey(
        config={
            "evaluation": evaluation.model_dump(mode="json", exclude=_NOT_IN_KEY),
            "prompts": list(templates(evaluation)),
            "subject": config.subject.model_dump(
                mode="json", include={"identifier", "class_noun", "resolution_px"}
            ),
            "prior": config.prior.model_dump(
                mode="json",
                include={"prompt", "prompts", "sampling"},
                exclude={"sampling": {"precision"}},  # models are loaded in the evaluation's
            ),
            "base_model_digest": _resolved(context).digest,
            "clip_digest": _resolved(context, evaluation.clip_model).digest,
            "dino_digest": _resolved(context, evaluation.dino_model).digest,
            "lpips_digest": _lpips_digest(context),
            "champion": str(champion or ""),
        },
        inputs=_inputs_read(inputs, champion),
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Make, score and compare the pictures.

    Raises:
        ConfigError: the base model or an encoder does not exist or cannot be loaded.
        DataError: a model cannot be loaded.
    """
    from boothline.diffusion.devices import share_cores

    share_cores(1, settings=context.settings)
    model = ManifestRef.parse(inputs.model)
    champion = champion_of(context, model)
    contenders = contenders_of(context, model=model, champion=champion)
    priors = Priors(context.store, [ManifestRef.parse(ref) for ref in inputs.priors])
    studio = Studio(context, priors=priors, num_contenders=len(contenders))
    galleries = {one.name: studio.gallery(one) for one in contenders}
    studio.note("loading the encoders")
    judge = _judge(context)
    real = _subject_images(context, inputs)
    subject = judge.subject(list(real.values()))
    scores = {}
    for name, gallery in galleries.items():
        studio.note(f"encoding the pictures of {_TITLES[name]}")
        scores[name] = _score(context, gallery, judge=judge, subject=subject)
    studio.note("computing intervals")
    evaluation = _evaluation(context, scores, subject=subject, champion=champion)
    sets = {ref for gallery in galleries.values() for ref in gallery.sets}
    read = _inputs_read(inputs, champion)
    return evaluation.draft(
        {
            **{
                picture.name: picture.entry
                for gallery in galleries.values()
                for picture in (*gallery.images, *gallery.class_images)
            },
            "scores.jsonl": _score_lines(context, contenders, galleries, scores, real=list(real)),
        },
        inputs=(*read, *sorted(sets - set(read), key=str)),
    )


def means(evaluation: str) -> dict[str, float]:
    """Return the model's mean scores, their bounds and its gains over the base, by name."""
    if evaluation == FAILED_TRIAL:
        return {}
    found = Store.connect(environment.current()).read_as(Evaluation, evaluation)
    gains = {f"{name}_gain": gain.mean for name, gain in found.gained().items()}
    bounds = {
        f"{name}_{end}": bound
        for name, score in found.scores().items()
        for end, bound in (("low", score.low), ("high", score.high))
        if bound is not None
    }
    return found.means() | bounds | gains


def _resolved(context: StepContext, source: str = "") -> BaseModel:
    return model_of(context.config, context.settings, source)


def _inputs_read(inputs: Inputs, champion: ManifestRef | None) -> tuple[ManifestRef, ...]:
    named = [ManifestRef.parse(ref) for ref in (inputs.model, inputs.dataset, *inputs.priors)]
    return (*named, champion) if champion else tuple(named)


def _lpips_digest(context: StepContext) -> str:
    source = context.config.evaluation.lpips_model
    return _resolved(context, source).digest if source else ""


def _judge(context: StepContext) -> Judge:
    """Load the encoders and, where one is asked for, the perceptual distance."""
    evaluation = context.config.evaluation
    distance = None
    if evaluation.lpips_model:
        from boothline.evaluation.perceptual import Lpips

        distance = Lpips(_resolved(context, evaluation.lpips_model))
    return Judge(
        dino=load_dino(_resolved(context, evaluation.dino_model)),
        clip=load_clip(_resolved(context, evaluation.clip_model)),
        subject_weight=evaluation.subject_weight,
        distance=distance,
    )


def _subject_images(context: StepContext, inputs: Inputs) -> dict[str, Image.Image]:
    """Return the subject's own pictures by their paths in the dataset."""
    local = context.store.fetch(inputs.dataset, context.folder / "dataset", prefix="images/")
    images: dict[str, Image.Image] = {}
    for path in sorted((local / "images").iterdir()):
        with Image.open(path, formats=("PNG",)) as image:
            images[f"images/{path.name}"] = image.convert("RGB")
    return images


def _score(
    context: StepContext, gallery: Gallery, *, judge: Judge, subject: Subject
) -> PictureScores:
    """Score one contender. CLIP does not know the identifier, so its texts name the class alone."""
    config = context.config
    return judge.score(
        [picture.open() for picture in gallery.images],
        texts=fill(templates(config.evaluation), config.subject.class_noun),
        subject=subject,
        class_images=[picture.open() for picture in gallery.class_images],
    )


def _evaluation(
    context: StepContext,
    scores: Mapping[str, PictureScores],
    *,
    subject: Subject,
    champion: ManifestRef | None,
) -> Evaluation:
    """Return what the scores come to."""
    evaluation = context.config.evaluation
    unfit = _not_judged(context)
    bootstrap = Bootstrap(num_resamples=evaluation.num_bootstrap, seed=evaluation.sampling.seed)
    return Evaluation(
        **summarise(scores, subject=subject, bootstrap=bootstrap),
        prompts=fill(templates(evaluation), context.config.subject.phrase),
        prompt_set=evaluation.prompt_set,
        images_per_prompt=evaluation.images_per_prompt,
        champion=str(champion or ""),
        div_distance="LPIPS" if evaluation.lpips_model else "1 - cosine of DINO features",
        **({"not_judged": unfit} if unfit else {}),
    )


def _not_judged(context: StepContext) -> str:
    """Return why the encoders cannot judge the pictures of the base; empty: they can.

    A base that only the steps can reach, on a hub or in the cluster's store, is not checked before.
    """
    base = _resolved(context)
    family = family_of(base.path)
    found = unfit_judges(
        context.config,
        native=usual_px(family, native_px_of(base.path, family)),
        folders={
            name: _resolved(context, getattr(context.config.evaluation, name)).path
            for name in ENCODERS
        },
    )
    return "; ".join(unfit.message for unfit in found)


def _score_lines(
    context: StepContext,
    contenders: Sequence[Contender],
    galleries: Mapping[str, Gallery],
    scores: Mapping[str, PictureScores],
    *,
    real: Sequence[str],
) -> bytes:
    """Return `scores.jsonl`: one row a picture."""
    rows = [
        row
        for one in contenders
        for row in rows_of(
            one.name,
            scores[one.name],
            images=[picture.name for picture in galleries[one.name].images],
            prompts=fill(templates(context.config.evaluation), one.phrase),
            real=real,
        )
    ]
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()


def gather(context: StepContext, parts: Mapping[str, ManifestRef]) -> tuple[Evaluation, Files]:
    """Return what the evaluations of several subjects come to, and what each is taken for.

    Raises:
        ConflictError: the champion changed between them.
    """
    from boothline.evaluation.confusion import confusion_of, of_several

    context.progress.update(0, 1, unit="subjects", note="comparing the subjects")
    found = {name: context.store.read_as(Evaluation, ref) for name, ref in parts.items()}
    dino = load_dino(_resolved(context, context.config.evaluation.dino_model))
    confusion = confusion_of(context.store, parts, encode=dino.encode)
    context.progress.update(1, 1, unit="subjects")
    return of_several(found, confusion=confusion), {}


STEP = each_subject(
    Step(name=ABOUT.name, inputs=Inputs, version=2, key=key, produce=produce), gather=gather
)
run = STEP.run
