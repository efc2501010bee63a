"""What settings do to the results of steps is what the steps' keys say of them."""

import pytest
from sensitivity.checking import dead_settings, hidden_settings
from sensitivity.lab import Lab
from sensitivity.probes import PROBES

STEPS = (
    "validate_data",
    "generate_prior",
    "publish_checkpoint",
    "sample_models",
    "evaluate",
    "promote",
    "batch_infer",
    "check_triggers",
    "compare_trials",
    "finish_run",
)


@pytest.mark.parametrize("step", STEPS)
def test_step_gives_another_result_for_each_setting_in_its_key(lab: Lab, step: str) -> None:
    found = dead_settings(lab, PROBES[step])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("step", STEPS)
def test_step_gives_the_same_bits_whatever_is_set_outside_its_key(lab: Lab, step: str) -> None:
    found = hidden_settings(lab, PROBES[step])
    assert not found, "\n".join(found)
