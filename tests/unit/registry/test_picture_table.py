"""The table that a model in MLflow takes: a row for each line, and what is refused."""

import math

import pytest

from boothline.errors import ConfigError, DataError
from boothline.pictures.prompts import PromptRow
from boothline.pictures.table import row_of


def test_row_of_a_line_has_the_settings_of_generate() -> None:
    line = {
        "prompt": "a", "seed": 7, "steps": 20, "guidance": 6.5, "sampler": "euler_a",
        "negative": "blurred", "size": "96x64",
    }  # fmt: skip
    assert row_of(line) == PromptRow(
        prompt="a", seed=7, num_steps=20, guidance_scale=6.5, sampler="euler_a",
        negative_prompt="blurred", width_px=96, height_px=64,
    )  # fmt: skip


def test_row_of_a_line_with_empty_cells_is_that_of_the_prompt_at_seed_0() -> None:
    line = {"prompt": "a", "seed": math.nan, "size": None, "negative": None}
    assert row_of(line) == PromptRow(prompt="a", seed=0)


@pytest.mark.parametrize(
    ("cells", "kind", "said"),
    [
        ({"size": "9x9"}, ConfigError, "The size 9x9 is not a size"),
        ({"step": 5}, ConfigError, "no setting 'step' of a picture"),
        ({"steps": 0}, DataError, "picture's steps cannot be used"),
        ({"seed": 1.5}, DataError, "picture's seed cannot be used"),
    ],
)
def test_row_of_a_line_that_cannot_be_used_names_the_cell(cells, kind, said) -> None:
    with pytest.raises(kind, match=said):
        row_of({"prompt": "a", **cells})
