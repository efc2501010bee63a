"""Planning a sweep: grids, draws, and what may not be tried."""

import json

import pytest

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.launch.trials import planned, split_choices, with_choices
from boothline.pipelines.parameters import labels, trial_arguments
from boothline.runs import trial_of, trial_run_id
from boothline.trials import trial_configs

RUN = "20260101-000000-0000"


def config_with(**sweep: object) -> RunConfig:
    return RunConfig.model_validate({"sweep": sweep})


def test_split_choices_parts_overrides_of_several_values_from_the_others():
    single, several = split_choices(
        [
            "training.learning_rate=1e-4,2e-4",
            "training.num_steps=50, 100",
            "training.method=full,lora",
            "training.seed=3",
            'evaluation.prompts=["a {subject}, here", "a {subject}"]',
            "subject.prompt=a photo, of {subject}",
        ]
    )

    assert several == {
        "training.learning_rate": (1e-4, 2e-4),
        "training.num_steps": (50, 100),
        "training.method": ("full", "lora"),
    }
    assert [override.partition("=")[0] for override in single] == [
        "training.seed",
        "evaluation.prompts",
        "subject.prompt",
    ]


def test_planned_grid_is_every_combination_in_order():
    grid = {"training.learning_rate": [1e-4, 2e-4], "training.num_steps": [50, 100]}

    trials = planned(config_with(grid=grid)).sweep.trials

    assert [tuple(trial.values()) for trial in trials] == [
        (1e-4, 50),
        (1e-4, 100),
        (2e-4, 50),
        (2e-4, 100),
    ]


def test_planned_twice_is_the_same_plan():
    once = planned(config_with(grid={"training.seed": [1, 2]}))
    assert planned(once) == once


def test_planned_ranges_are_drawn_within_bounds_and_repeatable():
    pytest.importorskip("optuna", reason="needs the extra sweep")
    ranges = {
        "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "training.num_steps": {"low": 50, "high": 60, "integer": True},
    }
    config = config_with(ranges=ranges, grid={"training.seed": [1, 2]}, num_trials=6, seed=7)

    trials = planned(config).sweep.trials

    assert len(trials) == len({json.dumps(trial) for trial in trials}) == 6
    assert all(1e-5 <= trial["training.learning_rate"] <= 1e-3 for trial in trials)
    assert {type(trial["training.num_steps"]) for trial in trials} == {int}
    assert {trial["training.seed"] for trial in trials} == {1, 2}
    assert planned(config).sweep.trials == trials
    assert planned(config_with(ranges=ranges, num_trials=6, seed=8)).sweep.trials != trials


def test_planned_draws_of_few_possible_values_stop_at_all_of_them():
    pytest.importorskip("optuna", reason="needs the extra sweep")
    ranges = {"training.num_steps": {"low": 1, "high": 3, "integer": True}}
    assert len(planned(config_with(ranges=ranges, num_trials=50)).sweep.trials) == 3


def test_planned_ranges_without_optuna_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match="Optuna") as caught:
        planned(config_with(ranges={"training.seed": {"low": 1, "high": 9, "integer": True}}))
    assert "boothline[sweep]" in caught.value.remedy


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({}, "nothing to try"),
        ({"grid": {"training.seed": list(range(101))}}, "101 combinations"),
        ({"grid": {"training.num_steps": [10, 0]}}, r"Trial 1 \(training.num_steps=0\)"),
        ({"grid": {"training.nothing": [1, 2]}}, r"Trial 0 .*training.nothing"),
        ({"grid": {"training.accumulation": [2, 3]}}, "must be a multiple of num_processes"),
    ],
)
def test_planned_of_what_cannot_be_tried_says_why(sweep, message):
    with pytest.raises(ConfigError, match=message):
        planned(config_with(**sweep))


@pytest.mark.parametrize("name", ["prior.num_images", "evaluation.seed", "subject.identifier"])
def test_setting_that_trials_share_may_not_differ(name):
    with pytest.raises(ConfigError, match=f"{name} may not differ"):
        with_choices(RunConfig(), {name: (1, 2)})


def test_trial_configs_change_their_settings_and_nothing_else():
    config = planned(config_with(grid={"training.lora.rank": [4, 8], "prior.weight": [0.5]}))

    first, second = trial_configs(config)

    assert (first.training.lora.rank, second.training.lora.rank) == (4, 8)
    assert first.prior.weight == 0.5
    plain = RunConfig()
    assert first.model_copy(update={"training": plain.training, "prior": plain.prior}) == plain


def test_trial_arguments_read_back_as_the_trials_configurations():
    config = planned(
        RunConfig.model_validate(
            {
                "sweep": {"grid": {"training.seed": [1, 2]}},
                "inference": {"sampling": {"seed": 0, "num_steps": 5}},
                "subject": {"prompt": "{{$}} {subject}"},
            }
        )
    )

    items = trial_arguments(RUN, config)

    assert [item["run_id"] for item in items] == [f"{RUN}-t00", f"{RUN}-t01"]
    read = [RunConfig.model_validate_json(item["config"]) for item in items]
    assert read == trial_configs(config)
    assert "{{" not in items[0]["config"]


def test_trial_run_id_reads_back_and_plain_run_ids_are_no_trials():
    assert trial_of(trial_run_id(RUN, 3)) == (RUN, 3)
    assert trial_of(trial_run_id(RUN, 120)) == (RUN, 120)
    assert trial_of(RUN) is None


def test_labels_of_a_sweep_have_one_training_a_trial():
    config = planned(config_with(grid={"training.seed": [1, 2]}))

    names = labels(config, promoted=False, pipeline="sweep")

    assert [name for name in names if name.startswith("train")] == ["train-0", "train-1"]
    assert "compare_trials" in names
    assert not any(name.startswith("batch_infer") for name in names)
    skipped = labels(config, promoted=False, pipeline="retrain", skipped=True)
    assert skipped == ["validate_data", "check_triggers", "finish_run"]
