import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.launch.compile import compiled, pipeline_named
from boothline.pipelines.parameters import TARGETS, arguments, encode, labels, shards


def config_with(prompt: str) -> RunConfig:
    return RunConfig.model_validate({"evaluation": {"prompts": [prompt + " {subject}"]}})


@given(st.text(alphabet=st.sampled_from("{}$\\\"'python3/kf-worsace é\n\u2028😀"), max_size=60))
@settings(max_examples=200, deadline=None)
def test_encode_any_text_reads_back_equal_and_holds_no_placeholder(prompt):
    config = config_with(prompt)

    text = encode(config)

    assert RunConfig.model_validate_json(text) == config
    assert text.isascii()
    assert "$" not in text
    assert "{{" not in text
    assert "python3" not in text
    assert "/kfp-workspace" not in text


def test_encode_of_plain_text_stays_readable():
    assert '"a photo of a sks bear {subject}"' in encode(config_with("a photo of a sks bear"))


def test_encode_of_huge_configuration_names_what_to_shorten():
    prompts = [f"a photo of a {{subject}} {'x' * 250} {number}" for number in range(300)]
    config = RunConfig.model_validate({"evaluation": {"prompts": prompts}})

    with pytest.raises(ConfigError, match="65536 is the most") as caught:
        encode(config)
    assert "inference.prompts_file" in caught.value.remedy


def test_shards_without_prior_are_one_empty_prior_shard():
    config = RunConfig.model_validate({"prior": {"enabled": False, "num_shards": 4}})

    assert shards(config)["generate_prior"] == [0]


def test_arguments_hold_what_the_pipeline_takes():
    config = RunConfig.model_validate({"training": {"num_steps": 7}, "prior": {"num_shards": 3}})

    values = arguments("20260101-000000-0000", config)

    assert values["run_id"] == "20260101-000000-0000"
    assert values["steps"] == 7
    rest = json.loads(values["config"])
    assert rest["prior"]["num_shards"] == 3
    assert "num_steps" not in rest["training"]


@pytest.mark.parametrize("pipeline", TARGETS)
def test_arguments_are_parameters_of_their_pipeline(pipeline):
    config = RunConfig.model_validate(
        {"sweep": {"trials": [{"training.seed": 1}, {"training.seed": 2}]}}
    )
    spec = yaml.load(compiled(pipeline_named(pipeline)), yaml.CSafeLoader)
    taken = spec["root"]["inputDefinitions"]["parameters"]

    given = arguments("r", config, pipeline=pipeline)

    assert given.keys() <= taken.keys()
    needed = {name for name, about in taken.items() if not about.get("isOptional")}
    assert needed <= given.keys()


@pytest.mark.parametrize(("promoted", "ending"), [(True, ["batch_infer-0"]), (False, [])])
def test_labels_name_inference_only_after_a_promotion(promoted, ending):
    config = RunConfig.model_validate({"prior": {"num_shards": 2}, "inference": {"num_shards": 1}})

    assert labels(config, promoted=promoted) == [
        "validate_data",
        "generate_prior-0",
        "generate_prior-1",
        "train",
        "publish_checkpoint",
        "sample_models-0",
        "evaluate",
        "promote",
        *ending,
        "finish_run",
    ]
