"""Seals tell damaged and misplaced objects from what was written."""

import json

import pytest

from boothline.store.manifest import canonical_json
from boothline.store.records import BrokenSealError, seal, unseal

VALUE = {"name": "x", "rate": 1e-05, "list": [1, None, "é"], "deep": {"b": 1, "a": 2}}


def test_unseal_gives_what_was_sealed() -> None:
    assert unseal(seal(VALUE, path="a/b"), path="a/b") == VALUE


def test_unseal_every_flipped_bit_is_found() -> None:
    data = seal(VALUE, path="a/b")
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(BrokenSealError):
                unseal(bytes(damaged), path="a/b")


def test_unseal_every_cut_is_found() -> None:
    data = seal(VALUE, path="a/b")
    for length in range(len(data)):
        with pytest.raises(BrokenSealError):
            unseal(data[:length], path="a/b")


def test_unseal_at_another_path_says_where_it_belongs() -> None:
    with pytest.raises(BrokenSealError, match="was stored as 'a/b'"):
        unseal(seal(VALUE, path="a/b"), path="a/c")


def test_unseal_without_seal_is_returned_as_it_is() -> None:
    assert unseal(canonical_json(VALUE), path="a/b") == VALUE


@pytest.mark.parametrize("lost", ["seal", "stored_as"])
def test_unseal_half_a_seal_is_refused(lost: str) -> None:
    value = json.loads(seal(VALUE, path="a/b"))
    del value[lost]
    with pytest.raises(BrokenSealError):
        unseal(canonical_json(value), path="a/b")


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"a":NaN,"seal":1}'])
def test_unseal_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BrokenSealError):
        unseal(data, path="a/b")


@pytest.mark.parametrize("stored_at", ["a/a", "a/b ", "Z", "z"])
def test_unseal_at_a_path_before_or_behind_is_refused(stored_at: str) -> None:
    with pytest.raises(BrokenSealError, match="was stored as"):
        unseal(seal(VALUE, path=stored_at), path="a/b")


def test_unseal_at_another_path_quotes_two_hundred_characters() -> None:
    with pytest.raises(BrokenSealError) as caught:
        unseal(seal(VALUE, path="x" * 300), path="a/b")
    assert str(caught.value) == f"was stored as '{'x' * 200}', not here"


@pytest.mark.parametrize("is_reversed", [False, True], ids=["with spaces", "in another order"])
def test_unseal_of_the_same_object_written_otherwise_is_refused(is_reversed: bool) -> None:
    value = json.loads(seal(VALUE, path="a/b"))
    names = sorted(value, reverse=is_reversed)
    separators = (",", ":") if is_reversed else (",\n", ":\n")
    written = json.dumps(
        {name: value[name] for name in names}, separators=separators, ensure_ascii=False
    )
    with pytest.raises(BrokenSealError, match="differs from its seal"):
        unseal(written.encode(), path="a/b")
