"""The pictures that are judged: what to sample, and where a finished set is found again.

A set is named by the digest of the model, the prompts and the sampling settings. So the base
model's pictures are made once, and a champion's are there when it is challenged.
"""

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from PIL import Image

from boothline.config.model import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.evaluation.prompt_sets import templates
from boothline.results import EvaluationImages, EvaluationPart
from boothline.store import FileEntry, ManifestRef, Store, layout

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture to sample: its file name, its prompt, and the number that names its noise."""

    name: str
    prompt: str
    index: int


@dataclass(frozen=True, kw_only=True)
class PicturePlan:
    """What to sample from a model.

    Attributes:
        shots: the pictures, in order.
        sampling: how; its seed is the seed of all shots.
        resolution_px: side of the pictures.
    """

    shots: tuple[Shot, ...]
    sampling: SamplingConfig
    resolution_px: int

    @classmethod
    def of_prompts(cls, config: RunConfig, *, phrase: str) -> Self:
        """Return the plan of an evaluation: the same noise for every model.

        Args:
            config: prompts, pictures a prompt and sampling.
            phrase: identifier and class noun that stand for `{subject}`.
        """
        evaluation = config.evaluation
        count = evaluation.images_per_prompt
        prompts = fill(templates(evaluation), phrase)
        return cls(
            shots=tuple(
                Shot(name=f"p{p:02d}-s{s:02d}.png", prompt=prompt, index=p * count + s)
                for p, prompt in enumerate(prompts)
                for s in range(count)
            ),
            sampling=evaluation.sampling,
            resolution_px=config.subject.resolution_px,
        )

    @classmethod
    def of_class(cls, config: RunConfig, *, indices: Sequence[int]) -> Self:
        """Return the plan of class pictures: the prior's of these numbers, sampled again."""
        prior, noun = config.prior, config.subject.class_noun
        return cls(
            shots=tuple(
                Shot(name=f"{index:06d}.png", prompt=prior.prompt_of(index, noun), index=index)
                for index in indices
            ),
            sampling=prior.sampling,
            resolution_px=config.subject.resolution_px,
        )

    @property
    def num_parts(self) -> int:
        """Number of parts that the set is made in."""
        return math.ceil(len(self.shots) / self.sampling.batch_size)

    def part(self, number: int) -> tuple[Shot, ...]:
        """Return the pictures of one part: those that one batch samples."""
        first = number * self.sampling.batch_size
        return self.shots[first : first + self.sampling.batch_size]

    def key(self, model_digest: str) -> str:
        """Return the name of the set of pictures that a model makes of this plan."""
        return layout.key_of({"version": _VERSION, "model": model_digest, **self.facts()})

    def facts(self) -> dict[str, object]:
        """Return all that the pictures depend on besides the model, as JSON."""
        return {
            "shots": [asdict(shot) for shot in self.shots],
            "sampling": self.sampling.model_dump(mode="json"),
            "resolution_px": self.resolution_px,
        }


def fill(prompts: Sequence[str], phrase: str) -> tuple[str, ...]:
    """Return prompts with `{subject}` replaced by a phrase."""
    return tuple(prompt.replace("{subject}", phrase) for prompt in prompts)


def ensure_pictures(
    store: Store,
    plan: PicturePlan,
    *,
    model_digest: str,
    load: Callable[[], "DiffusionParts"],
    on_picture: Callable[[int], None] | None = None,
) -> ManifestRef:
    """Return the set of pictures that a model makes of a plan; makes what the store lacks of it.

    Args:
        store: where sets are found and kept.
        plan: what to sample.
        model_digest: names the model by content.
        load: loads the model; called only when there is something to sample.
        on_picture: called with the number of pictures done.
    """
    path = layout.picture_set(plan.key(model_digest))
    found = store.find(path)
    if found is None:
        files: dict[str, FileEntry] = {}
        for number in range(plan.num_parts):
            ref = ensure_part(store, plan, number, model_digest=model_digest, load=load)
            files |= {entry.path: entry for entry in store.read(ref).under("images/")}
            if on_picture:
                on_picture(len(files))
        made = EvaluationImages(model_digest=model_digest, num_images=len(files), **plan.facts())
        found = store.commit(path, made.draft(files))
    elif on_picture:
        on_picture(len(plan.shots))
    return found


def ensure_part(
    store: Store,
    plan: PicturePlan,
    number: int,
    *,
    model_digest: str,
    load: Callable[[], "DiffusionParts"],
) -> ManifestRef:
    """Return one part of a set: pictures that are sampled together; samples it if it is new.

    A part is committed as soon as it is done, so that a killed evaluation goes on after its last
    one, and shards can share the parts of a set among them.
    """
    path = part_path(plan, number, model_digest=model_digest)
    found = store.find(path)
    if found is not None:
        return found
    shots = plan.part(number)
    files: dict[str, bytes] = {}
    for shot, image in zip(shots, _sample(load(), plan, shots), strict=True):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        files[f"images/{shot.name}"] = buffer.getvalue()
    made = EvaluationPart(set=plan.key(model_digest), part=number, num_images=len(files))
    return store.commit(path, made.draft(files))


def part_path(plan: PicturePlan, number: int, *, model_digest: str) -> str:
    """Return where a part is committed."""
    return layout.picture_set_part(plan.key(model_digest), number)


def _sample(
    pipeline: "DiffusionParts", plan: PicturePlan, shots: Sequence[Shot]
) -> Iterator[Image.Image]:
    from boothline.diffusion.sampling import SampleRequest, sample

    requests = [
        SampleRequest(
            prompt=shot.prompt,
            seed=plan.sampling.seed,
            index=shot.index,
            height_px=plan.resolution_px,
            width_px=plan.resolution_px,
        )
        for shot in shots
    ]
    return sample(pipeline, requests, sampling=plan.sampling)


def prior_indices(files: Sequence[str], *, count: int) -> tuple[int, ...]:
    """Return the first `count` picture numbers among the files of prior manifests."""
    numbers = (re.fullmatch(r"images/(\d+)\.png", name) for name in files)
    return tuple(sorted(int(match[1]) for match in numbers if match)[:count])
