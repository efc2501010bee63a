"""The registry after MLflow was lost or changed by hand: numbers stay, repair mends the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from command_line import boothline

from boothline import services
from boothline.errors import DataError
from boothline.registry import ledger, mirror, mlmodel
from boothline.registry.drift import find_drift
from boothline.registry.promotion import promote_past_gate
from boothline.registry.repair import repair
from boothline.registry.versions import ensure_version, resolve, versions
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store, layout
from boothline.tracking.client import Client, connect

pytestmark = pytest.mark.services


@pytest.fixture
def name() -> str:
    """A model that MLflow, which outlives a test, has not seen."""
    return f"boothline-{uuid4().hex[:8]}"


@pytest.fixture
def untracked(store_settings: Settings) -> Settings:
    return store_settings.model_copy(update={"mlflow_uri": ""})


@pytest.fixture
def tracked(store_settings: Settings, mlflow_uri: str) -> Settings:
    return store_settings.model_copy(update={"mlflow_uri": mlflow_uri})


@pytest.fixture(scope="module")
def new_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with a database of its own, that knows nothing of a test's model."""
    home = tmp_path_factory.mktemp("new-mlflow")
    yield services.ensure(home, only=["mlflow"]).mlflow_uri
    services.stop(home)


def add(store: Store, settings: Settings, name: str, label: str) -> ManifestRef:
    draft = ManifestDraft(kind="model", files={}, metadata={"label": label, "name": name})
    ref = store.commit(f"steps/publish_checkpoint/{label}", draft)
    ensure_version(store, settings, model_name=name, ref=ref)
    return ref


def crown(store: Store, settings: Settings, name: str, ref: ManifestRef) -> None:
    promote_past_gate(store, settings, name, ref=ref, reason="it is better", actor="x")


def shown(settings: Settings, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """What MLflow shows: the digest by our number, and the digest by alias."""
    client: Any = connect(settings.mlflow_uri)
    found = client.search_model_versions(f"name = '{name}'")
    asked = Client(settings.mlflow_uri)
    by_number = {v.tags[mirror.NUMBER_TAG]: v.tags[mlmodel.DIGEST_TAG] for v in found}
    aliases = {
        alias: mirror.tags(asked, name, number)[mlmodel.DIGEST_TAG]
        for alias, number in mirror.aliases(asked, name).items()
    }
    return by_number, aliases


def run(settings: Settings, folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    return boothline(folder, *words, variables=settings.variables())


@pytest.mark.proves("F61/numbers")
def test_version_with_mlflow_added_later_gets_the_next_number(
    store: Store, tracked: Settings, untracked: Settings, name: str
) -> None:
    first = add(store, untracked, name, "a")
    second = add(store, tracked, name, "b")
    assert [(v.version, v.ref) for v in versions(store, name)] == [(1, first), (2, second)]
    assert resolve(store, name, "1").ref == first
    assert shown(tracked, name) == ({"2": second.digest}, {"challenger": second.digest})


@pytest.mark.proves("F61/numbers")
def test_version_after_mlflow_was_made_anew_gets_the_next_number(
    store: Store, tracked: Settings, new_mlflow: str, name: str
) -> None:
    first, second = (add(store, tracked, name, label) for label in "ab")
    renewed = tracked.model_copy(update={"mlflow_uri": new_mlflow})
    third = add(store, renewed, name, "c")
    crown(store, renewed, name, second)
    assert [v.ref for v in versions(store, name)] == [first, second, third]
    assert resolve(store, name, "3").ref == third
    assert shown(renewed, name)[1] == {"champion": second.digest, "challenger": third.digest}
    assert find_drift(store, renewed) == []


def test_version_recorded_without_a_claim_keeps_its_number(
    store: Store, untracked: Settings, name: str
) -> None:
    first = add(store, untracked, name, "a")
    record = versions(store, name)[0].model_copy(update={"version": 4}).model_dump(mode="json")
    store.put_record(layout.version(name, first.digest), record)  # as MLflow numbered it before
    second = add(store, untracked, name, "b")
    assert [(v.version, v.ref) for v in versions(store, name)] == [(4, first), (5, second)]


def test_version_whose_registration_failed_keeps_the_number_it_claimed(
    store: Store, untracked: Settings, name: str
) -> None:
    ref = ManifestRef(path="steps/publish_checkpoint/x", digest="d" * 64)
    store.put_record(layout.version_number(name, 1), {"digest": "d" * 64}, if_absent=True)
    add(store, untracked, name, "a")
    made = ensure_version(store, untracked, model_name=name, ref=ref)
    assert made.version == 1
    assert [v.version for v in versions(store, name)] == [1, 2]


@pytest.mark.proves("F61/repair")
def test_repair_of_a_new_mlflow_shows_all_versions_and_aliases_again(
    store: Store, tracked: Settings, new_mlflow: str, name: str
) -> None:
    refs = [add(store, tracked, name, label) for label in "abc"]
    crown(store, tracked, name, refs[1])
    renewed = tracked.model_copy(update={"mlflow_uri": new_mlflow})
    planned = repair(store, renewed, dry_run=True)
    assert shown(renewed, name) == ({}, {})
    assert repair(store, renewed) == planned
    assert [(r.action, r.version) for r in planned] == [
        ("version", 1), ("version", 2), ("version", 3), ("alias", 2), ("alias", 3),
    ]  # fmt: skip
    assert shown(renewed, name) == (
        {str(n): ref.digest for n, ref in enumerate(refs, start=1)},
        {"champion": refs[1].digest, "challenger": refs[2].digest},
    )
    assert (repair(store, renewed), find_drift(store, renewed)) == ([], [])


def test_repair_of_what_was_changed_by_hand_follows_the_ledger(
    store: Store, tracked: Settings, name: str
) -> None:
    refs = [add(store, tracked, name, label) for label in "abc"]
    crown(store, tracked, name, refs[0])
    client: Any = connect(tracked.mlflow_uri)
    client.delete_model_version(name, "1")
    client.set_registered_model_alias(name, "champion", "2")
    client.delete_registered_model_alias(name, "challenger")
    client.set_model_version_tag(name, "2", mirror.NUMBER_TAG, "7")
    assert [(r.action, r.version) for r in repair(store, tracked)] == [
        ("version", 1), ("tag", 2), ("alias", 1), ("alias", 3),
    ]  # fmt: skip
    assert shown(tracked, name)[1] == {
        "champion": refs[0].digest,
        "challenger": refs[2].digest,
    }
    assert (repair(store, tracked), find_drift(store, tracked)) == ([], [])


def test_repair_takes_away_an_alias_that_the_ledger_does_not_have(
    store: Store, tracked: Settings, name: str
) -> None:
    ref = add(store, tracked, name, "a")
    connect(tracked.mlflow_uri).set_registered_model_alias(name, "champion", "1")
    assert [(r.action, r.version) for r in repair(store, tracked)] == [("alias", None)]
    assert shown(tracked, name)[1] == {"challenger": ref.digest}


def test_repair_of_a_number_that_two_versions_share_leaves_it_to_the_champion(
    store: Store, untracked: Settings, name: str
) -> None:
    refs = [add(store, untracked, name, label) for label in "ab"]
    for number in (1, 2):
        store.bucket.delete(layout.version_number(name, number))
    same = versions(store, name)[1].model_copy(update={"version": 1}).model_dump(mode="json")
    store.put_record(layout.version(name, refs[1].digest), same)  # as a lost MLflow counted
    crown(store, untracked, name, refs[1])
    with pytest.raises(DataError, match=r"2 versions .* have the number 1") as caught:
        resolve(store, name, "1")
    assert "registry repair" in caught.value.remedy
    assert [r.action for r in repair(store, untracked, dry_run=True)] == ["number", "claim"]
    assert [r.action for r in repair(store, untracked)] == ["number", "claim"]
    assert [(v.version, v.ref) for v in versions(store, name)] == [(1, refs[1]), (2, refs[0])]
    assert repair(store, untracked) == []


def test_promotion_of_a_version_deleted_in_mlflow_shows_it_there_again(
    store: Store, tracked: Settings, name: str
) -> None:
    ref = add(store, tracked, name, "a")
    connect(tracked.mlflow_uri).delete_model_version(name, "1")
    crown(store, tracked, name, ref)
    assert shown(tracked, name) == ({"1": ref.digest}, {"champion": ref.digest})
    champion = ledger.champion(store, name)
    assert champion is not None
    assert champion.version == 1


def test_repair_command_says_what_it_would_do_and_does_it(
    store: Store, tracked: Settings, name: str, tmp_path: Path
) -> None:
    add(store, tracked, name, "a")
    connect(tracked.mlflow_uri).delete_registered_model(name)
    code, planned, _ = run(tracked, tmp_path, "registry", "repair", "--dry-run")
    assert (code, planned["dry_run"]) == (0, True)
    assert [r["action"] for r in planned["repairs"]] == ["version", "alias"]
    code, done, _ = run(tracked, tmp_path, "registry", "repair")
    assert (code, done["repairs"]) == (0, planned["repairs"])
    code, again, _ = run(tracked, tmp_path, "registry", "repair")
    assert (code, again["repairs"]) == (0, [])
