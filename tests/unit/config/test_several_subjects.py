"""Several subjects in a configuration: what holds for each, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.config.fields import PATHS, REQUIRED, named_in
from boothline.config.form import completed
from boothline.config.loading import resolve
from boothline.errors import ConfigError

BEAR = {"name": "bear", "images": "bears", "identifier": "sks", "class_noun": "bear"}
ROBOT = {"name": "robot", "images": "s3://b/robots", "identifier": "zwx", "class_noun": "robot"}


def config_of(*subjects: dict[str, str], **subject: Any) -> RunConfig:
    return resolve([], values={"subject": {"name": "toys", **subject}, "subjects": list(subjects)})


def test_each_subject_has_the_configuration_of_a_run_of_its_own() -> None:
    several = config_of(BEAR, ROBOT, resolution_px=96)
    alone = resolve(
        [],
        values={
            "subject": {
                "name": "toys", "images": "bears", "identifier": "sks", "class_noun": "bear",
                "resolution_px": 96,
            }
        },
    )  # fmt: skip
    assert several.by_subject["bear"] == alone
    assert several.by_subject["robot"].subject.phrase == "zwx robot"
    assert several.model_name == alone.model_name == "boothline-toys"


def test_one_subject_is_the_configuration_itself() -> None:
    config = RunConfig()
    assert config.by_subject == {"": config}


@pytest.mark.parametrize(
    ("subjects", "subject", "message"),
    [
        ([BEAR], {}, "one subject alone"),
        ([BEAR, {**ROBOT, "name": "bear"}], {}, "two have the name 'bear'"),
        ([BEAR, {**ROBOT, "identifier": "sks"}], {}, "two have the identifier 'sks'"),
        ([BEAR, ROBOT], {"name": "subject"}, r"subject\.name must name the model"),
        ([BEAR, ROBOT], {"aspect_buckets": ["64x64", "96x64"]}, "leave the buckets out"),
        ([BEAR, {"name": "robot"}], {}, r"subjects\.1\.images"),
    ],
)
def test_subjects_that_cannot_be_learnt_together_are_refused(subjects, subject, message) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(*subjects, **subject)


def test_pictures_of_each_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "subject: {name: toys}\nsubjects:\n"
        "- {name: bear, images: bears, identifier: sks, class_noun: bear}\n"
        "- {name: robot, images: 's3://b/robots', identifier: zwx, class_noun: robot}\n"
    )
    config = resolve([file], required=REQUIRED)
    assert named_in(config, PATHS) == {
        "subjects.0.images": str(tmp_path / "bears"),
        "subjects.1.images": "s3://b/robots",
    }


def test_form_with_subjects_in_its_text_needs_no_pictures_beside_them() -> None:
    """A pipeline on a cluster takes several subjects in the parameter `config`."""
    text = json.dumps({"subject": {"name": "toys"}, "subjects": [BEAR, ROBOT]})
    config = completed(text, {}, pipeline="dreambooth")
    assert list(config.by_subject) == ["bear", "robot"]
    with pytest.raises(ConfigError, match="fill in pictures"):
        completed("{}", {}, pipeline="dreambooth")
