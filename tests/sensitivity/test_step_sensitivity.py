"""What settings do to the result of a step is what its key says of them."""

import pytest
from pydantic.fields import FieldInfo
from sensitivity.checking import dead_settings, hidden_settings, settings_in_keys
from sensitivity.lab import Lab
from sensitivity.pairs import all_cases, case_of
from sensitivity.probes import PROBES

from boothline.catalogue import steps

COSTLY = {"batch_infer", "evaluate", "finish_run", "publish_checkpoint", "sample_models"}
STEPS = tuple(
    pytest.param(name, marks=pytest.mark.matrix) if name in COSTLY else name
    for name in PROBES
    if name != "train"
)
IN_NO_KEY = {
    "base_model.allow_hub": "says what may be fetched, not what is",
    "training.sample_every_steps": "sample sheets are diagnostics",
    "training.sample_early": "as above",
    "training.caches": "the same to the bit, only sooner",
    "checkpoints.every_steps": "states are to the bit what the training has",
    "checkpoints.keep_last": "old states are no result",
    "tracking.experiment": "a result is the same wherever it is shown",
    "tracking.tensorboard": "as above",
    "tracking.wandb": "as above",
    "notification.statuses": "a message is no result",
    "notification.log_lines": "as above",
    "sweep.grid": "the trials made from it count",
    "sweep.ranges": "the trials made from them count",
    "sweep.ranges{}.low": "as above",
    "sweep.ranges{}.high": "as above",
    "sweep.ranges{}.log": "as above",
    "sweep.ranges{}.integer": "as above",
    "sweep.num_trials": "as above",
    "sweep.seed": "as above",
}


def test_every_step_is_tried() -> None:
    assert set(PROBES) == {step.name for step in steps()}


@pytest.mark.proves("F68/sensitivity")
@pytest.mark.parametrize("step", STEPS)
def test_step_gives_another_result_for_each_setting_in_its_key(lab: Lab, step: str) -> None:
    found = dead_settings(lab, PROBES[step])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("step", STEPS)
def test_step_gives_the_same_bits_whatever_is_set_outside_its_key(lab: Lab, step: str) -> None:
    found = hidden_settings(lab, PROBES[step])
    assert not found, "\n".join(found)


def test_setting_that_is_in_no_key_but_the_reports_is_listed_with_its_reason(lab: Lab) -> None:
    found = settings_in_keys(lab, [PROBES[name] for name in PROBES if name != "finish_run"])
    assert set(all_cases()) - found == set(IN_NO_KEY)


def test_setting_of_which_no_two_values_are_known_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match=r"two values of subject\.colour .* VALUES"):
        case_of("subject.colour", FieldInfo(annotation=str, default=""))
    assert case_of("subject.shiny", FieldInfo(annotation=bool, default=False)).values == (
        False,
        True,
    )
