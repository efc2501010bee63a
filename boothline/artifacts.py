"""What Kubeflow's page shows of a result: where it is in the store, its digest, its facts."""

import logging
from typing import Protocol

from boothline import settings as environment
from boothline.errors import IntegrityError, NotFoundError
from boothline.results import KINDS, Model, Training
from boothline.store import Manifest, ManifestRef, Store
from boothline.trials import FAILED_TRIAL

logger = logging.getLogger(__name__)

SCHEME = "boothline"
"""Kubeflow keeps the address of an artifact of an unknown scheme, and uploads nothing for it."""


class Artifact(Protocol):
    """An output artifact of a component."""

    uri: str
    metadata: dict[str, object]


def describe(artifact: Artifact, reference: str) -> None:
    """Let an artifact say what a result in the store is.

    Its bytes stay in the store: the address is `boothline://<bucket>/<prefix><path>`.

    Args:
        artifact: of the component; address and metadata are set.
        reference: of the result's manifest; nothing is set for a trial that failed.

    Raises:
        StoreError: the manifest cannot be read.
    """
    if reference == FAILED_TRIAL:
        return
    settings = environment.current()
    store, ref = Store.connect(settings), ManifestRef.parse(reference)
    manifest = store.read(ref)
    artifact.uri = f"{SCHEME}://{settings.bucket}/{settings.prefix}{ref.path}"
    artifact.metadata |= {
        "manifest": reference,
        "digest": manifest.content_digest,
        "size_bytes": sum(file.size_bytes for file in manifest.files),
        "made_from": ", ".join(ManifestRef.parse(source).path for source in manifest.inputs),
        **_facts(store, manifest),
    }


def _facts(store: Store, manifest: Manifest) -> dict[str, object]:
    """Return the facts of a result that people ask for.

    A reused model outlives the results that it was made from: one that was deleted, or made again,
    costs its facts and no more.
    """
    kind = next(kind for kind in KINDS if kind.kind == manifest.kind)
    result = kind.of(manifest)
    facts: dict[str, object] = {**result.worth_showing()}
    if isinstance(result, Model):
        facts["base_model"] = result.base_model.source
        for source in manifest.inputs:
            try:
                made = store.read(source)
            except (IntegrityError, NotFoundError) as error:
                logger.warning("not shown on Kubeflow's page: what %s says. %s", source, error)
                continue
            if made.kind == Training.kind:
                facts["num_steps"] = Training.of(made).num_steps or 0
    return facts
