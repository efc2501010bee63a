"""The models that an evaluation compares, and the pictures that each of them makes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from boothline.config import RunConfig
from boothline.diffusion.base_model import model_of
from boothline.diffusion.signatures import MODEL_FOLDER, verify_signed
from boothline.evaluation.pictures import PicturePlan, prior_indices
from boothline.evaluation.prompt_sets import templates
from boothline.pictures.making import generate, png_of
from boothline.pictures.parts import Parts
from boothline.registry.ledger import champion_to_beat
from boothline.results import BASE, CHAMPION, FINE_TUNED, EvaluationImages, Model
from boothline.steps import StepContext
from boothline.store import FileEntry, ManifestRef, Store, layout

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts

NUM_CLASS_IMAGES = 8
"""Class pictures for PRES: as many as one batch of the default size samples together."""

_TITLES = {FINE_TUNED: "fine-tuned", BASE: "base", CHAMPION: "champion"}
LoadModel = Callable[[Path], "DiffusionParts"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model that takes part.

    Attributes:
        name: FINE_TUNED, BASE or CHAMPION.
        phrase: what stands for `{subject}` in its prompts.
        digest: names the model by content.
        load: loads it.
    """

    name: str
    phrase: str
    digest: str
    load: Callable[[], "DiffusionParts"]


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """A set of pictures that one contender makes, in parts that shards share among them.

    Attributes:
        contender: the model.
        plan: the pictures.
        folder: their folder in the evaluation.
    """

    contender: Contender
    plan: PicturePlan
    folder: str

    @property
    def key(self) -> str:
        """The name of the set."""
        return self.plan.key(self.contender.digest)

    def ensure_part(self, parts: Parts, number: int) -> None:
        """Find or make one part of the pictures."""
        part = self.plan.part(number, model_digest=self.contender.digest)
        if not parts.take(part.path):
            made = generate(self.contender.load(), part.pictures)
            parts.keep(part, ((picture, png_of(image)) for picture, image in made))

    def ensure(self, store: Store, *, on_picture: Callable[[int], None]) -> ManifestRef:
        """Find the set or make what the store lacks of it.

        Args:
            store: where sets and their parts are.
            on_picture: called with the number of pictures done.
        """
        path = layout.picture_set(self.key)
        found = store.find(path)
        if found is None:
            parts = Parts(store)
            for number in range(self.plan.num_parts):
                self.ensure_part(parts, number)
                on_picture(len(parts.stored))
            made = EvaluationImages(
                model_digest=self.contender.digest,
                num_images=len(parts.stored),
                **self.plan.facts(),
            )
            found = store.commit(path, made.draft(parts.files(self.plan.pictures)))
        on_picture(len(self.plan.pictures))
        return found


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture in the store, with a copy on this machine.

    Attributes:
        name: its path in the evaluation.
        entry: its blob.
        path: the local copy.
    """

    name: str
    entry: FileEntry
    path: Path

    def open(self) -> Image.Image:
        """Return the picture as RGB."""
        with Image.open(self.path, formats=("PNG",)) as image:
            return image.convert("RGB")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of one contender.

    Attributes:
        sets: manifests that hold them.
        images: pictures of the prompts, prompt by prompt.
        class_images: pictures of the class.
    """

    sets: tuple[ManifestRef, ...]
    images: list[Picture]
    class_images: list[Picture]


class _Lazy:
    """Loads a model at most once."""

    def __init__(self, folder_of: Callable[[], Path], load: LoadModel) -> None:
        self._folder_of = folder_of
        self._load = load
        self._parts: DiffusionParts | None = None

    def __call__(self) -> "DiffusionParts":
        if self._parts is None:
            self._parts = self._load(self._folder_of())
        return self._parts


def champion_of(context: StepContext, model: ManifestRef) -> ManifestRef | None:
    """Return the model to beat; asked once a step, so that key and result are about the same."""
    path = context.common_folder / "champion.txt"
    if not path.exists():
        found = champion_to_beat(context.store, context.config.model_name, model)
        path.write_text(str(found or ""), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    return ManifestRef.parse(text) if text else None


def contenders_of(
    context: StepContext,
    *,
    model: ManifestRef,
    champion: ManifestRef | None,
    device_for: Callable[[], str | None] = lambda: None,
) -> list[Contender]:
    """Return the fine-tuned model, the base model and, if there is one, the champion.

    Args:
        context: the step.
        model: the fine-tuned model.
        champion: the model to beat.
        device_for: asked before a model is loaded; None: the first CUDA device, or else the CPU.
    """

    def load(folder: Path) -> "DiffusionParts":
        from boothline.diffusion.loading import load_pipeline

        precision = context.config.evaluation.sampling.precision
        return load_pipeline(folder, device=device_for(), for_sampling=True, precision=precision)

    base = model_of(context.config, context.settings)
    entrants = [
        _of_manifest(context, FINE_TUNED, model, load),
        Contender(
            name=BASE,
            phrase=context.config.subject.phrase,
            digest=base.digest,
            load=_Lazy(lambda: base.path, load),
        ),
    ]
    if champion is not None:
        entrants.append(_of_manifest(context, CHAMPION, champion, load))
    return entrants


def _of_manifest(context: StepContext, name: str, ref: ManifestRef, load: LoadModel) -> Contender:
    """Return a published model; its prompts have the words that it was trained with."""
    model, subject = context.store.read_as(Model, ref), context.config.subject
    words = model.words(context.subject, subject.class_noun)
    identifier = words.identifier or subject.identifier
    noun = words.class_noun or subject.class_noun

    def fetch() -> Path:
        folder = context.folder / "models" / name
        context.store.fetch(ref, folder, prefix=MODEL_FOLDER)
        verify_signed(context.store, context.settings, ref, folder / MODEL_FOLDER)
        return folder / MODEL_FOLDER

    return Contender(
        name=name,
        phrase=f"{identifier} {noun}",
        digest=context.store.read(ref).content_digest,
        load=_Lazy(fetch, load),
    )


class Priors:
    """The base model's pictures of the class, as the prior has them.

    Args:
        store: where they are.
        refs: their manifests; may be empty.
    """

    def __init__(self, store: Store, refs: Sequence[ManifestRef]) -> None:
        self.files = {
            entry.path: (ref, entry) for ref in refs for entry in store.read(ref).under("images/")
        }
        found = prior_indices(list(self.files), count=NUM_CLASS_IMAGES)
        self.indices: Sequence[int] = found or range(NUM_CLASS_IMAGES)


def picture_sets_of(config: RunConfig, contender: Contender, priors: Priors) -> list[PictureSet]:
    """Return the sets of pictures that a contender makes: of the prompts, then of the class.

    The base model's pictures of the class are the prior's, where there is one.
    """
    plan = PicturePlan.of_prompts(config, phrase=contender.phrase)
    sets = [PictureSet(contender=contender, plan=plan, folder=contender.name)]
    if contender.name != BASE or not priors.files:
        plan = PicturePlan.of_class(config, indices=priors.indices)
        folder = f"{contender.name}-class"
        sets.append(PictureSet(contender=contender, plan=plan, folder=folder))
    return sets


class Studio:
    """Has the pictures of all contenders made or found.

    Args:
        context: the step.
        priors: the base model's pictures of the class.
        num_contenders: how many galleries will be asked for, to report progress.
    """

    def __init__(self, context: StepContext, *, priors: Priors, num_contenders: int) -> None:
        self._context = context
        self._priors = priors
        config: RunConfig = context.config
        per_model = len(templates(config.evaluation)) * config.evaluation.images_per_prompt
        self._total = num_contenders * (per_model + len(priors.indices))
        self._done = 0
        self.note("finding pictures, loading models")

    def note(self, what: str) -> None:
        """Report what is being done besides sampling."""
        self._context.progress.update(self._done, self._total, unit="images", note=what)

    def gallery(self, contender: Contender) -> Gallery:
        """Return the pictures of one contender."""
        wanted = picture_sets_of(self._context.config, contender, self._priors)
        made = [self._make(pictures) for pictures in wanted]
        sets = [ref for ref, _ in made]
        if len(made) == 1:
            refs, class_images = self._prior_images()
            sets += refs
            self._report(self._done + len(class_images), contender)
        else:
            class_images = made[1][1]
        return Gallery(sets=tuple(sets), images=made[0][1], class_images=class_images)

    def _make(self, pictures: PictureSet) -> tuple[ManifestRef, list[Picture]]:
        """Make or find the pictures of a plan and bring them to this machine."""
        before, store, folder = self._done, self._context.store, pictures.folder
        ref = pictures.ensure(
            store, on_picture=lambda count: self._report(before + count, pictures.contender)
        )
        manifest = store.read(ref)
        local = store.fetch(ref, self._context.folder / "pictures" / folder, prefix="images/")
        return ref, [
            Picture(
                name=f"images/{folder}/{picture.name}",
                entry=manifest.entry(f"images/{picture.name}"),
                path=local / "images" / picture.name,
            )
            for picture in pictures.plan.pictures
        ]

    def _prior_images(self) -> tuple[list[ManifestRef], list[Picture]]:
        """Return the base model's class pictures as the prior has them."""
        folder = self._context.folder / "pictures" / f"{BASE}-class"
        folder.mkdir(parents=True, exist_ok=True)
        refs: list[ManifestRef] = []
        images: list[Picture] = []
        plan = PicturePlan.of_class(self._context.config, indices=self._priors.indices)
        for planned in plan.pictures:
            ref, entry = self._priors.files[f"images/{planned.name}"]
            path = folder / planned.name
            path.write_bytes(self._context.store.read_bytes(ref, entry.path))
            refs.append(ref)
            name = f"images/{BASE}-class/{planned.name}"
            images.append(Picture(name=name, entry=entry, path=path))
        return sorted(set(refs), key=str), images

    def _report(self, done: int, contender: Contender) -> None:
        self._done = done
        self._context.progress.update(
            done, self._total, unit="images", note=_TITLES[contender.name]
        )
