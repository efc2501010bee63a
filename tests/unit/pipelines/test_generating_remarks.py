"""What is said while pictures are made reaches whoever asked for them, each line once."""

import logging

import pytest

from boothline.launch.generating import _collected

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
