"""An alias moved by hand in MLflow is seen by `models` and the doctor, which change nothing."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from command_line import boothline

from boothline.registry import ledger
from boothline.registry.drift import Drift, find_drift
from boothline.registry.promotion import promote, rollback
from boothline.registry.versions import ensure_version
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.tracking.client import connect

pytestmark = pytest.mark.services


@pytest.fixture
def name() -> str:
    """A model that MLflow, which outlives a test, has not seen."""
    return f"boothline-{uuid4().hex[:8]}"


@pytest.fixture
def tracked(store_settings: Settings, mlflow_uri: str) -> Settings:
    return store_settings.model_copy(update={"mlflow_uri": mlflow_uri})


@pytest.fixture
def registered(store: Store, tracked: Settings, name: str) -> str:
    """A model with champion 1 and challenger 2, as a run leaves it."""
    one, _ = (add(store, tracked, name, label) for label in ("a", "b"))
    crown(store, tracked, name, one)
    return name


def add(store: Store, settings: Settings, name: str, label: str) -> ManifestRef:
    draft = ManifestDraft(kind="model", files={}, metadata={"label": label, "name": name})
    ref = store.commit(f"steps/publish_checkpoint/{label}", draft)
    ensure_version(store, settings, model_name=name, ref=ref)
    return ref


def crown(
    store: Store, settings: Settings, name: str, ref: ManifestRef, beaten: ManifestRef | None = None
) -> None:
    promote(
        store,
        settings,
        name,
        ref=ref,
        beaten=beaten,
        evidence=ManifestRef(path="steps/promote/x", digest=ref.digest[::-1]),
        reason="it is better",
        actor="run r1",
    )


def run(settings: Settings, folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    return boothline(folder, *words, variables=settings.variables())


def test_find_drift_after_promotions_and_rollback_finds_none(
    store: Store, tracked: Settings, registered: str
) -> None:
    assert find_drift(store, tracked) == []
    third = add(store, tracked, registered, "c")
    assert find_drift(store, tracked) == []
    champion = ledger.champion(store, registered)
    assert champion is not None
    crown(store, tracked, registered, third, beaten=champion.ref)
    assert find_drift(store, tracked) == []
    rollback(store, tracked, registered, reason="two tails", actor="x")
    assert find_drift(store, tracked) == []


MOVES: dict[str, tuple[Callable[[Any, str], object], Drift]] = {
    "champion-moved": (
        lambda client, name: client.set_registered_model_alias(name, "champion", "2"),
        Drift(name="", alias="champion", ledger_version=1, mlflow_version=2),
    ),
    "champion-deleted": (
        lambda client, name: client.delete_registered_model_alias(name, "champion"),
        Drift(name="", alias="champion", ledger_version=1, mlflow_version=None),
    ),
    "challenger-moved": (
        lambda client, name: client.set_registered_model_alias(name, "challenger", "1"),
        Drift(name="", alias="challenger", ledger_version=2, mlflow_version=1),
    ),
    "other-manifest": (
        lambda client, name: client.set_model_version_tag(
            name, "1", "boothline.manifest_digest", "f" * 64
        ),
        Drift(name="", alias="champion", ledger_version=1, mlflow_version=1, other_model=True),
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_find_drift_after_a_move_by_hand_names_both_versions(
    move: str, store: Store, tracked: Settings, registered: str
) -> None:
    by_hand, expected = MOVES[move]
    by_hand(connect(tracked.mlflow_uri), registered)
    assert find_drift(store, tracked) == [expected.model_copy(update={"name": registered})]


def test_find_drift_of_a_model_that_mlflow_lost_names_both_aliases(
    store: Store, tracked: Settings, registered: str
) -> None:
    connect(tracked.mlflow_uri).delete_registered_model(registered)
    assert [(found.alias, found.mlflow_version) for found in find_drift(store, tracked)] == [
        ("champion", None),
        ("challenger", None),
    ]


@pytest.mark.proves("F61/aliases")
def test_models_and_doctor_show_a_champion_moved_by_hand_and_leave_it(
    tracked: Settings, registered: str, tmp_path: Path
) -> None:
    client = connect(tracked.mlflow_uri)
    code, before, _ = run(tracked, tmp_path, "models")
    assert (code, before["drift"]) == (0, [])
    client.set_registered_model_alias(registered, "champion", "2")
    code, shown, _ = run(tracked, tmp_path, "models")
    _, examined, _ = run(tracked, tmp_path, "doctor")
    found = {finding["name"]: finding for finding in examined["findings"]}["registry"]
    sentence = f"the champion of {registered} is version 1 by the ledger, and version 2 in MLflow"
    assert code == 0
    assert [(d["ledger_version"], d["mlflow_version"]) for d in shown["drift"]] == [(1, 2)]
    assert (found["status"], found["detail"]) == ("warning", sentence)
    assert client.get_model_version_by_alias(registered, "champion").version in ("2", 2)


def test_models_with_mlflow_away_lists_them_and_says_why_nothing_was_compared(
    tracked: Settings, registered: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        settings = tracked.model_copy(update={"mlflow_uri": away})
        code, shown, _ = run(settings, tmp_path, "models")
    assert code == 0
    assert len(shown["models"]) == 2
    assert shown["drift"] == []
    assert "MLflow did not" in shown["drift_unknown"]


def test_say_drift_warns_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from boothline.cli.summaries import say_drift

    drift = Drift(name="boothline-bear", alias="champion", ledger_version=3, mlflow_version=None)
    target = Console(width=400)
    say_drift(target, [drift], unknown="")
    say_drift(target, [], unknown="MLflow did not answer")
    said = capsys.readouterr().out
    assert "Warning: the champion of boothline-bear is version 3 by the ledger, and none in" in said
    assert "The ledger counts" in said
    assert "Not compared with MLflow: MLflow did not answer" in said
