"""Texts from outside, at random: only expected errors come back, never a bug."""

import json
import string
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from boothline.config.loading import SETTINGS, resolve
from boothline.data.captions import read_caption
from boothline.data.naming import clean_name, shown_name
from boothline.errors import BoothlineError
from boothline.pictures.prompts import read_prompts
from boothline.store import Manifest, ManifestRef
from boothline.store.manifest import FileEntry
from boothline.store.records import BrokenSealError, unseal

often = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = [*SETTINGS, "training", "subject", "nothing.like_it", "__class__", "a.b.c"]
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30),
    st.sampled_from(["${HOME}", "!!python/object:os.system", "\x1b[31m", "../..", "s3://", "~"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
HOSTILE_YAML = (
    "!!python/object/apply:os.system ['touch canary']",
    "a: &a [*a]",
    "a: &x [1,1]\nb: &y [*x,*x]\nc: [*y,*y]",
    "? {a: b}\n: c",
    "training: " + "[" * 3000,
    "training: {learning_rate: .nan}",
    "training:\n  num_steps: 99999999999999999999",
    "\0",
    "\ufeff\ufffe",
    "%YAML 9.9\n---\na: 1",
    "subject: {images: '\\0'}",
    "a" * 100_000,
)


def only_expected(action: object, *arguments: object) -> None:
    """Call something; an expected error is as good as a result."""
    try:
        action(*arguments)  # type: ignore[operator]
    except BoothlineError as error:
        said = str(error)
    else:
        return
    assert 0 < len(said) < 20_000


@often
@given(st.dictionaries(st.sampled_from([n.split(".")[0] for n in NAMES]), values, max_size=4))
def test_configuration_of_any_shape_is_read_or_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(value), encoding="utf-8", errors="surrogatepass")
    only_expected(resolve, [path])


@often
@given(st.binary(max_size=300))
def test_configuration_of_any_bytes_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(data)
    only_expected(resolve, [path])


@pytest.mark.parametrize("text", HOSTILE_YAML, ids=range(len(HOSTILE_YAML)))
def test_configuration_that_is_hostile_is_refused(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    only_expected(resolve, [path])
    assert not (tmp_path / "canary").exists()


@often
@given(st.sampled_from(NAMES), st.text(max_size=60))
def test_override_of_any_text_is_read_or_refused(name: str, text: str) -> None:
    only_expected(resolve, [], [f"{name}={text}"])


@often
@given(st.sampled_from(["txt", "csv", "jsonl"]), st.binary(max_size=400))
def test_prompts_of_any_bytes_are_read_or_refused(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / f"prompts.{kind}"
    path.write_bytes(data)
    only_expected(read_prompts, path)


rows = st.dictionaries(
    st.sampled_from(["prompt", "seed", "negative_prompt", "num_steps", "sampler", "x"]), values
)


@often
@given(st.lists(rows, max_size=5))
def test_prompts_of_any_rows_are_read_or_refused(tmp_path: Path, lines: list[object]) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    only_expected(read_prompts, path)


@often
@given(st.binary(max_size=600))
def test_caption_of_any_bytes_is_one_harmless_line_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "caption.txt"
    path.write_bytes(data)
    try:
        caption = read_caption(path)
    except BoothlineError:
        return
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in caption)
    assert not set(caption) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert caption.splitlines() == [caption]


@often
@given(st.text(max_size=200))
def test_shown_name_of_any_text_is_printable(name: str) -> None:
    try:
        clean = clean_name(name)
    except UnicodeEncodeError:  # no file system gives such a name
        return
    assert shown_name(clean).isprintable()


@often
@given(st.one_of(st.binary(max_size=300), values.map(lambda v: json.dumps(v).encode())))
def test_unseal_of_any_bytes_gives_an_object_or_refuses(data: bytes) -> None:
    try:
        value = unseal(data, path="a/b")
    except BrokenSealError:
        return
    assert isinstance(value, dict)
    with suppress(ValidationError):
        Manifest.model_validate(value)


@often
@given(st.text(alphabet=string.printable + "\0\\é", max_size=60))
def test_file_of_a_manifest_never_leaves_its_folder(path: str) -> None:
    try:
        entry = FileEntry(path=path, sha256="0" * 64, size_bytes=0)
    except ValueError:
        return
    root = Path("/srv/root")
    assert (root / entry.path).resolve().is_relative_to(root)


@often
@given(st.text(max_size=120))
def test_reference_of_any_text_is_read_or_refused(text: str) -> None:
    only_expected(ManifestRef.parse, text)
