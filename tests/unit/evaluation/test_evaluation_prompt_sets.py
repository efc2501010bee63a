import pytest
from pydantic import ValidationError

from boothline.config.evaluation import EvaluationConfig
from boothline.errors import DataError
from boothline.evaluation.prompt_sets import LIVE, OBJECT, TINY, templates
from models.build.vocabulary import BACKGROUNDS, plain_caption


def test_templates_by_default_are_the_configured_prompts():
    evaluation = EvaluationConfig(prompts=("a {subject} here",))
    assert templates(evaluation) == ("a {subject} here",)


@pytest.mark.proves("F40/protocol")
@pytest.mark.parametrize(("name", "listed"), [("live", LIVE), ("object", OBJECT), ("tiny", TINY)])
def test_templates_of_a_named_list_are_different_prompts_with_the_subject(name, listed):
    assert templates(EvaluationConfig(prompt_set=name)) == listed
    assert len(listed) == len(set(listed)) == (16 if name == "tiny" else 25)
    assert all(prompt.count("{subject}") == 1 for prompt in listed)


def test_paper_lists_share_places_and_properties_and_differ_in_between():
    assert LIVE[:10] == OBJECT[:10]
    assert LIVE[20:] == OBJECT[20:]
    assert not set(LIVE[10:20]) & set(OBJECT[10:20])
    assert LIVE[0] == "a {subject} in the jungle"
    assert LIVE[11] == "a {subject} wearing a santa hat"
    assert OBJECT[12] == "a {subject} with the Eiffel Tower in the background"
    assert OBJECT[24] == "a cube shaped {subject}"


def test_tiny_list_is_in_the_words_that_the_tiny_base_learnt():
    captions = {plain_caption("bear", background) for background in BACKGROUNDS}
    assert {prompt.format(subject="bear") for prompt in TINY} <= captions


def test_templates_of_a_file_are_its_prompt_column(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,seed\na {subject} in rain,3\na wet {subject},\n")
    evaluation = EvaluationConfig(prompt_set="file", prompts_file=str(path))
    assert templates(evaluation) == ("a {subject} in rain", "a wet {subject}")


def test_templates_of_a_file_without_the_subject_are_refused(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a {subject}\na dog\n")
    evaluation = EvaluationConfig(prompt_set="file", prompts_file=str(path))
    with pytest.raises(DataError, match="'a dog' lacks"):
        templates(evaluation)


@pytest.mark.parametrize("values", [{"prompt_set": "file"}, {"prompts_file": "x.txt"}])
def test_evaluation_config_with_half_of_a_prompt_file_is_refused(values):
    with pytest.raises(ValidationError, match="belong together"):
        EvaluationConfig(**values)
