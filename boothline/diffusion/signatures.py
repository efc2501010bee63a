"""Signs exported models and verifies them before they are loaded (OpenSSF model signing).

A signature covers the names and bytes of the files under `diffusers/`. It lies outside the model,
in `signatures/<content digest of the model>.json`: signing again gives other bytes, and the
model's digest must stay the same.
"""

import json
import logging
import tempfile
from pathlib import Path
from typing import Final

from boothline.errors import ConfigError, IntegrityError
from boothline.settings import Settings
from boothline.store import ManifestRef, Store, layout

logger = logging.getLogger(__name__)

MODEL_FOLDER: Final = "diffusers/"
_NO_EXTRA: Final = "Install Boothline with the extra signing: pip install 'boothline[signing]'."


def ensure_signed(store: Store, settings: Settings, ref: ManifestRef, *, folder: Path) -> bool:
    """Sign a model once, if a signing key is configured; return whether it is signed.

    Args:
        store: where the model is and the signature goes.
        settings: `signing_key` and its password.
        ref: the model.
        folder: scratch folder.

    Raises:
        ConfigError: the key cannot be used, or the extra is missing.
    """
    if settings.signing_key is None:
        return False
    path = layout.signature(store.read(ref).content_digest)
    if store.get_record(path) is None:
        local = store.fetch(ref, folder, prefix=MODEL_FOLDER) / MODEL_FOLDER
        store.put_record(path, _sign(local, settings))
        logger.info("signed %s", ref)
    return True


def verify_signed(store: Store, settings: Settings, ref: ManifestRef, folder: Path) -> bool:
    """Verify a fetched model before it is loaded, if a public key is configured.

    Args:
        store: where the signature is.
        settings: `verification_key`.
        ref: the model.
        folder: its `diffusers` folder on this machine.

    Returns:
        Whether it was verified; False when no key is configured.

    Raises:
        IntegrityError: the model is not signed, or not by this key, or its files are others.
        ConfigError: the key cannot be used, or the extra is missing.
    """
    if settings.verification_key is None:
        return False
    value = store.get_record(layout.signature(store.read(ref).content_digest))
    if value is None:
        raise IntegrityError(
            f"The model {ref} is not signed, and BOOTHLINE_VERIFICATION_KEY asks for a signature.",
            remedy="Publish it where BOOTHLINE_SIGNING_KEY is set, or use a signed model.",
        )
    _verify(folder, value, settings.verification_key, name=str(ref))
    logger.info("the signature of %s is right", ref)
    return True


def _sign(folder: Path, settings: Settings) -> dict[str, object]:
    """Return the signature bundle of a folder."""
    try:
        from model_signing import signing
    except ImportError as error:
        raise ConfigError("Models cannot be signed here.", remedy=_NO_EXTRA) from error
    key, password = settings.signing_key, settings.signing_key_password.get_secret_value()
    with tempfile.TemporaryDirectory(prefix="boothline-signature-") as scratch:
        path = Path(scratch) / "model.sig"
        try:
            config = signing.Config().use_elliptic_key_signer(
                private_key=key, password=password or None
            )
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"The signing key {key} cannot be used: {error}.",
                remedy="BOOTHLINE_SIGNING_KEY names an elliptic-curve private key as PEM.",
            ) from error
        config.sign(folder, path)
        bundle: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return bundle


def _verify(folder: Path, bundle: dict[str, object], key: Path, *, name: str) -> None:
    """Raise unless a bundle signs exactly the files of a folder with the key."""
    try:
        from model_signing import verifying
    except ImportError as error:
        raise ConfigError("Signatures cannot be verified here.", remedy=_NO_EXTRA) from error
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"The verification key {key} cannot be used: {error}.",
            remedy="BOOTHLINE_VERIFICATION_KEY names an elliptic-curve public key as PEM.",
        ) from error
    with tempfile.TemporaryDirectory(prefix="boothline-signature-") as scratch:
        path = Path(scratch) / "model.sig"
        path.write_text(json.dumps(bundle), encoding="utf-8")
        try:
            config.verify(folder, path)
        except Exception as error:  # whatever goes wrong, the model is not loaded
            raise IntegrityError(
                f"The signature of the model {name} is invalid: {error}.",
                remedy="Do not use it; it was changed, or signed by someone else.",
            ) from error
