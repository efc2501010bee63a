"""Compares what MLflow shows of the registered models with the store's ledger, which counts."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from boothline.registry import ledger, mirror, mlmodel
from boothline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    ModelVersion,
    challenger,
    find,
    model_names,
    versions,
)
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.client import Client

REMEDY = "The ledger counts, and runs follow it: `boothline registry repair` mends MLflow."


class Drift(BaseModel):
    """One alias of a model that MLflow shows on another version than the ledger has.

    Attributes:
        name: the registered model.
        alias: champion or challenger.
        ledger_version: the version by the ledger; None: none.
        mlflow_version: the version that MLflow shows; None: none.
        other_model: whether MLflow shows a model that the store does not know; its number is then
            MLflow's own.
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
        known = "none" if self.ledger_version is None else f"version {self.ledger_version}"
        shown = "none" if self.mlflow_version is None else f"version {self.mlflow_version}"
        if self.other_model:
            shown = f"a model that the store does not know (MLflow's version {self.mlflow_version})"
        return f"the {self.alias} of {self.name} is {known} by the ledger, and {shown} in MLflow"


def find_drift(store: Store, settings: Settings) -> list[Drift]:
    """Return where the aliases in MLflow differ from the ledger, by model; changes nothing.

    Args:
        store: holds the ledger.
        settings: name the tracking server; without one there is nothing to compare.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    names = model_names(store)
    if not names or not settings.mlflow_uri:
        return []
    client = Client(settings.mlflow_uri)
    return [drift for name in names for drift in _of_model(client, store, name)]


def _of_model(client: Client, store: Store, name: str) -> Sequence[Drift]:
    """Return the differences of one model."""
    aliases = mirror.aliases(client, name)
    numbers = {version.digest: version.version for version in versions(store, name)}
    return [
        drift
        for alias, version in expected(store, name).items()
        if (drift := _of_alias(client, numbers, name, alias, version, aliases.get(alias)))
    ]


def expected(store: Store, name: str) -> dict[str, ModelVersion | None]:
    """Return the versions that the aliases of a model have to mean, by the ledger."""
    entry = ledger.champion(store, name)
    return {
        CHAMPION: None if entry is None else find(store, name, entry.ref),
        CHALLENGER: challenger(store, name),
    }


def _of_alias(
    client: Client,
    numbers: Mapping[str, int],
    name: str,
    alias: str,
    version: ModelVersion | None,
    shown: int | None,
) -> Drift | None:
    """Return the difference of one alias, if there is one."""
    digest = "" if shown is None else mirror.tags(client, name, shown).get(mlmodel.DIGEST_TAG, "")
    if digest == ("" if version is None else version.digest):
        return None
    return Drift(
        name=name,
        alias=alias,
        ledger_version=None if version is None else version.version,
        mlflow_version=numbers.get(digest, shown),
        other_model=shown is not None and digest not in numbers,
    )
