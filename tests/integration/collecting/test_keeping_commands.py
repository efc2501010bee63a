"""`boothline verify` and `boothline gc` as they are typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from boothline import settings as environment
from boothline.cli.app import app
from boothline.errors import IntegrityError
from boothline.settings import Settings
from boothline.store import ManifestDraft, Store

pytestmark = pytest.mark.services


@pytest.fixture
def invoke(store_settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "current", lambda: store_settings)
    return lambda *arguments: CliRunner().invoke(app, [*arguments])


@pytest.fixture
def one_step(store: Store) -> Store:
    store.commit("steps/train/key", ManifestDraft(kind="test", files={"weights": b"weights"}))
    return store


def test_verify_sound_store_says_so(invoke, one_step: Store) -> None:
    text = invoke("verify")
    assert text.exit_code == 0, text.output
    assert "1 manifests, 0 records and 1 blobs" in text.output
    assert "none damaged" in text.output
    found = json.loads(invoke("verify", "--output", "json").stdout)
    assert (found["num_blobs"], found["damages"]) == (1, [])


def test_verify_damaged_store_names_object_and_user_and_fails_as_data(
    invoke, one_step: Store
) -> None:
    (key,) = one_step.bucket.keys("blobs/")
    one_step.bucket.put(key, b"wEights")
    result = invoke("verify", "--output", "json")
    assert isinstance(result.exception, IntegrityError)
    assert result.exception.exit_code == 3
    assert one_step.bucket.uri(key) in result.exception.message
    (damage,) = json.loads(result.stdout)["damages"]
    assert damage["used_by"] == ["steps/train/key"]
    assert "used by steps/train/key" in invoke("verify").output


def test_gc_within_the_grace_finds_nothing(invoke, one_step: Store) -> None:
    result = invoke("gc", "--delete", "--output", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["blobs"] == []
    assert one_step.find("steps/train/key")


def test_gc_without_delete_deletes_nothing(
    invoke, one_step: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boothline.cli.keeping.HOUR_SECONDS", -60.0)
    found = json.loads(invoke("gc", "--output", "json").stdout)
    assert (found["deleted"], found["manifests"]) == (False, ["steps/train/key/manifest.json"])
    assert "can be freed with --delete" in invoke("gc").output
    assert one_step.find("steps/train/key")
    assert "Freed" in invoke("gc", "--delete").output
    assert one_step.find("steps/train/key") is None


@pytest.mark.parametrize("options", [["--grace-hours", "0"], ["--runs-older-than", "0"]])
def test_gc_with_a_dangerous_period_is_refused(invoke, options: list[str]) -> None:
    assert invoke("gc", *options).exit_code == 2


def test_keeping_commands_show_examples(tmp_path: Path) -> None:
    for command in ("verify", "gc"):
        assert f"boothline {command}" in CliRunner().invoke(app, [command, "--help"]).output
