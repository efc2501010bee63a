"""Names that the store accepts and refuses."""

import pytest

from boothline.errors import ConfigError
from boothline.store import layout


@pytest.mark.parametrize("path", ["steps/train/0a1b", "training/k/step-000050", "a", "_x/y.z"])
def test_check_manifest_path_plain_name_is_kept(path: str) -> None:
    assert layout.check_manifest_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/steps/a",
        "steps/a/",
        "steps//a",
        "steps/../a",
        "steps/./a",
        ".hidden/a",
        "steps/a b",
        "steps/a\n",
        "steps/$(x)",
        "steps/ä",
        "blobs/sha256/00/00",
        "steps/a/manifest.json",
        "x" * 600,
    ],
)
def test_check_manifest_path_other_name_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        layout.check_manifest_path(path)


@pytest.mark.parametrize(
    "path", ["runs/r/run", "runs/r/manifest.json", "blobs/x.json", "../a.json"]
)
def test_check_record_path_other_name_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        layout.check_record_path(path)


def test_check_record_path_json_name_is_kept() -> None:
    assert layout.check_record_path("runs/r/run.json") == "runs/r/run.json"


@pytest.mark.parametrize("prefix", ["training/key", "training/key/"])
def test_check_listing_ends_with_one_slash(prefix: str) -> None:
    assert layout.check_listing(prefix) == "training/key/"


@pytest.mark.parametrize("prefix", ["", "/", "blobs/", "a//b/"])
def test_check_listing_other_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError):
        layout.check_listing(prefix)


def test_check_prefix_loses_outer_slashes() -> None:
    assert layout.check_prefix("/team/one/") == "team/one"
    assert layout.check_prefix("") == ""
