"""`boothline base` as it is typed, and what takes a stored model: init, validate, plan."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_files import write_pictures
from command_line import boothline

from boothline.settings import Settings

pytestmark = pytest.mark.services

BUILTIN = "builtin:tiny-emoji-sd"


@pytest.fixture
def cli(store_settings: Settings, tmp_path: Path):
    """Run a command in a fresh folder, with the store in the environment."""
    variables = {
        "BOOTHLINE_S3_ENDPOINT": store_settings.s3_endpoint,
        "BOOTHLINE_S3_ACCESS_KEY": store_settings.s3_access_key,
        "BOOTHLINE_S3_SECRET_KEY": store_settings.s3_secret_key.get_secret_value(),
        "BOOTHLINE_BUCKET": store_settings.bucket,
        "BOOTHLINE_PREFIX": store_settings.prefix,
    }

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        return boothline(tmp_path, *words, variables=variables)

    return run


@pytest.mark.proves("F50/command")
def test_base_is_added_listed_used_and_removed(cli, tmp_path: Path) -> None:
    code, added, said = cli("base", "add", BUILTIN, "--name", "emoji")
    assert (code, added["names"]) == (0, ["emoji"]), said
    assert cli("base", "list")[1]["bases"] == [added]

    write_pictures(str(tmp_path / "mug"), 3)
    words = ("init", "mug", "--class-noun", "mug", "--base-model", "base:emoji")
    assert cli(*words)[0] == 0
    written = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert written["base_model"]["source"] == "base:emoji"
    code, found, said = cli("validate", "run.yaml")
    assert (code, len(found["accepted"])) == (0, 3), said
    assert cli("plan", "run.yaml")[0] == 0

    code, _, said = cli("validate", "run.yaml", "--set", "base_model.source=base:emojy")
    assert code == 2
    assert "has no base model 'emojy'" in said
    assert "It has base:emoji." in said

    assert cli("base", "remove", "emoji")[1] == {"removed": "emoji", "digest": added["digest"]}
    assert cli("base", "list")[1] == {"bases": []}
    assert cli("base", "remove", "emoji")[0] == 2
