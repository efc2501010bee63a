"""What is said while pictures are made reaches whoever asked for them, each line once."""

import logging

import pytest

from boothline.launch.generating import _collected, _next_number, _unnamed
from boothline.pictures.prompts import PromptRow
from boothline.results import Model

SPEAKER = logging.getLogger("boothline.diffusion.prompt_encoding")


def test_remarks_about_prompts_and_pictures_are_collected_once_each(caplog) -> None:
    level = SPEAKER.level
    with _collected() as said:
        for _ in range(2):
            SPEAKER.warning("The prompt %r has %d tokens.", "a photo", 90)
        logging.getLogger("boothline.diffusion.editing").info("photo.png has the colours of P3.")
        logging.getLogger("boothline.diffusion.loading").warning("something else")
    assert list(said.lines) == [
        "The prompt 'a photo' has 90 tokens.",
        "photo.png has the colours of P3.",
    ]
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    assert (SPEAKER.level, SPEAKER.propagate, SPEAKER.handlers) == (level, True, [])


def test_remarks_are_no_longer_collected_after_a_failure() -> None:
    with pytest.raises(ValueError, match="stopped"), _collected():
        raise ValueError("stopped")
    assert (SPEAKER.propagate, SPEAKER.handlers) == (True, [])


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["a photo of SKS fish on grass"], []),
        (["a photo of a fish"], ["the prompt 'a photo of a fish' lacks 'sks fish'"]),
        (["sks cat", "sks fish", "a dog"], ["the prompt 'sks cat' and 1 more lacks 'sks fish'"]),
    ],
)
def test_prompt_without_the_subjects_words_is_warned_of(prompts, said) -> None:
    model = Model(identifier="sks", class_noun="fish")

    found = _unnamed(model, [PromptRow(prompt=prompt) for prompt in prompts])

    assert [line.partition(":")[2].strip().partition(": by")[0] for line in found] == said


def test_pictures_are_numbered_on_from_those_that_are_there(tmp_path) -> None:
    assert _next_number(tmp_path / "none") == 0
    for name in ("00000-00.png", "00007-01.png", "sheet-00009.png", "mine.png"):
        (tmp_path / name).touch()
    assert _next_number(tmp_path) == 10
