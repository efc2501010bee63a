"""Bounds and cross-field checks of the run configuration."""

import pytest
from pydantic import ValidationError

from boothline.config import RunConfig


def test_run_config_default_is_valid_and_frozen() -> None:
    config = RunConfig()
    assert config.subject.phrase == "sks bear"
    with pytest.raises(ValidationError):
        config.subject = config.subject  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("training", {"batch_size": 3, "num_processes": 2}, "multiple of 2"),
        ("subject", {"prompt": "a photo"}, "{subject}"),
        ("subject", {"min_images": 5, "max_images": 4}, "max_images (4)"),
        ("evaluation", {"prompts": ["a photo"]}, "'a photo' lacks {subject}"),
        ("training", {"learning_rate": 2}, "less than or equal to 1"),
        ("training", {"learning_rte": 1e-4}, "Extra inputs"),
        ("training", {"frozen_precision": "bf16", "precision": "bf16"}, "training.method to lora"),
        ("training", {"frozen_precision": "nf4", "method": "lora"}, "training.precision to bf16"),
        ("training", {"shard_frozen": True}, "training.method to lora"),
        (
            "training",
            {
                "shard_frozen": True,
                "method": "lora",
                "precision": "bf16",
                "frozen_precision": "nf4",
            },
            "training.frozen_precision to fp8 or bf16",
        ),
        (
            "training",
            {"shard_frozen": True, "method": "lora", "compile": True},
            "training.compile to false",
        ),
        ("training", {"token_embedding": {"enabled": True}}, "train_text_encoder to false"),
        (
            "training",
            {
                "token_embedding": {"enabled": True},
                "method": "lora",
                "optimizer": "prodigy",
                "learning_rate": 1,
            },
            "token_embedding.learning_rate to 1",
        ),
    ],
)
def test_run_config_bad_section_names_the_remedy(
    section: str, values: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        RunConfig.model_validate({section: values})
    assert words in str(raised.value)


def test_run_config_more_shards_than_class_pictures_is_refused() -> None:
    with pytest.raises(ValidationError, match="num_shards"):
        RunConfig.model_validate({"prior": {"num_images": 2, "num_shards": 3}})


def test_prior_prompts_are_taken_in_turn() -> None:
    prior = RunConfig.model_validate(
        {"prior": {"prompts": ["a {class} in snow", "a {class} on grass"]}}
    ).prior
    assert [prior.prompt_of(i, "bear") for i in range(3)] == [
        "a bear in snow",
        "a bear on grass",
        "a bear in snow",
    ]


@pytest.mark.parametrize(
    ("settings", "num_gpus", "ranks"),
    [
        ({}, 0, 1),
        ({}, 1, 1),
        ({}, 4, 4),
        ({}, 8, 4),  # a batch of four pictures
        ({}, 3, 2),
        ({"batch_size": 6}, 4, 3),
        ({"accumulation": 2}, 4, 2),
        ({"num_processes": 2}, 0, 2),
        ({"num_processes": 1}, 4, 1),
    ],
)
def test_ranks_are_as_many_as_there_are_gpus_that_share_the_batch_evenly(
    settings: dict[str, int], num_gpus: int, ranks: int
) -> None:
    training = RunConfig.model_validate({"training": {"batch_size": 4, **settings}}).training
    assert training.num_ranks(num_gpus=num_gpus) == ranks
