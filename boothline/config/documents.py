"""Write docs/configuration.md and docs/configuration.schema.json from the configuration model."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from boothline.config.fields import REQUIRED, Setting, as_yaml, settings_of
from boothline.config.model import RunConfig
from boothline.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"

_INTRODUCTION = """# Configuration

This page is written by `make docs` from `boothline/config/` and `boothline/settings.py`:
edit those.

A run is configured by YAML files and by `--set name=value` on the command line. Files merge from
left to right, overrides come last, lists are replaced as a whole. Unknown names and values out of
bounds are errors before anything runs. Paths in a file count from the folder that the file is in,
those of `--set` from the current folder. `boothline init` writes a file to begin with, and with
`--all` one that shows every setting.

```yaml
subject:
  name: my-bear
  images: my-pictures
  class_noun: bear
training:
  num_steps: 300
```

[configuration.schema.json](configuration.schema.json) is the same as a JSON schema, for editors.
"""

_HEAD = "| setting | type | default | bounds | meaning |\n| --- | --- | --- | --- | --- |\n"
_ENVIRONMENT = """
## Environment

Where services and local folders are. Secrets may be files instead, named as the variable in lower
case, under `/var/run/secrets/boothline`. `boothline up` starts local services and needs none of
these.

| variable | default | meaning |
| --- | --- | --- |
"""


def markdown() -> str:
    """Return docs/configuration.md."""
    parts = [_INTRODUCTION]
    for setting in settings_of(RunConfig):
        if setting.is_section:
            parts.append(_heading(setting))
        elif setting.depth == 0:
            parts += [f"\nOutside all sections:\n\n{_HEAD}", _row(setting)]
        else:
            parts.append(_row(setting))
    parts.append(_ENVIRONMENT)
    parts += [_environment_row(setting) for setting in settings_of(Settings)]
    return "".join(parts)


def schema() -> str:
    """Return docs/configuration.schema.json."""
    value = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunConfig.model_json_schema(),
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def documents() -> Mapping[str, str]:
    """Return the generated files by name in docs/."""
    return {"configuration.md": markdown(), "configuration.schema.json": schema()}


def main() -> None:
    """Write the generated files."""
    DOCS.mkdir(exist_ok=True)
    for name, text in documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def _heading(setting: Setting) -> str:
    return f"\n## {setting.name}\n\n{setting.description}\n\n{_HEAD}"


def _row(setting: Setting) -> str:
    cells = [
        f"`{setting.name}`",
        setting.type_name,
        "required" if setting.name in REQUIRED else f"`{as_yaml(setting.default)}`",
        setting.bounds,
        setting.description,
    ]
    return f"| {' | '.join(_cell(cell) for cell in cells)} |\n"


def _environment_row(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, SecretStr) or default in (None, ""):
        shown = ""
    elif isinstance(default, Path) and default.is_absolute():
        shown = "next to the package"
    else:
        shown = f"`{default}`"
    name = f"`BOOTHLINE_{setting.name.upper()}`"
    return f"| {name} | {_cell(shown)} | {_cell(setting.description)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
