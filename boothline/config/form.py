"""Settings that a pipeline takes one by one, for people who fill in a form; the rest is one text.

A parameter that is not filled in has a value that its setting cannot have: an empty text, 0, or -1.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from boothline.config.loading import resolve, settings_in
from boothline.config.model import RunConfig
from boothline.errors import ConfigError

PRESETS: Final = Path(__file__).resolve().parents[1] / "examples" / "presets"
_TRAINING: Final = {
    "pictures": "subject.images",
    "subject": "subject.name",
    "class_noun": "subject.class_noun",
    "base_model": "base_model.source",
    "method": "training.method",
    "steps": "training.num_steps",
    "learning_rate": "training.learning_rate",
    "seed": "training.seed",
}
_SERVING: Final = {
    "subject": "subject.name",
    "version": "inference.version",
    "prompts": "inference.prompts_file",
    "images_per_prompt": "inference.images_per_prompt",
    "seed": "inference.sampling.seed",
}
FORMS: Final[dict[str, dict[str, str]]] = {
    "dreambooth": _TRAINING,
    "retrain": _TRAINING,
    "batch_inference": _SERVING,
}
"""The setting of each parameter, by pipeline. A sweep has none: its trials are drawn before it."""
_NEEDED: Final = {
    "pictures": "fill in pictures, an s3:// prefix",
    "class_noun": "fill in class_noun, such as bear",
}
MAX_PARAMETER_BYTES: Final = 65536
# Text that a pipeline engine replaces inside parameters: {{$...}}, {{...}}, and, under kfp.local,
# the name of the interpreter and the workspace's mount path.
_REPLACED: Final = re.compile(r"\$|(?<=\{)\{|(?<=python)3|/(?=kfp-workspace)")


@dataclass(frozen=True)
class Filled:
    """A configuration in two parts.

    Attributes:
        values: of the parameters that are filled in, by their name.
        rest: all other settings, by section.
    """

    values: dict[str, object]
    rest: dict[str, object]


def filled(config: RunConfig, *, pipeline: str) -> Filled:
    """Return a configuration as a form that is filled in, and the rest; `completed` undoes it.

    What a parameter cannot carry, such as text that an engine would replace, is left in the rest.
    """
    rest = config.model_dump(mode="json")
    values: dict[str, object] = {}
    for name, setting in FORMS.get(pipeline, {}).items():
        *sections, key = setting.split(".")
        inner = rest
        for section in sections:
            inner = inner[section]
        value = inner[key]
        if not is_given(name, value) or (isinstance(value, str) and _REPLACED.search(value)):
            continue
        values[name] = value
        del inner[key]
    return Filled(values=values, rest=rest)


def completed(
    text: str, values: Mapping[str, object], *, pipeline: str, shards: Mapping[str, int] = {}
) -> RunConfig:
    """Return the configuration that a form and the text of the rest give together.

    Args:
        text: settings as YAML or JSON; they override the form, which overrides its preset.
        values: what was filled in, by parameter; others than the pipeline's own are ignored.
        pipeline: name of the pipeline.
        shards: numbers of shards by setting, for a text that names none.

    Raises:
        ConfigError: a setting is wrong or missing, or there is no such preset.
    """
    form = FORMS.get(pipeline, {})
    layers: list[tuple[str, Mapping[str, object]]] = [
        ("the pipeline", _nested(shards)),
        *_preset(str(values.get("preset") or "")),
    ]
    for name, setting in form.items():
        if is_given(name, value := values.get(name)):
            layers.append((f"the parameter {name}", _nested({setting: value})))
    rest = settings_in(text, source="The parameter config")
    layers.append(("the parameter config", rest))
    required = {form[name]: remedy for name, remedy in _NEEDED.items() if name in form}
    return resolve([], required=required, layers=layers)


def is_given(name: str, value: object) -> bool:
    """Return whether a parameter is filled in; a seed may be 0."""
    return value not in ("", -1, None) and (bool(value) or name == "seed")


def _preset(name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the settings of a preset, if one is named."""
    if not name:
        return
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"There is no preset {name!r}.", remedy=f"The presets are {', '.join(known)}."
        )
    path = PRESETS / f"{name}.yaml"
    yield f"the preset {name}", yaml.safe_load(path.read_text(encoding="utf-8"))


def _nested(values: Mapping[str, object]) -> dict[str, object]:
    """Return dotted settings by section."""
    nested: dict[str, object] = {}
    for name, value in values.items():
        *sections, key = name.split(".")
        inner = nested
        for section in sections:
            found = inner.setdefault(section, {})
            inner = found if isinstance(found, dict) else {}
        inner[key] = value
    return nested


def encode(settings: RunConfig | Mapping[str, object]) -> str:
    """Return settings as ASCII JSON that no pipeline engine rewrites.

    The characters that would start a placeholder are written as JSON escapes (they occur inside
    strings only), so that the parameter arrives byte for byte and reads back equal.

    Raises:
        ConfigError: they are too long for a parameter.
    """
    whole = settings.model_dump(mode="json") if isinstance(settings, RunConfig) else settings
    text = as_ascii(whole)
    if len(text) > MAX_PARAMETER_BYTES:
        raise ConfigError(
            f"The configuration takes {len(text)} bytes as a parameter; "
            f"{MAX_PARAMETER_BYTES} is the most.",
            remedy="Shorten prior.prompts or evaluation.prompts; put long lists of prompts into "
            "inference.prompts_file.",
        )
    return text


def as_ascii(value: object) -> str:
    """Return a value as ASCII JSON that no pipeline engine rewrites; it reads back equal."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return _REPLACED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
