"""The settings of `RunConfig` as a flat list: name, type, default, bounds, meaning."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
}


REQUIRED = {
    "subject.images": "name the folder of its pictures: --set subject.images=FOLDER",
    "subject.class_noun": "name its class, such as bear: --set subject.class_noun=NOUN",
}
"""Settings that every run names itself, with what to do; their defaults are those of no subject."""

PATHS = ("subject.images", "evaluation.prompts_file", "inference.prompts_file")
"""Settings that name files, relative to the file that says so."""

MODELS = (
    "base_model.source",
    "evaluation.clip_model",
    "evaluation.dino_model",
    "evaluation.lpips_model",
)
"""Settings that name a folder of a model likewise, or else a built-in, stored or hub's one."""


EACH = "subjects"
"""The list of several subjects, each of which has keys of `subject` in its place."""


def named_in(config: BaseModel, settings: Iterable[str]) -> dict[str, str]:
    """Return the values of dotted settings that are set, by setting."""
    several = getattr(config, EACH)
    values: dict[str, object] = {}
    for name in settings:
        section, _, key = name.partition(".")
        if several and section == "subject" and key in type(several[0]).model_fields:
            values |= {f"{EACH}.{n}.{key}": getattr(one, key) for n, one in enumerate(several)}
        else:
            values[name] = reduce(getattr, name.split("."), config)
    return {name: str(value) for name, value in values.items() if value}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, or one section of settings.

    Attributes:
        name: dotted, e.g. `training.learning_rate`.
        annotation: its type.
        default: its default value.
        bounds: in words, e.g. `at least 1, at most 1024`; empty: none.
        description: what it means.
        is_section: whether it holds settings itself.
    """

    name: str
    annotation: object
    default: object
    bounds: str
    description: str
    is_section: bool

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rsplit(".", 1)[-1]

    @property
    def depth(self) -> int:
        """Number of sections around it."""
        return self.name.count(".")

    @property
    def type_name(self) -> str:
        """The type in the words of YAML."""
        return _type_name(self.annotation)

    @property
    def is_text(self) -> bool:
        """Whether the value is text, so that `123` means the text "123"."""
        return str in _alternatives(self.annotation) or "choice" in self.type_name

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a choice; empty for another type."""
        return tuple(
            str(value)
            for kind in _alternatives(self.annotation)
            if get_origin(kind) is Literal
            for value in get_args(kind)
        )

    @property
    def is_optional(self) -> bool:
        """Whether null is a value."""
        return NoneType in _alternatives(self.annotation)


def settings_of(model: type[BaseModel], *, prefix: str = "") -> Iterator[Setting]:
    """Give every section and setting of a configuration model.

    The order is that of the model, but a section's own settings come before the sections in it.
    """
    fields = sorted(model.model_fields.items(), key=lambda item: _section_of(item[1]) is not None)
    for key, info in fields:
        section = _section_of(info)
        name = f"{prefix}{key}"
        yield Setting(
            name=name,
            annotation=info.annotation,
            default=info.get_default(call_default_factory=True),
            bounds=_bounds_of(info),
            description=info.description or "",
            is_section=section is not None,
        )
        if section is not None:
            yield from settings_of(section, prefix=f"{name}.")


def as_yaml(value: object) -> str:
    """Return a plain value as it stands on one line of YAML; JSON is YAML, save for `1e-05`."""
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _section_of(info: FieldInfo) -> type[BaseModel] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _alternatives(annotation: object) -> tuple[object, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return get_args(annotation)
    return (annotation,)


def _type_name(annotation: object) -> str:
    names: dict[object, str] = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }
    parts = []
    for kind in _alternatives(annotation):
        if kind is NoneType:
            parts.append("null")
        elif get_origin(kind) is Literal:
            parts.append("a choice")
        elif get_origin(kind) is tuple:
            parts.append(f"a list of {_type_name(get_args(kind)[0])}s")
        else:
            parts.append(names.get(kind, getattr(kind, "__name__", str(kind))))
    return " or ".join(parts)


def _bounds_of(info: FieldInfo) -> str:
    words = []
    for constraint in info.metadata:
        for attribute, text in _BOUNDS.items():
            bound = getattr(constraint, attribute, None)
            if bound is not None:
                if attribute == "min_length" and bound == 1:
                    words.append("not empty")
                    continue
                words.append(text.format(f"{bound:,}" if isinstance(bound, int) else bound))
        pattern = getattr(constraint, "pattern", None)
        if pattern:
            words.append(f"matching `{pattern}`")
    for kind in _alternatives(info.annotation):
        if get_origin(kind) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(kind))))
    return ", ".join(dict.fromkeys(words))
