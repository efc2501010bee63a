"""What settings do to the result of the training is what its key says of them."""

import pytest
from sensitivity.checking import dead_settings, hidden_settings
from sensitivity.lab import Lab
from sensitivity.probes import PROBES

pytestmark = pytest.mark.matrix

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_training_gives_other_weights_for_each_setting_in_its_key(lab: Lab, part: int) -> None:
    found = dead_settings(lab, PROBES["train"], part=part, parts=PARTS)
    assert not found, "\n".join(found)


def test_training_gives_the_same_bits_whatever_is_set_outside_its_key(lab: Lab) -> None:
    found = hidden_settings(lab, PROBES["train"])
    assert not found, "\n".join(found)
