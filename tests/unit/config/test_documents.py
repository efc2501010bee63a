"""The generated pages of docs/ are those of the model."""

import json

import pytest

from boothline.config import RunConfig
from boothline.config.documents import DOCS, documents, markdown
from boothline.config.fields import settings_of
from boothline.settings import Settings


@pytest.mark.parametrize("name", sorted(documents()))
def test_generated_document_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == documents()[name], "run `make docs`"


def test_markdown_lists_every_setting_under_its_own_section() -> None:
    section = ""
    seen = []
    for line in markdown().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `") and section != "Environment":
            name = line.split("`")[1]
            assert name.rpartition(".")[0] == section
            seen.append(name)
    assert sorted(seen) == sorted(s.name for s in settings_of(RunConfig) if not s.is_section)


def test_markdown_lists_every_variable_and_no_path_of_this_machine() -> None:
    text = markdown()
    missing = [name for name in Settings.model_fields if f"`BOOTHLINE_{name.upper()}`" not in text]
    assert missing == []
    assert str(DOCS.parent) not in text


def test_schema_describes_every_section() -> None:
    schema = json.loads(documents()["configuration.schema.json"])
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    assert schema["additionalProperties"] is False
