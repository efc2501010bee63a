"""Pictures that a run was trained on, as MLflow's datasets."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boothline.results import Dataset, Prior
from boothline.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DATASET_STEPS: Mapping[str, type[Dataset] | type[Prior]] = {
    "validate_data": Dataset,
    "generate_prior": Prior,
}
"""Steps whose results are pictures that a model is trained on."""
_NAMES = {Dataset.kind: "instance pictures", Prior.kind: "class pictures"}
CONTEXT_TAG = "mlflow.data.context"
# MLflow takes 36 characters of digest.
_DIGEST_CHARACTERS = 32


def dataset_input(store: Store, manifest: str, step: str) -> "DatasetInput":
    """Return a step's pictures as an input of a run: name, content digest, where they lie.

    Args:
        store: holds them.
        manifest: reference of the step's manifest.
        step: name of the step, one of `DATASET_STEPS`.
    """
    from mlflow import entities

    found = store.read(manifest)
    result = DATASET_STEPS[step].of(found, name=manifest)
    dataset = entities.Dataset(
        name=_NAMES[found.kind],
        digest=found.content_digest[:_DIGEST_CHARACTERS],
        source_type="s3",
        source=json.dumps({"uri": store.uri_of(manifest)}),
        profile=json.dumps({"num_images": result.num_images}),
    )
    return entities.DatasetInput(dataset, [entities.InputTag(CONTEXT_TAG, "training")])
