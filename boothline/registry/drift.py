"""Compares what MLflow shows of the registered models with the store's ledger, which counts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from boothline.registry import ledger
from boothline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    DIGEST_TAG,
    ModelVersion,
    challenger,
    find,
)
from boothline.settings import Settings
from boothline.store import Store, layout
from boothline.tracking.client import MissingError, connect, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

REMEDY = "The ledger counts, and runs follow it: set the aliases in MLflow as it says."


class Drift(BaseModel):
    """One alias of a model that MLflow shows on another version than the ledger has.

    Attributes:
        name: the registered model.
        alias: champion or challenger.
        ledger_version: the version by the ledger; None: none.
        mlflow_version: the version that MLflow shows; None: none.
        other_model: whether the version of that number in MLflow has another manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    alias: str
    ledger_version: int | None
    mlflow_version: int | None
    other_model: bool = Field(default=False)

    @property
    def text(self) -> str:
        """The difference as a sentence without its full stop."""
        if self.other_model:
            return (
                f"version {self.ledger_version} of {self.name}, the {self.alias}, is another model"
                " in MLflow than in the ledger"
            )
        known = "none" if self.ledger_version is None else f"version {self.ledger_version}"
        shown = "none" if self.mlflow_version is None else f"version {self.mlflow_version}"
        return f"the {self.alias} of {self.name} is {known} by the ledger, and {shown} in MLflow"


def find_drift(store: Store, settings: Settings) -> list[Drift]:
    """Return where the aliases in MLflow differ from the ledger, by model; changes nothing.

    Args:
        store: holds the ledger.
        settings: name the tracking server; without one there is nothing to compare.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    names = sorted(
        {
            match["model_name"]
            for path in store.list_records(layout.REGISTRY)
            if (match := layout.VERSION.fullmatch(path))
        }
    )
    if not names or not settings.mlflow_uri:
        return []
    client = connect(settings.mlflow_uri)
    return [drift for name in names for drift in _of_model(client, store, name)]


def _of_model(client: "MlflowClient", store: Store, name: str) -> Sequence[Drift]:
    """Return the differences of one model."""
    aliases = _aliases(client, name)
    entry = ledger.champion(store, name)
    expected = {
        CHAMPION: None if entry is None else find(store, name, entry.ref),
        CHALLENGER: challenger(store, name),
    }
    return [
        drift
        for alias, version in expected.items()
        if (drift := _of_alias(client, name, alias, version, aliases.get(alias)))
    ]


def _of_alias(
    client: "MlflowClient", name: str, alias: str, version: ModelVersion | None, shown: int | None
) -> Drift | None:
    """Return the difference of one alias, if there is one."""
    number = None if version is None else version.version
    found = Drift(name=name, alias=alias, ledger_version=number, mlflow_version=shown)
    if number != shown:
        return found
    if version is not None and _digest(client, name, version.version) != version.digest:
        return found.model_copy(update={"other_model": True})
    return None


def _aliases(client: "MlflowClient", name: str) -> Mapping[str, int]:
    """Return the versions that MLflow's aliases of a model mean; none for an unknown model."""
    try:
        with translated(f"show the model {name}"):
            shown = client.get_registered_model(name).aliases
    except MissingError:
        return {}
    return {alias: int(version) for alias, version in shown.items()}


def _digest(client: "MlflowClient", name: str, version: int) -> str:
    """Return the digest of the manifest that a version has in MLflow."""
    with translated(f"show version {version} of {name}"):
        return str(client.get_model_version(name, str(version)).tags.get(DIGEST_TAG, ""))
