"""From YAML files and `--set` overrides to a `RunConfig`, with errors that say what to do."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from textwrap import wrap

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from boothline.config.fields import EACH, MODELS, PATHS, REQUIRED, Setting, as_yaml, settings_of
from boothline.config.model import RunConfig
from boothline.errors import ConfigError
from boothline.store.manifest import digest_of

logger = logging.getLogger(__name__)

REFERENCE = "docs/configuration.md lists every setting."
_OFTEN_CHANGED = (
    *("subject.identifier", "subject.prompt", "base_model.source", "prior.num_images"),
    *("training.method", "training.num_steps", "training.learning_rate", "inference.prompts_file"),
)
SETTINGS = {setting.name: setting for setting in settings_of(RunConfig)}


def resolve(
    files: Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    values: Mapping[str, object] | None = None,
    layers: Sequence[tuple[str, Mapping[str, object]]] = (),
    required: Mapping[str, str] | None = None,
) -> RunConfig:
    """Return the configuration that files and overrides give together.

    Paths in a file count from the file's folder, those of overrides from the current one.

    Args:
        files: YAML files; a later one overrides the settings of an earlier one, lists as a whole.
        overrides: `training.learning_rate=2e-6`, the value read as YAML; they override the files.
        values: settings by section, as a file has them; they override the files.
        layers: more of them, each with what to call it; a later one overrides an earlier one.
        required: settings that one of them has to name, with what to do; None: none.

    Raises:
        ConfigError: a file or a setting is wrong, or one is missing; the message names all at once.
    """
    merged = _Layers()
    for path in files:
        merged.add(_anchored(_read(path), path.parent), source=str(path))
    for source, layer in (("the settings given", values or {}), *layers):
        merged.add(layer, source=source)
    for override in overrides:
        merged.add(_parse_override(override), source=f"--set {override}")
    missing = [
        f"{name} is not set; {remedy}."
        for name, remedy in (required or {}).items()
        if name not in merged.origins and not (merged.values.get(EACH) and name in REQUIRED)
    ]
    try:
        config = RunConfig.model_validate(merged.values)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(item, merged) for item in error.errors())
        raise _combined([*problems, *missing]) from error
    if missing:
        raise _combined(missing)
    return config


def digest(config: RunConfig) -> str:
    """Return the sha256 (hex) of a configuration; equal settings have equal digests."""
    return digest_of(config.model_dump(mode="json"))


def annotated_yaml(config: RunConfig, *, values: Mapping[str, object]) -> str:
    """Return a run file that shows every setting with its meaning.

    Args:
        config: gives the values of the settings that are shown as comments.
        values: dotted names and values of the settings that the file sets.

    Raises:
        ConfigError: a name is not a setting.
    """
    for name in values:
        if name not in SETTINGS or SETTINGS[name].is_section:
            raise ConfigError(f"{name!r} is not a setting.{_suggestion(name)}", remedy=REFERENCE)
    lines = [
        "# Settings of one run. Lines that are comments show what holds unless you change it:",
        "# take the # away, then edit.",
    ]
    for setting in SETTINGS.values():
        indent = "  " * setting.depth
        if setting.is_section:
            lines += ["", f"{indent}# {setting.description}", f"{indent}{setting.key}:"]
            continue
        about = (
            f"{setting.description} [{setting.bounds}]" if setting.bounds else setting.description
        )
        if setting.name in values:
            value = f"{setting.key}: {as_yaml(values[setting.name])}"
        else:
            value = f"# {setting.key}: {as_yaml(_value_of(config, setting.name))}"
        lines += wrap(about, 96, initial_indent=f"{indent}## ", subsequent_indent=f"{indent}## ")
        lines.append(f"{indent}{value}")
    return "\n".join(lines) + "\n"


def short_yaml(config: RunConfig, *, values: Mapping[str, object]) -> str:
    """Return a run file to begin with: what is set, and as comments what is changed most.

    Args:
        config: gives the values of the settings that are shown as comments.
        values: dotted names and values of the settings that the file sets.
    """
    lines = [
        "# Settings of one run; others keep their defaults. docs/configuration.md lists them all,",
        "# and `boothline init --all` writes them. Paths count from the folder of this file.",
    ]
    shown = [name for name in SETTINGS if name in values or name in _OFTEN_CHANGED]
    for setting in SETTINGS.values():
        indent = "  " * setting.depth
        if setting.is_section:
            if any(name.startswith(f"{setting.name}.") for name in shown):
                lines.append(f"{indent}{setting.key}:")
        elif setting.name in values:
            lines.append(f"{indent}{setting.key}: {as_yaml(values[setting.name])}")
        elif setting.name in _OFTEN_CHANGED:
            lines.append(f"{indent}# {setting.key}: {as_yaml(_value_of(config, setting.name))}")
    return "\n".join(lines) + "\n"


@dataclass
class _Layers:
    """Merged settings and where each came from.

    Attributes:
        values: the merged settings.
        origins: dotted name of each setting and section to the file or override that set it last.
    """

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, layer: Mapping[str, object], *, source: str) -> None:
        """Lay settings over those that are there."""
        self._merge(self.values, layer, source=source, prefix="")

    def origin(self, name: str) -> str:
        """Return what set a setting, or the nearest section around it; empty: the defaults."""
        while name:
            if name in self.origins:
                return self.origins[name]
            name = name.rpartition(".")[0]
        return ""

    def _merge(
        self, target: dict[str, object], layer: Mapping[str, object], *, source: str, prefix: str
    ) -> None:
        for key, value in layer.items():
            name = f"{prefix}{key}"
            setting = SETTINGS.get(name)
            if setting is not None and setting.is_section and value is None:
                continue  # a section whose settings are all comments
            self.origins[name] = source
            if isinstance(value, Mapping):
                found = target.get(key)
                inner = target[key] = found if isinstance(found, dict) else {}
                self._merge(inner, value, source=source, prefix=f"{name}.")
            else:
                target[key] = value


class _Loader(yaml.SafeLoader):
    """YAML as Boothline reads it: a key that occurs twice is an error."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, object]:
    values: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key!r} is not text", problem_mark=key_node.start_mark
            )
        if key in values:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark
            )
        values[key] = loader.construct_object(value_node, deep=True)
    return values


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def _read(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"The configuration file {path} cannot be read: {reason}.",
            remedy="`boothline init` writes one.",
        ) from error
    return settings_in(text, source=str(path))


def settings_in(text: str, *, source: str) -> dict[str, object]:
    """Return the settings that a text of YAML or JSON holds, by section.

    Args:
        text: the text.
        source: what to call it.

    Raises:
        ConfigError: it is not YAML, or does not hold settings.
    """
    value = _parse(text, source=source)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{source} holds {_kind_of(value)} instead of settings.",
            remedy="Write lines like `training:` and below it `  num_steps: 150`.",
        )
    return value


def _anchored(values: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return a file's settings with its relative paths as seen from the current folder."""
    found: dict[str, object] = dict(values)
    for name in (*PATHS, *MODELS):
        section, _, key = name.partition(".")
        inner = found.get(section)
        value = inner.get(key) if isinstance(inner, Mapping) else None
        if not isinstance(value, str) or not value or "://" in value or value[0] in "/~":
            continue
        path = folder / value
        if isinstance(inner, Mapping) and (name in PATHS or path.exists()):
            found[section] = {**inner, key: str(path)}
    several = found.get(EACH)
    if isinstance(several, list):
        found[EACH] = [_anchored({"subject": one}, folder)["subject"] for one in several]
    return found


def _parse(text: str, *, source: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it derives from SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        too_deep = isinstance(error, RecursionError)
        problem = getattr(error, "problem", None) or (
            "it is nested too deeply" if too_deep else "it is not YAML"
        )
        raise ConfigError(
            f"{source}{line}: {problem}.",
            remedy="Correct it; texts with special characters need quotes.",
        ) from error


def _parse_override(override: str) -> dict[str, object]:
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not all(name.split(".")):
        raise ConfigError(
            f"--set {override!r} is not of the form name=value.",
            remedy="For example --set training.num_steps=300.",
        )
    setting = SETTINGS.get(name)
    value: object = text
    if setting is None or not setting.is_text or (text == "null" and setting.is_optional):
        value = _parse(text, source=f"--set {name}")
    first, *rest = name.split(".")
    for key in reversed(rest):
        value = {key: value}
    return {first: value}


def _explain(error: ErrorDetails, layers: _Layers) -> str:
    """Return one validation error as a sentence with the key, the bound, the value and the file."""
    name = ".".join(str(part) for part in error["loc"])
    source = layers.origin(name)
    where = f" ({source})" if source else ""
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        what = "section" if isinstance(value, Mapping) else "setting"
        return f"Unknown {what} {name!r}{where}.{_suggestion(name)}"
    if kind == "value_error":
        return f"{context['error']}{where if name else ''}."
    setting = SETTINGS.get(name)
    if setting is not None and setting.is_section:
        return f"{name} must hold settings, got {as_yaml(value)}{where}."
    demand = str(error["msg"])
    if kind == "string_type" and not isinstance(value, Mapping | list):
        demand = f'text; put it in quotes: "{value}"'
    elif setting is not None:
        demand = ", ".join(filter(None, [setting.type_name, setting.bounds]))
    near = get_close_matches(str(value), setting.choices, n=1) if setting else []
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"{name} must be {demand}; got {as_yaml(value)}{where}.{guess}"


def _suggestion(name: str) -> str:
    """Return ` Did you mean ...?` with the nearest setting, or nothing."""
    key = name.rpartition(".")[2]
    settings = [setting for setting in SETTINGS.values() if setting.depth <= name.count(".") + 2]
    exact = [setting.name for setting in settings if setting.key == key]
    by_name = get_close_matches(name, SETTINGS, n=1, cutoff=0.75)
    by_key = _nearest_key(key, settings)
    nearest = exact or by_name or by_key
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def _nearest_key(key: str, settings: Sequence[Setting]) -> list[str]:
    keys = get_close_matches(key, [setting.key for setting in settings], n=1)
    return [setting.name for setting in settings if setting.key in keys]


def _combined(problems: Sequence[str]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(problems[0], remedy=REFERENCE)
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return ConfigError(f"{len(problems)} settings are wrong:\n{lines}\n", remedy=REFERENCE)


def _value_of(config: RunConfig, name: str) -> object:
    value: object = config.model_dump(mode="json")
    for key in name.split("."):  # what is left out of a dump is the default
        value = value.get(key, SETTINGS[name].default) if isinstance(value, Mapping) else None
    return value


def _kind_of(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "a text" if isinstance(value, str) else "a single value"
