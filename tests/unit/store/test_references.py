"""What is needed, followed from records through manifests."""

from typing import Any

import pytest

from boothline.store import Manifest, ManifestRef
from boothline.store.manifest import digest_of
from boothline.store.references import References, is_record

DIGEST = "0" * 64


class Shelf:
    """A store of manifests and records in memory."""

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.records: dict[str, dict[str, Any]] = {}

    def put(self, path: str, *inputs: str, **metadata: Any) -> None:
        refs = tuple(f"{name}@sha256:{DIGEST}" for name in inputs)
        self.manifests[path] = Manifest(kind="test", files=(), inputs=refs, metadata=metadata)

    def look_up(self, path: str) -> tuple[ManifestRef, Manifest] | None:
        found = self.manifests.get(path)
        return None if found is None else (ManifestRef(path=path, digest=DIGEST), found)

    def get_record(self, path: str) -> dict[str, Any] | None:
        return self.records.get(path)

    def needed(self, **options: Any) -> set[str]:
        references = References()
        keys = [*(f"{path}/manifest.json" for path in self.manifests), *self.records]
        references.read(self, keys)  # type: ignore[arg-type]
        return set(references.needed(**options)) & set(self.manifests)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.mark.parametrize(
    "value",
    [
        {"manifest": f"steps/a/1@sha256:{DIGEST}"},
        {"deep": [{"er": {"path": "steps/a/1", "digest": DIGEST}}]},
        {"text": ["x", f"steps/a/1@sha256:{DIGEST}"]},
    ],
)
@pytest.mark.parametrize(
    "record", ["runs/r/run.json", "registry/m/x.json", "new_kind/of/record.json"]
)
def test_needed_manifest_named_anywhere_in_any_record(
    shelf: Shelf, record: str, value: dict[str, Any]
) -> None:
    shelf.put("steps/a/1")
    shelf.put("steps/a/2")
    shelf.records[record] = value
    assert shelf.needed() == {"steps/a/1"}
    assert shelf.needed(ignored=frozenset({record})) == set()


def test_needed_follows_inputs_and_metadata(shelf: Shelf) -> None:
    shelf.put("steps/c/1", "steps/b/1", champion=f"steps/d/1@sha256:{DIGEST}")
    shelf.put("steps/b/1", "training/t/step-2", "steps/gone/1")
    for path in ("training/t/step-2", "steps/d/1", "steps/stray/1"):
        shelf.put(path)
    shelf.records["runs/r/run.json"] = {"report": f"steps/c/1@sha256:{DIGEST}"}
    assert shelf.needed() == set(shelf.manifests) - {"steps/stray/1"}


def test_needed_counts_where_a_running_step_will_commit(shelf: Shelf) -> None:
    parts = {"step": "train", "config": {"rate": 1e-5}}
    key = digest_of(parts)[:32]
    for path in (f"steps/train/{key}", f"training/{key}/step-2", "training/other/step-2"):
        shelf.put(path)
    shelf.records["runs/r/steps/train.json"] = {"step": "train", "key_parts": parts}
    assert shelf.needed() == {f"steps/train/{key}", f"training/{key}/step-2"}


def test_needed_keeps_young_manifests_with_their_inputs(shelf: Shelf) -> None:
    shelf.put("steps/young/1", "steps/old/1")
    shelf.put("steps/old/1")
    assert shelf.needed() == set()
    assert shelf.needed(young=["steps/young/1"]) == {"steps/young/1", "steps/old/1"}


def test_needed_ends_on_manifests_that_name_each_other(shelf: Shelf) -> None:
    shelf.put("steps/a/1", "steps/b/1")
    shelf.put("steps/b/1", "steps/a/1")
    shelf.records["runs/r/run.json"] = {"report": f"steps/a/1@sha256:{DIGEST}"}
    assert shelf.needed() == {"steps/a/1", "steps/b/1"}


@pytest.mark.parametrize(
    "key", ["blobs/sha256/00/x.json", "gc/sweep.json", "probes/x.json", "steps/a/manifest.json"]
)
def test_is_record_leaves_out_what_names_nothing(key: str) -> None:
    assert not is_record(key)
