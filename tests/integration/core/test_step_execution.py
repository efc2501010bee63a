"""How a step runs: reuse by key, records, failures, the finish hook."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from boothline.config import RunConfig
from boothline.errors import ConfigError, DataError
from boothline.progress import read_events
from boothline.runs import read_steps
from boothline.settings import Settings
from boothline.steps import Step, StepContext, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef, Store

pytestmark = pytest.mark.services


class Inputs(StepInputs):
    text: str = "hello"
    source: str = ""


def make_step(
    calls: list[str], *, fails: bool = False, finished: list[str] | None = None
) -> Step[Inputs]:
    def key(context: StepContext, inputs: Inputs) -> StepKey:
        sources = (ManifestRef.parse(inputs.source),) if inputs.source else ()
        return StepKey(config={"text": inputs.text}, inputs=sources)

    def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
        calls.append(context.key)
        if fails:
            raise DataError("the text is bad: 'hello'.", remedy="Say something else.")
        return ManifestDraft(kind="greeting", files={"text.txt": inputs.text.encode()})

    def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
        if finished is not None:
            finished.append(str(ref))

    return Step(name="greet", inputs=Inputs, version=1, key=key, produce=produce, finish=finish)


def make_inputs(run_id: str, **extra: str) -> Inputs:
    return Inputs(run_id=run_id, config=RunConfig().model_dump_json(), **extra)


def test_execute_second_run_reuses_the_result_and_finishes_again(
    store: Store, store_settings: Settings
) -> None:
    calls: list[str] = []
    finished: list[str] = []
    step = make_step(calls, finished=finished)
    first = execute(step, make_inputs("run-1"), settings=store_settings)
    second = execute(step, make_inputs("run-2"), settings=store_settings)
    assert first == second
    assert len(calls) == 1
    assert finished == [first, first]
    assert store.read_bytes(ManifestRef.parse(first), "text.txt") == b"hello"
    assert [record.reused for record in read_steps(store, "run-1")] == [False]
    assert [record.reused for record in read_steps(store, "run-2")] == [True]


def test_execute_of_a_recurring_run_is_recorded_under_the_id_of_its_job(
    store: Store, store_settings: Settings
) -> None:
    here = store_settings.model_copy(update={"job_id": "1f6e"})
    execute(make_step([]), make_inputs("nightly-@job"), settings=here)
    assert [record.status for record in read_steps(store, "nightly-1f6e")] == ["done"]


def test_execute_of_a_recurring_run_without_a_job_says_what_sets_it(
    store_settings: Settings,
) -> None:
    with pytest.raises(ConfigError, match=r"BOOTHLINE_JOB_ID is empty.*pipeline/runid"):
        execute(make_step([]), make_inputs("nightly-@job"), settings=store_settings)


def test_execute_other_config_makes_another_result(store_settings: Settings) -> None:
    calls: list[str] = []
    step = make_step(calls)
    first = execute(step, make_inputs("run-1"), settings=store_settings)
    second = execute(step, make_inputs("run-1", text="other"), settings=store_settings)
    assert first != second
    assert len(set(calls)) == 2


def test_execute_equal_input_content_is_reused_whoever_wrote_it(
    store: Store, store_settings: Settings
) -> None:
    draft = ManifestDraft(kind="note", files={"a.txt": b"same"})
    one = store.commit("steps/note/one", draft)
    two = store.commit("steps/note/two", draft)
    assert one.digest != two.digest
    calls: list[str] = []
    step = make_step(calls)
    first = execute(step, make_inputs("run-1", source=str(one)), settings=store_settings)
    second = execute(step, make_inputs("run-1", source=str(two)), settings=store_settings)
    assert first == second
    assert len(calls) == 1


def test_execute_failure_is_recorded_and_a_retry_succeeds(
    store: Store, store_settings: Settings, tmp_path: Path
) -> None:
    settings = store_settings.model_copy(update={"run_dir": tmp_path})
    with pytest.raises(DataError):
        execute(make_step([], fails=True), make_inputs("run-1"), settings=settings)
    (record,) = read_steps(store, "run-1")
    assert record.status == "failed"
    assert record.failure is not None
    assert record.failure.exit_code == 3
    failed = [event for event in read_events(tmp_path) if event.kind == "failed"]
    assert failed[0].remedy == "Say something else."

    execute(make_step([]), make_inputs("run-1"), settings=settings)
    (record,) = read_steps(store, "run-1")
    assert record.status == "done"
    assert not record.reused


def test_execute_records_what_the_key_digests(store: Store, store_settings: Settings) -> None:
    execute(make_step([]), make_inputs("run-1"), settings=store_settings)
    (record,) = read_steps(store, "run-1")
    assert record.key_parts["config"] == {"text": "hello"}
    assert record.key_parts["step"] == "greet"
    json.dumps(record.key_parts)


MISSING = RunConfig.model_validate(
    {
        "inference": {"prompts_file": "s3://boothline/no/such.txt"},
        "evaluation": {"prompt_set": "file", "prompts_file": "s3://boothline/none.txt"},
    }
)


@pytest.mark.parametrize("section", ["inference", "evaluation"])
def test_first_step_of_a_run_names_a_prompt_file_that_the_store_lacks(
    store_settings: Settings, section: str
) -> None:
    config = MISSING.model_copy(update={section: getattr(RunConfig(), section)})
    (setting,) = {"inference", "evaluation"} - {section}
    inputs = Inputs(run_id="r", config=config.model_dump_json())
    with pytest.raises(DataError, match=r"The prompt file s3://.* does not exist") as caught:
        execute(make_step([]), inputs, settings=store_settings)
    assert caught.value.remedy == f"Check {setting}.prompts_file."


def test_last_step_of_a_run_needs_no_prompt_file(store_settings: Settings) -> None:
    step = replace(make_step([]), name="finish_run")
    inputs = Inputs(run_id="r", config=MISSING.model_dump_json())
    assert execute(step, inputs, settings=store_settings)
