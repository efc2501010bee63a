import pytest

from boothline.config import RunConfig
from boothline.launch.explaining import explain_run
from boothline.runs import Failure, RunRecord, StepRecord, write_run, write_step
from boothline.store import ManifestDraft

pytestmark = pytest.mark.services
FIRST, SECOND = "20260101-000000-0000", "20260102-000000-0000"


def write(store, run_id, *records, subject="teddy-bear"):
    config = RunConfig.model_validate({"subject": {"name": subject}}).model_dump(mode="json")
    write_run(store, RunRecord(run_id=run_id, status="done", config=config, created_at=1.0))
    for record in records:
        write_step(store, run_id, record)


def record(step="train", *, num_steps=100, version="0.1+1", inputs=(), **values):
    parts = {
        "step": step,
        "version": version,
        "config": {"training": {"num_steps": num_steps}},
        "inputs": list(inputs),
    }
    return StepRecord.model_validate(
        {"step": step, "status": "done", "started_at": 1.0, "key_parts": parts, **values}
    )


def only(explanations):
    (explanation,) = explanations
    return explanation


def test_explain_changed_setting_names_it_with_both_values(store):
    write(store, FIRST, record(num_steps=100))
    write(store, SECOND, record(num_steps=200))

    explanation = only(explain_run(store, SECOND, step="train"))

    assert explanation.outcome == "made"
    assert explanation.compared_with == FIRST
    assert explanation.reasons == [f"Since run {FIRST}:", "training.num_steps: 100 -> 200"]


def test_explain_unchanged_step_says_it_was_reused_because_nothing_changed(store):
    write(store, FIRST, record())
    write(store, SECOND, record(reused=True))

    explanation = only(explain_run(store, SECOND))

    assert explanation.outcome == "reused"
    assert explanation.reasons == [f"Nothing it depends on changed since run {FIRST}."]


def test_explain_changed_code_names_the_versions(store):
    write(store, FIRST, record(version="0.1+1"))
    write(store, SECOND, record(version="0.1+2"))

    assert "the code changed: 0.1+1 -> 0.1+2" in only(explain_run(store, SECOND)).reasons


def test_explain_changed_input_names_the_step_that_made_it(store):
    old = store.commit("steps/validate_data/1", ManifestDraft(kind="dataset", files={"a": b"old"}))
    new = store.commit("steps/validate_data/2", ManifestDraft(kind="dataset", files={"a": b"new"}))
    for run_id, ref in ((FIRST, old), (SECOND, new)):
        write(
            store,
            run_id,
            record("validate_data", manifest=str(ref)),
            record("train", inputs=[store.read(ref).content_digest]),
        )

    reasons = only(explain_run(store, SECOND, step="train")).reasons
    assert reasons == [f"Since run {FIRST}:", "the result of validate_data changed"]


def test_explain_after_a_failed_attempt_says_the_step_did_not_finish(store):
    failure = Failure(type="DataError", message="x")
    write(store, FIRST, record(status="failed", failure=failure))
    write(store, SECOND, record())

    assert "did not finish" in only(explain_run(store, SECOND)).reasons[0]


def test_explain_ignores_runs_of_other_subjects(store):
    write(store, FIRST, record(), subject="mug")
    write(store, SECOND, record())

    explanation = only(explain_run(store, SECOND))
    assert explanation.compared_with == ""
    assert explanation.reasons == ["No earlier run of this subject has it."]


def test_explain_shard_is_found_by_step_and_by_label(store):
    write(store, SECOND, record("generate_prior", shard=0), record("generate_prior", shard=1))

    by_step = explain_run(store, SECOND, step="generate_prior")
    by_label = explain_run(store, SECOND, step="generate_prior-1")
    assert [item.step for item in by_step] == ["generate_prior-0", "generate_prior-1"]
    assert [item.step for item in by_label] == ["generate_prior-1"]


def test_explain_changed_list_names_what_came_and_what_went(store):
    for run_id, files in ((FIRST, [["a.png", "1"], ["b.png", "2"]]), (SECOND, [["a.png", "1"]])):
        made = record("validate_data")
        parts = {**made.key_parts, "config": {"files": files}}
        write(store, run_id, made.model_copy(update={"key_parts": parts}))

    assert only(explain_run(store, SECOND)).reasons[1] == "files: without ['b.png', '2']"


def test_explain_report_says_that_it_is_always_written_anew(store):
    write(store, FIRST, record("finish_run"))
    write(store, SECOND, record("finish_run", num_steps=1))

    assert "again" in only(explain_run(store, SECOND)).reasons[0]


def test_explain_sweep_tells_of_each_trial_beside_the_plain_run_before(store):
    write(store, FIRST, record(num_steps=100))
    trials = {"sweep": {"trials": [{"training.num_steps": 100}, {"training.num_steps": 200}]}}
    config = RunConfig.model_validate({"subject": {"name": "teddy-bear"}, **trials})
    sweep = RunRecord(
        run_id=SECOND,
        pipeline="sweep",
        status="done",
        config=config.model_dump(mode="json"),
        created_at=2.0,
    )
    write_run(store, sweep)
    write_step(store, f"{SECOND}-t00", record(num_steps=100, reused=True))
    write_step(store, f"{SECOND}-t01", record(num_steps=200))

    explanations = {item.step: item for item in explain_run(store, SECOND)}

    assert explanations["train-0"].outcome == "reused"
    assert explanations["train-0"].reasons == [f"Nothing it depends on changed since run {FIRST}."]
    assert explanations["train-1"].reasons == [
        f"Since run {FIRST}:",
        "training.num_steps: 100 -> 200",
    ]
