"""Versions, aliases and the ledger against a real MLflow server and a real store."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from boothline.errors import ConfigError, ConflictError, TrackingError
from boothline.registry import ledger
from boothline.registry.mirror import set_alias
from boothline.registry.promotion import promote, promote_past_gate, rollback, sync_aliases
from boothline.registry.versions import ModelVersion, ensure_version, find
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking.client import Client, MissingError, connect, translated

pytestmark = pytest.mark.services


@dataclass
class Registry:
    """A model name of this test's own, with the services behind it."""

    store: Store
    settings: Settings
    name: str

    @property
    def client(self) -> Any:
        return connect(self.settings.mlflow_uri)

    def ensure(self, label: str) -> ModelVersion:
        return ensure_version(self.store, self.settings, model_name=self.name, ref=self.ref(label))

    def promote(self, label: str, *, beaten: str = "", settings: Settings | None = None) -> Any:
        return promote(
            self.store,
            settings or self.settings,
            self.name,
            ref=self.ref(label),
            beaten=self.ref(beaten) if beaten else None,
            evidence=ManifestRef(path=f"steps/promote/{label}-{beaten}", digest="0" * 64),
            reason="it is better",
            actor="run r1",
        )

    def ref(self, label: str) -> ManifestRef:
        return ManifestRef(
            path=f"steps/publish_checkpoint/{label}",
            digest=label[-1:] * 64 if len(label) == 1 else label * 16,
        )

    def numbers(self) -> list[int]:
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return sorted(int(version.version) for version in found)

    def alias(self, alias: str) -> int:
        try:
            with translated("show"):
                return int(self.client.get_model_version_by_alias(self.name, alias).version)
        except TrackingError:
            return 0

    def ledger_version(self) -> int:
        entry = ledger.champion(self.store, self.name)
        return 0 if entry is None else entry.version


@pytest.fixture
def registry(store: Store, store_settings: Settings, mlflow_uri: str) -> Registry:
    settings = store_settings.model_copy(update={"mlflow_uri": mlflow_uri})
    return Registry(store, settings, f"boothline-{settings.prefix}")


def test_challenger_can_be_taken_away(registry: Registry) -> None:
    registry.ensure("a")
    assert registry.alias("challenger") == 1
    set_alias(Client(registry.settings.mlflow_uri), registry.name, "challenger", None)
    assert registry.alias("challenger") == 0


@pytest.mark.proves("F33/versions")
def test_version_names_its_manifest_and_becomes_the_challenger(registry: Registry) -> None:
    made = registry.ensure("a")
    version = registry.client.get_model_version(registry.name, str(made.version))
    assert version.source == registry.store.uri_of(registry.ref("a"))
    assert version.tags["boothline.manifest_digest"] == "a" * 64
    assert registry.alias("challenger") == made.version == 1


def test_version_asked_for_again_needs_no_server(registry: Registry) -> None:
    made = registry.ensure("a")
    dead = registry.settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    again = ensure_version(registry.store, dead, model_name=registry.name, ref=registry.ref("a"))
    assert again == made


def test_version_whose_record_was_lost_is_found_by_its_digest(registry: Registry) -> None:
    registry.ensure("a")
    other_store = Store.connect(registry.settings.model_copy(update={"prefix": "elsewhere"}))
    again = ensure_version(
        other_store, registry.settings, model_name=registry.name, ref=registry.ref("a")
    )
    assert again.version == 1
    assert registry.numbers() == [1]


def test_version_registered_by_eight_processes_at_once_is_one(registry: Registry) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        made = list(pool.map(registry.ensure, ["a"] * 8))
    assert {version.version for version in made} == set(registry.numbers())
    assert len(registry.numbers()) == 1
    assert find(registry.store, registry.name, registry.ref("a")) == made[0]


def test_version_with_dead_server_is_an_error_that_says_what_to_do(registry: Registry) -> None:
    dead = registry.settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    with pytest.raises(TrackingError, match="boothline doctor"):
        ensure_version(
            registry.store,
            dead,
            model_name=registry.name,
            ref=registry.ref("a"),
            patience_seconds=0.5,
        )
    assert find(registry.store, registry.name, registry.ref("a")) is None


@pytest.mark.proves("F34/rollback")
def test_promotion_moves_the_alias_and_rollback_moves_it_back(registry: Registry) -> None:
    registry.promote("a")
    registry.ensure("b")
    assert (registry.alias("champion"), registry.alias("challenger")) == (1, 2)
    registry.promote("b", beaten="a")
    assert (registry.alias("champion"), registry.alias("challenger")) == (2, 0)
    entry = rollback(registry.store, registry.settings, registry.name, reason="r", actor="x")
    assert entry.version == registry.ledger_version() == registry.alias("champion") == 1
    assert registry.alias("challenger") == 0  # it was champion, and lost its place


def test_alias_that_could_not_be_moved_is_repaired_by_the_next_call(registry: Registry) -> None:
    registry.promote("a")
    registry.ensure("b")
    dead = registry.settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    with pytest.raises(TrackingError):
        registry.promote("b", beaten="a", settings=dead)
    assert (registry.ledger_version(), registry.alias("champion")) == (2, 1)
    registry.promote("b", beaten="a")
    assert (registry.ledger_version(), registry.alias("champion")) == (2, 2)
    assert len(ledger.history(registry.store)) == 2


def test_sync_thorough_repairs_an_alias_that_somebody_moved(registry: Registry) -> None:
    registry.promote("a")
    registry.ensure("b")
    registry.client.set_registered_model_alias(registry.name, "champion", "2")
    sync_aliases(registry.store, registry.settings, registry.name, thorough=True)
    assert registry.alias("champion") == registry.ledger_version() == 1


def race(registry: Registry, num_rivals: int) -> list[bool]:
    """Let versions 2, 3, ... be promoted over version 1 at the same time; tell who won."""
    registry.promote("0")
    labels = [f"{number:04x}" for number in range(1, num_rivals + 1)]
    for label in labels:
        registry.ensure(label)

    def attempt(label: str) -> bool:
        try:
            registry.promote(label, beaten="0")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(max_workers=num_rivals) as pool:
        return list(pool.map(attempt, labels))


def test_ten_concurrent_promotions_leave_ledger_and_alias_agreeing(registry: Registry) -> None:
    outcomes = race(registry, 10)
    assert outcomes.count(True) == 1
    assert registry.alias("champion") == registry.ledger_version() == outcomes.index(True) + 2


@pytest.mark.faults
def test_fifty_concurrent_promotions_leave_ledger_and_alias_agreeing(registry: Registry) -> None:
    outcomes = race(registry, 50)
    assert outcomes.count(True) == 1
    assert registry.alias("champion") == registry.ledger_version() == outcomes.index(True) + 2
    assert len(ledger.history(registry.store)) == 2


@pytest.mark.faults
def test_promotions_past_the_gate_and_rollbacks_at_once_leave_ledger_and_alias_agreeing(
    registry: Registry,
) -> None:
    registry.promote("a")
    registry.promote("b", beaten="a")
    for label in "cdef":
        registry.ensure(label)

    def change(label: str) -> bool:
        arguments = {"reason": "r", "actor": "x"}
        try:
            if label:
                promote_past_gate(
                    registry.store,
                    registry.settings,
                    registry.name,
                    ref=registry.ref(label),
                    **arguments,
                )
            else:
                rollback(registry.store, registry.settings, registry.name, **arguments)
        except ConflictError:
            return False
        except ConfigError as error:  # more rollbacks than promotions came before it
            if label or "no earlier champion" not in error.message:
                raise
            return False
        return True

    changes = [*"cdef", "", "", ""] * 4
    with ThreadPoolExecutor(max_workers=len(changes)) as pool:
        outcomes = list(pool.map(change, changes))
    entries = ledger.history(registry.store, registry.name)
    assert outcomes.count(True) >= 1
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    assert registry.alias("champion") == registry.ledger_version() == entries[-1].version


def test_unknown_model_is_a_missing_error(registry: Registry) -> None:
    with pytest.raises(MissingError), translated("show the model"):
        registry.client.get_registered_model("boothline-nobody")
