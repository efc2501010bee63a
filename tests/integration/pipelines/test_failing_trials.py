"""A trial that fails ends alone: the sweep compares the others and says why one is missing."""

import pytest

from boothline.components.compare_trials import step as compare_trials
from boothline.config import RunConfig
from boothline.errors import DataError, NonFiniteLossError, StoreError
from boothline.launch.local.events import RunProgress
from boothline.progress import Progress, read_events
from boothline.runs import read_steps, trial_run_id
from boothline.steps import Step, StepContext, StepInputs, StepKey, execute
from boothline.store import ManifestDraft
from boothline.tracking import MemoryTracker
from boothline.trials import FAILED_TRIAL

pytestmark = pytest.mark.services
SWEEP = "20260101-000000-0000"
CONFIG = RunConfig.model_validate(
    {"sweep": {"trials": [{"training.seed": 1}, {"training.seed": 2}, {"training.seed": 3}]}}
)


class Inputs(StepInputs):
    training: str = ""


def step_that(act) -> Step[Inputs]:
    return Step(
        name="train", inputs=Inputs, version=1, key=lambda c, i: StepKey(config={}), produce=act
    )


def failing(error: Exception):
    def produce(context, inputs):
        raise error

    return step_that(produce)


def inputs(number: int, **references: str) -> Inputs:
    run_id = trial_run_id(SWEEP, number)
    return Inputs(run_id=run_id, config=CONFIG.model_dump_json(), **references)


def test_failing_step_of_a_trial_hands_its_failure_on_and_records_it(
    store, store_settings, tmp_path
):
    settings = store_settings.model_copy(update={"run_dir": tmp_path})
    step = failing(NonFiniteLossError("The loss became NaN."))

    assert execute(step, inputs(1), settings=settings) == FAILED_TRIAL

    (record,) = read_steps(store, trial_run_id(SWEEP, 1))
    assert (record.status, record.failure.message) == ("failed", "The loss became NaN.")
    progress = RunProgress(("train",))
    for event in read_events(tmp_path):
        progress.apply(event)
    assert progress.first_failure() is None
    assert (progress.steps["train"].state, progress.unfinished()) == ("done", [])


def test_step_after_a_failed_one_of_its_trial_does_nothing(store, store_settings):
    step = failing(AssertionError("it ran"))

    after = inputs(1, training=FAILED_TRIAL)

    assert execute(step, after, settings=store_settings) == FAILED_TRIAL
    assert read_steps(store, trial_run_id(SWEEP, 1)) == []


def test_failing_store_in_a_trial_stops_the_sweep(store_settings):
    with pytest.raises(StoreError):
        execute(failing(StoreError("The store is gone.")), inputs(1), settings=store_settings)


def test_failing_step_of_a_plain_run_stops_it(store_settings):
    plain = Inputs(run_id=SWEEP, config=CONFIG.model_dump_json())
    with pytest.raises(NonFiniteLossError):
        execute(failing(NonFiniteLossError("NaN.")), plain, settings=store_settings)


@pytest.fixture
def compare(store, store_settings, tmp_path):
    """Compare three trials of which those named have failed; returns key and manifest draft."""

    def run(*failed: int):
        refs = []
        for number in range(3):
            if number in failed:
                execute(
                    failing(NonFiniteLossError("NaN.")), inputs(number), settings=store_settings
                )
                refs.append(FAILED_TRIAL)
                continue
            metadata = {"metrics": {"finetuned": {"score": {"mean": number / 10}}}}
            draft = ManifestDraft(kind="evaluation", files={}, metadata=metadata)
            refs.append(str(store.commit(f"steps/evaluate/{number}", draft)))
        context = StepContext(
            run_id=SWEEP,
            config=CONFIG,
            settings=store_settings,
            store=store,
            progress=Progress("compare_trials"),
            tracker=MemoryTracker(),
            folder=tmp_path,
        )
        given = compare_trials.Inputs(run_id=SWEEP, config="", models=refs, evaluations=refs)
        return compare_trials.key(context, given), compare_trials.produce(context, given)

    return run


def test_compare_trials_ranks_the_others_and_says_why_one_failed(compare):
    key, draft = compare(2)

    rows = draft.metadata["trials"]
    assert [row["trial"] for row in rows] == [1, 0, 2]
    assert draft.metadata["best"]["trial"] == 1
    assert rows[2]["failure"] == "train: NaN."
    assert b"Failed at train: NaN." in draft.files["leaderboard.html"]
    assert key.config["failures"] == {"2": "train: NaN."}
    assert len(key.inputs) == len(draft.inputs) == 4


def test_compare_trials_of_which_none_failed_has_the_same_key_as_ever(compare):
    key, draft = compare()

    assert set(key.config) == {"model_name", "trials"}
    assert all("failure" not in row for row in draft.metadata["trials"])


def test_compare_trials_that_all_failed_says_why(compare):
    with pytest.raises(DataError, match="All 3 trials failed; the first at train: NaN"):
        compare(0, 1, 2)
