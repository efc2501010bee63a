"""Pictures that are kept in parts: what is found, made, listed and forgotten."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline.config.sampling import SamplingConfig
from boothline.errors import StoreError
from boothline.pictures.parts import Part, Parts, forget
from boothline.pictures.plan import PlannedPicture
from boothline.results import ImagesPart
from boothline.store import Store
from boothline.store.memory import memory_store

FOLDER = "batches/key"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return memory_store(tmp_path)


def planned(*numbers: int) -> tuple[PlannedPicture, ...]:
    """Return pictures that are named by their numbers."""
    return tuple(
        PlannedPicture.square(
            f"{number}.png", prompt="a dog", index=number, sampling=SamplingConfig(), side_px=8
        )
        for number in numbers
    )


def part_of(name: str, *numbers: int) -> Part:
    return Part(
        path=f"{FOLDER}/{name}",
        pictures=planned(*numbers),
        result=ImagesPart(num_images=len(numbers)),
    )


def made(part: Part, text: str) -> Iterator[tuple[PlannedPicture, bytes]]:
    for picture in part.pictures:
        yield picture, f"{text} {picture.name}".encode()


def kept(store: Store, part: Part, text: str) -> Parts:
    parts = Parts(store)
    parts.keep(part, made(part, text))
    return parts


def test_parts_of_an_earlier_attempt_are_found_and_the_rest_is_lacking(store: Store) -> None:
    kept(store, part_of("a", 0, 1), "first")
    parts = Parts(store)
    parts.find(FOLDER, planned(0, 1, 2))
    assert [picture.name for picture in parts.lacking(planned(0, 1, 2))] == ["2.png"]
    assert parts.read("1.png") == b"first 1.png"


def test_parts_two_of_which_hold_a_picture_take_the_first_by_path(store: Store) -> None:
    kept(store, part_of("b", 0, 1), "later")
    kept(store, part_of("a", 1), "first")
    parts = Parts(store)
    parts.find(FOLDER, planned(0, 1))
    assert (parts.read("0.png"), parts.read("1.png")) == (b"later 0.png", b"first 1.png")


def test_parts_picture_that_is_there_stays_when_its_part_is_made(store: Store) -> None:
    kept(store, part_of("a", 1), "first")
    parts = Parts(store)
    parts.find(FOLDER, planned(1))
    whole = part_of("b", 0, 1)
    parts.keep(whole, made(whole, "later"))
    assert (parts.read("0.png"), parts.read("1.png")) == (b"later 0.png", b"first 1.png")


def test_parts_attempt_that_dies_before_the_last_picture_leaves_no_part(store: Store) -> None:
    def dying() -> Iterator[tuple[PlannedPicture, bytes]]:
        yield planned(0)[0], b"first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parts(store).keep(part_of("a", 0, 1), dying())
    assert store.manifests(FOLDER) == []
    assert not Parts(store).take(f"{FOLDER}/a")


def test_parts_files_are_the_blobs_of_the_parts(store: Store) -> None:
    part = part_of("a", 0)
    parts = kept(store, part, "first")
    ref = store.commit("steps/batch_infer/key", ImagesPart().draft(parts.files(part.pictures)))
    forget(store, FOLDER)
    assert store.manifests(FOLDER) == []
    assert store.read_bytes(ref, "images/0.png") == b"first 0.png"


def test_forget_without_the_right_to_delete_leaves_the_parts_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept(store, part_of("a", 0), "first")

    def refused(path: str) -> None:
        raise StoreError("access denied")

    monkeypatch.setattr(store, "forget", refused)
    with caplog.at_level(logging.WARNING):
        forget(store, FOLDER)
    assert "stays: access denied" in caplog.text
    assert store.manifests(FOLDER) == [f"{FOLDER}/a"]
