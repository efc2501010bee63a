"""What a person sees of the registered models and does to them, on a real store."""

import io

import pytest
from rich.console import Console

from boothline.cli.summaries import age, say_models
from boothline.errors import ConfigError, GateRefusedError, ModelNotFoundError
from boothline.launch.local.session import Session, actor_of
from boothline.launch.registered import list_models, promote_version
from boothline.registry import ledger
from boothline.registry.promotion import rollback
from boothline.registry.versions import ensure_version
from boothline.runs import StepRecord, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store

pytestmark = pytest.mark.services
NAME = "boothline-bear"
FAILED_RULE = {"name": "subject_gain", "passed": False, "text": "It gains nothing: refused."}
PASSED_RULE = {"name": "subject_gain", "passed": True, "text": "It gains +0.2: passed."}


@pytest.fixture
def session(store_settings: Settings, tmp_path) -> Session:
    environment = {
        "BOOTHLINE_S3_ENDPOINT": store_settings.s3_endpoint,
        "BOOTHLINE_S3_ACCESS_KEY": store_settings.s3_access_key,
        "BOOTHLINE_S3_SECRET_KEY": store_settings.s3_secret_key.get_secret_value(),
        "BOOTHLINE_BUCKET": store_settings.bucket,
        "BOOTHLINE_PREFIX": store_settings.prefix,
        "BOOTHLINE_HOME": str(tmp_path),
        "BOOTHLINE_ACTOR": "the night shift",
    }
    return Session(home=tmp_path, environment=environment)


def judged(
    store: Store, settings: Settings, label: str, *, verdict: str, beaten: ManifestRef | None = None
) -> ManifestRef:
    """Register a model with an evaluation and a verdict of its own run."""
    model = store.commit(
        f"steps/publish_checkpoint/{label}",
        ManifestDraft(kind="model", files={}, metadata={"label": label}),
    )
    ensure_version(store, settings, model_name=NAME, ref=model)
    scores = {name: {"mean": 0.5 if verdict == "promoted" else 0.4} for name in ("dino", "score")}
    evaluation = store.commit(
        f"steps/evaluate/{label}",
        ManifestDraft(
            kind="evaluation",
            files={},
            inputs=(model,),
            metadata={"metrics": {"finetuned": scores}, "gains": {}, "champion": ""},
        ),
    )
    promotion = store.commit(
        f"steps/promote/{label}",
        ManifestDraft(
            kind="promotion",
            files={},
            inputs=(model, evaluation),
            metadata={
                "verdict": verdict,
                "rules": [PASSED_RULE if verdict == "promoted" else FAILED_RULE],
                "model": str(model),
                "model_name": NAME,
                "champion_before": str(beaten or ""),
            },
        ),
    )
    for step, ref in (("evaluate", evaluation), ("promote", promotion)):
        record = StepRecord(step=step, status="done", manifest=str(ref), started_at=1.0)
        write_step(store, f"20260101-000000-{label}", record)
    return model


def test_promote_of_a_version_that_passed_carries_its_verdict_out(session, store_settings) -> None:
    judged(session.store, store_settings, "000a", verdict="promoted")

    entry = promote_version(session, NAME, "1", reason="wanted by the team")

    assert (entry.version, entry.forced, entry.actor) == (1, False, "the night shift")
    assert entry.reason == "wanted by the team: It gains +0.2: passed."
    assert entry.evidence.startswith("steps/promote/000a@sha256:")


def test_promote_of_a_refused_version_says_why_and_how_to_go_past(session, store_settings) -> None:
    judged(session.store, store_settings, "000a", verdict="refused")

    with pytest.raises(GateRefusedError, match="refused version 1 of") as caught:
        promote_version(session, NAME, "1", reason="")

    assert caught.value.remedy.splitlines()[0] == FAILED_RULE["text"]
    assert "--force --reason" in caught.value.remedy
    assert ledger.champion(session.store, NAME) is None


def test_promote_with_force_needs_a_reason_and_records_it(session, store_settings) -> None:
    judged(session.store, store_settings, "000a", verdict="refused")
    with pytest.raises(ConfigError, match="needs a reason"):
        promote_version(session, NAME, "1", reason="", force=True)

    entry = promote_version(session, NAME, "1", reason="the judges prefer it", force=True)

    assert (entry.forced, entry.reason) == (True, "the judges prefer it")
    assert entry.actor == "the night shift"
    assert ledger.champion(session.store, NAME) == entry


def test_promote_of_an_unjudged_or_unknown_version_is_refused(session, store_settings) -> None:
    ref = session.store.commit("steps/publish_checkpoint/k", ManifestDraft(kind="model", files={}))
    ensure_version(session.store, store_settings, model_name=NAME, ref=ref)

    with pytest.raises(GateRefusedError, match="has not been judged"):
        promote_version(session, NAME, "1", reason="")
    with pytest.raises(ModelNotFoundError):
        promote_version(session, NAME, "9", reason="", force=True)


def test_promote_of_a_version_that_was_rolled_back_asks_for_force(session, store_settings) -> None:
    first = judged(session.store, store_settings, "000a", verdict="promoted")
    judged(session.store, store_settings, "000b", verdict="promoted", beaten=first)
    promote_version(session, NAME, "1", reason="")
    promote_version(session, NAME, "2", reason="")
    rollback(session.store, session.settings, NAME, reason="two tails", actor="x")

    with pytest.raises(GateRefusedError, match="lost its place"):
        promote_version(session, NAME, "2", reason="")

    assert promote_version(session, NAME, "2", reason="tails are fine", force=True).version == 2


def test_models_show_champion_challenger_scores_verdict_and_age(session, store_settings) -> None:
    first = judged(session.store, store_settings, "000a", verdict="promoted")
    promote_version(session, NAME, "1", reason="")
    judged(session.store, store_settings, "000b", verdict="refused", beaten=first)

    one, two = list_models(session.store)

    assert (one.alias, one.verdict, one.scores) == (
        "champion",
        "promoted",
        {"score": 0.5, "dino": 0.5},
    )
    assert (two.alias, two.verdict, two.scores["score"]) == ("", "refused", 0.4)
    assert one.champion_since >= one.created_at
    assert two.champion_since is None
    target = Console(file=io.StringIO(), width=100)
    say_models(target, [one, two], now=one.champion_since + 7200)
    heading, _, first_row, _ = target.file.getvalue().splitlines()
    assert heading == f"{NAME}: version 1 is champion for 2 h"
    assert first_row.split()[:5] == ["1", "champion", "0.500", "0.500", "promoted"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (172800, "2 days"), (-3, "0 s")],
)
def test_age_reads_as_people_say_it(seconds, text) -> None:
    assert age(seconds) == text


def test_actor_without_setting_is_the_user_of_the_machine(monkeypatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert actor_of(Settings()) == "somebody"
    assert actor_of(Settings(actor="a robot")) == "a robot"
