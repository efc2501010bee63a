"""Parameters that people fill in, and the rest: together they are the configuration again."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boothline.config import RunConfig
from boothline.config.form import FORMS, PRESETS, as_ascii, completed, filled
from boothline.config.loading import SETTINGS
from boothline.errors import ConfigError

NEEDED = {"pictures": "s3://b/dog/", "class_noun": "dog"}


@pytest.mark.parametrize("pipeline", FORMS)
def test_parameters_are_settings(pipeline: str) -> None:
    assert set(FORMS[pipeline].values()) <= SETTINGS.keys()


@given(
    images=st.text(min_size=1, alphabet=st.sampled_from("s3:/{}$ python3/kfp-worü\n'\"")),
    rate=st.floats(min_value=1e-9, max_value=1, exclude_min=True),
    seed=st.integers(0, 2**31 - 1),
    steps=st.integers(1, 10_000),
)
@pytest.mark.parametrize("pipeline", [*FORMS, "sweep"])
@settings(max_examples=60, deadline=None)
def test_filled_form_and_rest_are_the_configuration_again(
    pipeline: str, images: str, rate: float, seed: int, steps: int
) -> None:
    config = RunConfig.model_validate(
        {
            "subject": {"images": images, "class_noun": "mug"},
            "training": {"learning_rate": rate, "num_steps": steps, "seed": seed},
            "inference": {"prompts_file": images, "sampling": {"seed": seed}},
        }
    )
    form = filled(config, pipeline=pipeline)
    assert form.values.keys() <= FORMS.get(pipeline, {}).keys()
    assert not [value for value in form.values.values() if "$" in str(value)]
    # As Kubeflow hands them on: JSON, whole numbers as numbers with a point.
    values = {
        name: float(value) if isinstance(value, int) else value
        for name, value in json.loads(json.dumps(form.values)).items()
    }
    assert completed(as_ascii(form.rest), values, pipeline=pipeline) == config


def test_what_is_not_filled_in_keeps_its_default() -> None:
    empty: dict[str, Any] = {
        "preset": "", "subject": "", "base_model": "", "method": "", "steps": 0,
        "learning_rate": 0.0, "seed": -1,
    }  # fmt: skip
    config = completed("{}", NEEDED | empty, pipeline="dreambooth")
    assert config == RunConfig.model_validate(
        {"subject": {"images": "s3://b/dog/", "class_noun": "dog"}}
    )


def test_seed_of_zero_is_filled_in() -> None:
    values = {"subject": "dog", "seed": 0}
    assert completed("", values, pipeline="batch_inference").inference.sampling.seed == 0
    assert completed("", {"seed": -1}, pipeline="batch_inference").inference.sampling.seed == 1000


@pytest.mark.proves("F54/parameters")
def test_text_overrides_parameters_which_override_the_preset() -> None:
    values = NEEDED | {"preset": "sd15-lora", "steps": 50, "learning_rate": 0.5}
    config = completed("training: {learning_rate: 2e-5}", values, pipeline="dreambooth")
    assert config.training.method == "lora"
    assert config.training.num_steps == 50
    assert config.training.learning_rate == 2e-5


def test_shards_are_those_of_the_pipeline_unless_named() -> None:
    counts = {"prior.num_shards": 1, "inference.num_shards": 1}
    config = completed("inference: {num_shards: 5}", NEEDED, pipeline="dreambooth", shards=counts)
    assert (config.prior.num_shards, config.inference.num_shards) == (1, 5)


@pytest.mark.parametrize(
    ("text", "values", "complaint"),
    [
        ("{}", {}, r"(?s)subject\.images is not set; fill in pictures.*fill in class_noun"),
        ("{}", NEEDED | {"steps": -4}, r"training\.num_steps must .*got -4 \(the parameter steps"),
        ("{}", NEEDED | {"method": "lroa"}, r"the parameter method\)\. Did you mean 'lora'"),
        ("{}", NEEDED | {"preset": "sd16"}, "There is no preset 'sd16'"),
        ("[1]", NEEDED, "The parameter config holds a list instead of settings"),
        ("training: {steps: 1}", NEEDED, r"Unknown setting 'training\.steps' \(the parameter conf"),
        ("training: {", NEEDED, "The parameter config, line 1"),
    ],
)
def test_wrong_form_is_refused_by_the_name_of_its_parameter(
    text: str, values: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        completed(text, values, pipeline="dreambooth")


def test_every_preset_can_be_filled_in() -> None:
    for path in PRESETS.glob("*.yaml"):
        assert completed("", NEEDED | {"preset": path.stem}, pipeline="dreambooth").prior.enabled
