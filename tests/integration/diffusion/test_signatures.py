"""Signed models: what a key signs it verifies, and anything else is refused by name."""

from pathlib import Path

import pytest
from signing_keys import key_pair

from boothline.diffusion.signatures import ensure_signed, verify_signed
from boothline.errors import ConfigError, IntegrityError
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store, layout

pytest.importorskip("model_signing", reason="needs the extra signing")

pytestmark = pytest.mark.services


@pytest.fixture
def settings(store_settings: Settings, tmp_path: Path) -> Settings:
    private, public = key_pair(tmp_path / "keys")
    return store_settings.model_copy(update={"signing_key": private, "verification_key": public})


@pytest.fixture
def model(store: Store) -> ManifestRef:
    files = {"diffusers/model_index.json": b"{}", "diffusers/unet/w.safetensors": b"weights"}
    return store.commit("steps/publish_checkpoint/m", ManifestDraft(kind="model", files=files))


def _fetched(store: Store, model: ManifestRef, folder: Path) -> Path:
    return store.fetch(model, folder, prefix="diffusers/") / "diffusers"


def test_model_that_was_signed_is_verified(store, settings, model, tmp_path) -> None:
    assert ensure_signed(store, settings, model, folder=tmp_path / "a")
    bundle = store.get_record(layout.signature(store.read(model).content_digest))
    assert ensure_signed(store, settings, model, folder=tmp_path / "b")
    assert store.get_record(layout.signature(store.read(model).content_digest)) == bundle
    assert verify_signed(store, settings, model, _fetched(store, model, tmp_path / "c"))


@pytest.mark.proves("F48/signed")
@pytest.mark.parametrize("change", ["bytes", "added", "removed"])
def test_model_whose_files_were_changed_is_refused(store, settings, model, tmp_path, change):
    ensure_signed(store, settings, model, folder=tmp_path / "a")
    folder = _fetched(store, model, tmp_path / "b")
    if change == "bytes":
        (folder / "unet" / "w.safetensors").write_bytes(b"weight5")
    elif change == "added":
        (folder / "evil.py").write_text("")
    else:
        (folder / "model_index.json").unlink()
    with pytest.raises(IntegrityError, match="is invalid"):
        verify_signed(store, settings, model, folder)


@pytest.mark.proves("F48/signed")
def test_model_signed_by_another_key_is_refused(store, settings, model, tmp_path) -> None:
    ensure_signed(store, settings, model, folder=tmp_path / "a")
    _, stranger = key_pair(tmp_path / "stranger")
    folder = _fetched(store, model, tmp_path / "b")
    others = settings.model_copy(update={"verification_key": stranger})
    with pytest.raises(IntegrityError, match="is invalid"):
        verify_signed(store, others, model, folder)


@pytest.mark.proves("F48/signed")
def test_model_without_a_signature_is_refused(store, settings, model, tmp_path) -> None:
    with pytest.raises(IntegrityError, match="not signed"):
        verify_signed(store, settings, model, _fetched(store, model, tmp_path / "a"))


def test_model_without_keys_is_neither_signed_nor_asked_for_it(
    store, store_settings, model, tmp_path
) -> None:
    assert not ensure_signed(store, store_settings, model, folder=tmp_path)
    assert not verify_signed(store, store_settings, model, tmp_path)


def test_key_that_is_none_is_named(store, settings, model, tmp_path) -> None:
    (tmp_path / "no.pem").write_text("no key")
    wrong = settings.model_copy(
        update={"signing_key": tmp_path / "no.pem", "verification_key": tmp_path / "gone.pem"}
    )
    with pytest.raises(ConfigError, match=r"no\.pem cannot be used"):
        ensure_signed(store, wrong, model, folder=tmp_path / "a")
    ensure_signed(store, settings, model, folder=tmp_path / "b")
    with pytest.raises(ConfigError, match=r"gone\.pem cannot be used"):
        verify_signed(store, wrong, model, _fetched(store, model, tmp_path / "c"))
