"""Every setting of the configuration with values that are to make a difference.

The settings come from the model. Values come from type and bounds where these say enough; of texts,
lists and tables they do not, so that a new one fails until `VALUES` has two values for it.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from boothline.config import RunConfig

Values = dict[str, Any]
ITEM, ENTRY = "[].", "{}."
SAMPLING: Values = {"num_steps": 2, "batch_size": 2, "guidance_scale": 2.0}
BASE: Values = {
    "subject.resolution_px": 32,
    "subject.max_images": 9,
    "prior.num_images": 4,
    "evaluation.images_per_prompt": 2,
    "evaluation.prompts": ["a photo of a {subject}", "a {subject} on the moon"],
    "evaluation.num_bootstrap": 100,
    "base_model.source": "base",
    "subject.images": "pictures",
    "evaluation.clip_model": "clip",
    "evaluation.dino_model": "dino",
    "training.num_steps": 2,
    "training.batch_size": 2,
    "training.num_processes": 1,
    "training.learning_rate": 0.01,
    "training.warmup_steps": 0,
    "training.sample_every_steps": 0,
    "checkpoints.every_steps": 100,
    "inference.version": "1",
    **{
        f"{section}.sampling.{key}": value
        for section in ("prior", "evaluation", "inference")
        for key, value in SAMPLING.items()
    },
}
"""A run that takes seconds on the tiny random models."""

RULE = {"metric": "score", "against": "none", "at_least": 0.1}
RATE = "training.learning_rate"
# The small tokenizer knows two rare tokens; the second is for what is tried.
SUBJECTS = [
    {"name": "bear", "images": "pictures", "identifier": "sks", "class_noun": "bear"},
    {"name": "robot", "images": "others", "identifier": "cat", "class_noun": "robot"},
]
SCENES: Mapping[str, Values] = {
    **{
        f"{section}.sampling.eta": {f"{section}.sampling.sampler": "ddim"}
        for section in ("prior", "evaluation", "inference")
    },
    "subject.masks": {"subject.images": "masked"},
    "training.lora": {"training.method": "lora"},
    "training.token_embedding": {
        "training.token_embedding.enabled": True,
        "training.method": "lora",
    },
    "training.frozen_precision": {"training.method": "lora", "training.precision": "bf16"},
    # On one rank nothing is cut, but convolutions do not lie channels last.
    "training.shard_frozen": {"training.method": "lora"},
    "training.validation": {"training.validation.every_steps": 1},
    # The first sheet scores best here, so that last and best are two states.
    "training.validation.choose": {"training.num_steps": 3},
    "training.validation.patience": {"training.num_steps": 5},
    "training.crop_scale": {"training.random_crops": 2},
    "training.interpolation": {"training.random_crops": 2},
    "training.schedule": {"training.num_steps": 3},
    "evaluation.prompt_set": {"evaluation.images_per_prompt": 1},
    "evaluation.prompts_file": {
        "evaluation.prompt_set": "file",
        "evaluation.prompts_file": "one.txt",
    },
    "promotion.rules[].at_most": {
        "promotion.rules": [{"metric": "score", "against": "none", "at_most": 0.9}]
    },
    "promotion.rules[]": {"promotion.rules": [RULE]},
    # A model of several subjects has a name of its own.
    "subjects": {"subject.name": "toys"},
    "subjects[]": {"subject.name": "toys", "subjects": SUBJECTS},
    "sweep.ranges{}": {"sweep.ranges": {RATE: {"low": 0.1, "high": 0.5}}},
    # In two steps some samplers do the same.
    "inference.sampling.sampler": {"inference.sampling.num_steps": 4},
    "inference.strength": {"inference.prompts_file": "edits.jsonl"},
}
"""What else has to be set for a setting, or for a whole section, to play a part."""

VALUES: Mapping[str, tuple[Any, ...]] = {
    **{
        f"{section}.sampling.negative_prompt": ("", "red")
        for section in ("prior", "evaluation", "inference")
    },
    # All of them are tried in inference.sampling.
    "prior.sampling.sampler": ("dpmpp_2m", "euler_a"),
    "evaluation.sampling.sampler": ("dpmpp_2m", "euler_a"),
    "subject.name": ("subject", "other"),
    "subject.images": ("pictures", "others"),
    "subject.identifier": ("sks", "zwx"),
    "subject.class_noun": ("bear", "dog"),
    "subject.prompt": ("a photo of {subject}", "a {subject}"),
    "subject.aspect_buckets": ([], ["32x32", "48x32"]),
    "subjects": ([], SUBJECTS),
    "subjects[].name": ("bear", "teddy"),
    "subjects[].images": ("pictures", "masked"),
    "subjects[].identifier": ("sks", "zwx"),
    "subjects[].class_noun": ("bear", "dog"),
    "subject.min_images": (3, 6),
    "subject.max_images": (9, 4),
    "base_model.source": ("base", "other-base", "same-base"),
    "prior.num_shards": (2, 1),
    "prior.prompt": ("a photo of a {class}", "a {class}"),
    "prior.prompts": ([], ["a {class} in snow", "a dog"]),
    "training.lora.targets": (["to_q"], ["to_q", "to_v"]),
    "training.lora.text_encoder_targets": (["q_proj"], ["q_proj", "fc1"]),
    "training.text_encoder_learning_rate": (None, 0.02),
    "training.max_grad_norm": (1.0, 1e-3),
    "training.warmup_steps": (0, 2),
    "training.token_embedding.init_word": (None, "dog"),
    "training.caption_dropout": (0.0, 0.9),
    "training.caption_templates": ([], ["a {subject} in snow"]),
    "training.validation.choose": ("last", "best"),
    "evaluation.prompts": (BASE["evaluation.prompts"], ["a {subject} in snow", "the {subject}"]),
    # `file` is tried with evaluation.prompts_file.
    "evaluation.prompt_set": ("own", "tiny", "live", "object"),
    "evaluation.prompts_file": ("one.txt", "two.txt"),
    "evaluation.clip_model": ("clip", "other-clip"),
    "evaluation.dino_model": ("dino", "other-dino"),
    "evaluation.lpips_model": (None, "lpips"),
    "promotion.margins.min_subject_gain": (0.02, 0.5),
    "promotion.margins.max_prompt_loss": (0.1, 0.01),
    "promotion.margins.min_champion_gain": (0.0, 0.5),
    "promotion.margins.max_prior_loss": (0.35, 0.01),
    "promotion.margins.max_diversity_loss": (0.45, 0.01),
    "promotion.rules": ([], [RULE]),
    "promotion.rules[].at_least": (0.1, 0.9),
    "promotion.rules[].at_most": (0.9, 0.1),
    "inference.prompts_file": (None, "two.txt"),
    "inference.num_shards": (2, 1),
    "inference.version": ("1", "2"),
    "inference.grid_columns": (0, 2),
    "tracking.experiment": ("boothline", "other"),
    "notification.statuses": (["failed"], ["done"]),
    "sweep.grid": ({}, {RATE: [0.1, 0.2]}),
    "sweep.ranges": ({}, {"prior.weight": {"low": 0.1, "high": 1.0}}),
    "sweep.trials": ([{RATE: 0.1}, {RATE: 0.2}], [{RATE: 0.1}, {RATE: 0.3}]),
    "retrain.min_champion_score": (None, 0.9),
}
"""Values that neither type nor bounds give, the base's first."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One setting.

    Attributes:
        name: dotted; `[].` leads into the items of a list, `{}.` into the values of a table.
        values: pairwise different, the base's first.
        scene: what else is set.
    """

    name: str
    values: tuple[Any, ...]
    scene: Values

    def change(self) -> Values:
        """Return its second value, with as little beside it as makes a valid configuration."""
        alone = {self.name: self.values[1]}
        whole = self.overrides(self.values[1])
        return whole if ITEM in self.name or ENTRY in self.name or not is_valid(alone) else alone

    def overrides(self, value: object) -> Values:
        """Return what makes a configuration with a value of this setting, over the base."""
        for mark, first in ((ITEM, 0), (ENTRY, RATE)):
            if mark in self.name:
                outer, key = self.name.split(mark)
                holder = self.scene[outer]
                item = {**holder[first], key: value}
                rest = {} if mark == ITEM else {**holder, first: item}
                return {**self.scene, outer: [item, *holder[1:]] if mark == ITEM else rest}
        return {**self.scene, self.name: value}


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field that holds a value, those of lists and tables of models too."""
    for key, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields_of(kind, f"{prefix}{key}.")
            continue
        yield f"{prefix}{key}", info
        mark = ITEM if get_origin(kind) is tuple else ENTRY
        for part in get_args(kind):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from fields_of(part, f"{prefix}{key}{mark}")


def case_of(name: str, info: FieldInfo) -> Case:
    """Return a setting with its values.

    Raises:
        LookupError: nothing is known of it; says what to add.
    """
    prefixes = [p for p in SCENES if name == p or name.startswith((f"{p}.", p + ".", f"{p}{{}}"))]
    scene: Values = {}
    for prefix in sorted(prefixes, key=len):
        scene |= SCENES[prefix]
    if name in VALUES:
        return Case(name=name, values=VALUES[name], scene=scene)
    base = BASE.get(name, info.get_default(call_default_factory=True))
    for mark, first in ((ITEM, 0), (ENTRY, RATE)):
        if mark in name:
            outer, key = name.split(mark)
            base = scene[outer][first].get(key, base)
    values = tuple(_derived(info, base))
    if len(values) < 2:
        raise LookupError(
            f"No two values of {name} follow from its type and bounds: add them to VALUES in "
            f"{__file__}, and to SCENES what else has to be set for it to play a part."
        )
    return Case(name=name, values=values, scene=scene)


@lru_cache(maxsize=1)
def all_cases() -> dict[str, Case]:
    """Return every setting by name."""
    return {name: case_of(name, info) for name, info in fields_of(RunConfig)}


def configured(overrides: Mapping[str, Any]) -> RunConfig:
    """Return the base with other values, by dotted names."""
    values: Values = {}
    for name, value in {**BASE, **overrides}.items():
        *sections, key = name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return RunConfig.model_validate(values)


def together(changes: Sequence[Values]) -> Values:
    """Return as many changes at once as make a valid configuration, the last of each setting."""
    merged: Values = {}
    for change in changes:
        if is_valid({**merged, **change}):
            merged |= change
    return merged


@lru_cache(maxsize=1)
def everything_on() -> Values:
    """Return a scene in which every setting plays a part, as far as they go together.

    Several subjects stand in the place of one, whose settings would then play none.
    """
    return together([scene for name, scene in SCENES.items() if not name.startswith("subjects")])


def is_valid(overrides: Mapping[str, Any]) -> bool:
    """Return whether a configuration with other values is one."""
    try:
        configured(overrides)
    except ValidationError:
        return False
    return True


def _derived(info: FieldInfo, base: object) -> Iterator[Any]:
    """Yield values of a type, the base's first."""
    kinds = _alternatives(info.annotation)
    (kind,) = [part for part in kinds if part is not NoneType] or [NoneType]
    yield base
    if get_origin(kind) is Literal:
        yield from (value for value in get_args(kind) if value != base)
    elif kind is bool:
        yield not base
    elif kind in (int, float):
        yield from itertools.islice(_numbers(info, base, whole=kind is int), 1)


def _numbers(info: FieldInfo, base: Any, *, whole: bool) -> Iterator[float]:
    """Yield numbers near the base that are within the bounds."""
    bounds: Values = {}
    for constraint in info.metadata:
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            if getattr(constraint, name, None) is not None:
                bounds[name] = getattr(constraint, name)
    if base is None:
        low = bounds.get("ge", bounds.get("gt", 0))
        candidates = [low + 1 if whole else low + 0.5]
    elif whole:
        step = bounds.get("multiple_of", 1)
        candidates = [base + step, base - step]
    else:
        candidates = [base * 1.5 if base else 0.5, base * 0.5]
    for number in candidates:
        if (
            number >= bounds.get("ge", number)
            and number <= bounds.get("le", number)
            and number > bounds.get("gt", number - 1)
            and number < bounds.get("lt", number + 1)
        ):
            yield number


def _alternatives(annotation: object) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return get_args(annotation)
    return (annotation,)
