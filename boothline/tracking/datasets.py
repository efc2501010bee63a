"""Pictures that a run was trained on, as MLflow's datasets."""

import json
from typing import TYPE_CHECKING

from boothline.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DATASET_STEPS = {"validate_data": "instance pictures", "generate_prior": "class pictures"}
"""Steps whose results are datasets, and what these are."""
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
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = store.read(manifest)
    dataset = Dataset(
        name=DATASET_STEPS[step],
        digest=found.content_digest[:_DIGEST_CHARACTERS],
        source_type="s3",
        source=json.dumps({"uri": store.uri_of(manifest)}),
        profile=json.dumps({"num_images": found.metadata.get("num_images", 0)}),
    )
    return DatasetInput(dataset, [InputTag(CONTEXT_TAG, "training")])
