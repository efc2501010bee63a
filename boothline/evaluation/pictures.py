"""The pictures that are judged: what to sample, and where a finished set is found again.

A set is named by the digest of the model, the prompts and the sampling settings. So the base
model's pictures are made once, and a champion's are there when it is challenged.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from boothline.config.model import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.evaluation.prompt_sets import templates
from boothline.pictures.parts import Part
from boothline.pictures.plan import PlannedPicture
from boothline.results import EvaluationPart
from boothline.store import layout

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PicturePlan:
    """What to sample from a model.

    Attributes:
        pictures: what to sample, in order.
        sampling: how; its seed is the seed of all pictures.
        resolution_px: side of the pictures.
    """

    pictures: tuple[PlannedPicture, ...]
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
        names = {
            f"p{p:02d}-s{s:02d}.png": (prompt, p * count + s)
            for p, prompt in enumerate(prompts)
            for s in range(count)
        }
        return cls._of(config, names, evaluation.sampling)

    @classmethod
    def of_class(cls, config: RunConfig, *, indices: Sequence[int]) -> Self:
        """Return the plan of class pictures: the prior's of these numbers, sampled again.

        The precision is the evaluation's, in which the models are loaded.
        """
        prior, noun = config.prior, config.subject.class_noun
        precision = config.evaluation.sampling.precision
        sampling = prior.sampling.model_copy(update={"precision": precision})
        names = {f"{index:06d}.png": (prior.prompt_of(index, noun), index) for index in indices}
        return cls._of(config, names, sampling)

    @classmethod
    def _of(
        cls, config: RunConfig, names: Mapping[str, tuple[str, int]], sampling: SamplingConfig
    ) -> Self:
        """Return the plan of pictures by file name, each with its prompt and number."""
        side_px = config.subject.resolution_px
        pictures = (
            PlannedPicture.square(
                name, prompt=prompt, index=index, sampling=sampling, side_px=side_px
            )
            for name, (prompt, index) in names.items()
        )
        return cls(pictures=tuple(pictures), sampling=sampling, resolution_px=side_px)

    @property
    def num_parts(self) -> int:
        """Number of parts that the set is made in."""
        return math.ceil(len(self.pictures) / self.sampling.batch_size)

    def part(self, number: int, *, model_digest: str) -> Part:
        """Return one part: pictures that one batch samples."""
        first = number * self.sampling.batch_size
        pictures = self.pictures[first : first + self.sampling.batch_size]
        name = self.key(model_digest)
        return Part(
            path=layout.picture_set_part(name, number),
            pictures=pictures,
            result=EvaluationPart(set=name, part=number, num_images=len(pictures)),
        )

    def key(self, model_digest: str) -> str:
        """Return the name of the set of pictures that a model makes of this plan."""
        return layout.key_of({"version": _VERSION, "model": model_digest, **self.facts()})

    def facts(self) -> dict[str, object]:
        """Return all that the pictures depend on besides the model, as JSON."""
        return {
            "shots": [
                {"name": picture.name, "prompt": picture.prompt, "index": picture.index}
                for picture in self.pictures
            ],
            "sampling": self.sampling.model_dump(mode="json"),
            "resolution_px": self.resolution_px,
        }


def fill(prompts: Sequence[str], phrase: str) -> tuple[str, ...]:
    """Return prompts with `{subject}` replaced by a phrase."""
    return tuple(prompt.replace("{subject}", phrase) for prompt in prompts)


def prior_indices(files: Sequence[str], *, count: int) -> tuple[int, ...]:
    """Return the first `count` picture numbers among the files of prior manifests."""
    numbers = (re.fullmatch(r"images/(\d+)\.png", name) for name in files)
    return tuple(sorted(int(match[1]) for match in numbers if match)[:count])
