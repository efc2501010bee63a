"""Pictures that a run was trained on, as MLflow's datasets."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boothline.results import Dataset, Prior
from boothline.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

NAMES: Mapping[type[Dataset] | type[Prior], str] = {
    Dataset: "instance pictures",
    Prior: "class pictures",
}
"""Results that are pictures to train on, and what these are called."""
CONTEXT_TAG = "mlflow.data.context"
# MLflow takes 36 characters of digest.
_DIGEST_CHARACTERS = 32


def dataset_input(store: Store, manifest: str, kind: type[Dataset] | type[Prior]) -> "DatasetInput":
    """Return a step's pictures as an input of a run: name, content digest, where they lie.

    Args:
        store: holds them.
        manifest: reference of the step's manifest.
        kind: what its manifest says.
    """
    from mlflow import entities

    dataset = entities.Dataset(
        name=NAMES[kind],
        digest=store.read(manifest).content_digest[:_DIGEST_CHARACTERS],
        source_type="s3",
        source=json.dumps({"uri": store.uri_of(manifest)}),
        profile=json.dumps({"num_images": store.read_as(kind, manifest).num_images}),
    )
    return entities.DatasetInput(dataset, [entities.InputTag(CONTEXT_TAG, "training")])
