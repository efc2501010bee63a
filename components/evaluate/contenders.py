"""The models that an evaluation compares, and the pictures that each of them makes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from boothline.config import RunConfig
from boothline.diffusion.base_model import BaseModel
from boothline.evaluation.pictures import PicturePlan, ensure_pictures, prior_indices
from boothline.evaluation.prompt_sets import templates
from boothline.evaluation.scoring import BASE, CHAMPION, FINE_TUNED
from boothline.steps import StepContext
from boothline.store import FileEntry, ManifestRef

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts

NUM_CLASS_IMAGES = 8
"""Class pictures for PRES: as many as one batch of the default size samples together."""

_TITLES = {FINE_TUNED: "fine-tuned", BASE: "base", CHAMPION: "champion"}


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

    def __init__(self, folder_of: Callable[[], Path]) -> None:
        self._folder_of = folder_of
        self._parts: DiffusionParts | None = None

    def __call__(self) -> "DiffusionParts":
        from boothline.diffusion.loading import load_pipeline

        if self._parts is None:
            self._parts = load_pipeline(self._folder_of(), for_sampling=True)
        return self._parts


def contenders_of(
    context: StepContext, *, model: ManifestRef, base: BaseModel, champion: ManifestRef | None
) -> list[Contender]:
    """Return the fine-tuned model, the base model and, if there is one, the champion."""
    entrants = [
        _of_manifest(context, FINE_TUNED, model),
        Contender(
            name=BASE,
            phrase=context.config.subject.phrase,
            digest=base.digest,
            load=_Lazy(lambda: base.path),
        ),
    ]
    if champion is not None:
        entrants.append(_of_manifest(context, CHAMPION, champion))
    return entrants


def _of_manifest(context: StepContext, name: str, ref: ManifestRef) -> Contender:
    """Return a published model; it is asked by the words that it was trained with."""
    manifest = context.store.read(ref)
    subject = context.config.subject
    identifier = manifest.metadata.get("identifier", subject.identifier)
    noun = manifest.metadata.get("class_noun", subject.class_noun)

    def fetch() -> Path:
        folder = context.folder / "models" / name
        context.store.fetch(ref, folder, prefix="diffusers/")
        return folder / "diffusers"

    return Contender(
        name=name,
        phrase=f"{identifier} {noun}",
        digest=manifest.content_digest,
        load=_Lazy(fetch),
    )


class Studio:
    """Has the pictures of all contenders made or found.

    Args:
        context: the step.
        priors: manifests with the base model's pictures of the class.
        num_contenders: how many galleries will be asked for, to report progress.
    """

    def __init__(
        self, context: StepContext, *, priors: list[ManifestRef], num_contenders: int
    ) -> None:
        self._context = context
        self._prior_files = {
            entry.path: (ref, entry)
            for ref in priors
            for entry in context.store.read(ref).under("images/")
        }
        found = prior_indices(list(self._prior_files), count=NUM_CLASS_IMAGES)
        self._class_plan = PicturePlan.of_class(
            context.config, indices=found or range(NUM_CLASS_IMAGES)
        )
        config: RunConfig = context.config
        per_model = len(templates(config.evaluation)) * config.evaluation.images_per_prompt
        self._total = num_contenders * (per_model + len(self._class_plan.shots))
        self._done = 0
        self.note("finding pictures, loading models")

    def note(self, what: str) -> None:
        """Report what is being done beside sampling."""
        self._context.progress.update(self._done, self._total, unit="images", note=what)

    def gallery(self, contender: Contender) -> Gallery:
        """Return the pictures of one contender."""
        plan = PicturePlan.of_prompts(self._context.config, phrase=contender.phrase)
        ref, images = self._make(contender, plan, folder=contender.name)
        if contender.name == BASE and self._prior_files:
            class_refs, class_images = self._prior_images()
            self._report(self._done + len(class_images), contender)
        else:
            class_ref, class_images = self._make(
                contender, self._class_plan, folder=f"{contender.name}-class"
            )
            class_refs = [class_ref]
        return Gallery(sets=(ref, *class_refs), images=images, class_images=class_images)

    def _make(
        self, contender: Contender, plan: PicturePlan, *, folder: str
    ) -> tuple[ManifestRef, list[Picture]]:
        """Make or find the pictures of a plan and bring them to this machine."""
        before, store = self._done, self._context.store
        ref = ensure_pictures(
            store,
            plan,
            model_digest=contender.digest,
            load=contender.load,
            on_picture=lambda count: self._report(before + count, contender),
        )
        manifest = store.read(ref)
        local = store.fetch(ref, self._context.folder / "pictures" / folder, prefix="images/")
        return ref, [
            Picture(
                name=f"images/{folder}/{shot.name}",
                entry=manifest.entry(f"images/{shot.name}"),
                path=local / "images" / shot.name,
            )
            for shot in plan.shots
        ]

    def _prior_images(self) -> tuple[list[ManifestRef], list[Picture]]:
        """Return the base model's class pictures as the prior has them."""
        folder = self._context.folder / "pictures" / f"{BASE}-class"
        folder.mkdir(parents=True, exist_ok=True)
        refs: list[ManifestRef] = []
        images: list[Picture] = []
        for shot in self._class_plan.shots:
            ref, entry = self._prior_files[f"images/{shot.name}"]
            path = folder / shot.name
            path.write_bytes(self._context.store.read_bytes(ref, entry.path))
            refs.append(ref)
            images.append(Picture(name=f"images/{BASE}-class/{shot.name}", entry=entry, path=path))
        return sorted(set(refs), key=str), images

    def _report(self, done: int, contender: Contender) -> None:
        self._done = done
        self._context.progress.update(
            done, self._total, unit="images", note=_TITLES[contender.name]
        )
