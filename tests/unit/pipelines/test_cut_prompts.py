"""A run says which of its prompts the text encoder cuts off, before anything starts."""

from pathlib import Path

import pytest

from boothline.config import RunConfig
from boothline.launch.local import workflow
from boothline.launch.local.folder import RunFolder
from boothline.launch.validating import cut_prompts

LONG = "a photo of {subject} " + "in the snow " * 40


def config(tmp_path: Path, **sections: object) -> RunConfig:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"x")
    return RunConfig.model_validate({"subject": {"images": str(pictures)}, **sections})


@pytest.mark.parametrize(
    ("section", "setting"),
    [
        ({"evaluation": {"prompts": [LONG, "a {subject}"]}}, "evaluation.prompts"),
        ({"prior": {"prompts": ["a {class} " * 40]}}, "prior.prompts"),
    ],
)
def test_cut_prompts_names_the_setting_and_what_is_left_out(
    tmp_path: Path, section: dict[str, object], setting: str
) -> None:
    (sentence,) = cut_prompts(config(tmp_path, **section), home=tmp_path)
    assert sentence.startswith(f"{setting} has a prompt of ")
    assert "is left out" in sentence


@pytest.mark.parametrize(
    ("section", "more"), [("evaluation", {"prompt_set": "file"}), ("inference", {})]
)
def test_cut_prompts_reads_prompt_files(tmp_path: Path, section: str, more: dict[str, str]) -> None:
    (tmp_path / "prompts.txt").write_text(f"a {{subject}}\n{LONG}\n")
    named = {section: {"prompts_file": str(tmp_path / "prompts.txt"), **more}}
    (sentence,) = cut_prompts(config(tmp_path, **named), home=tmp_path)
    assert sentence.startswith(f"{section}.prompts_file has a prompt of ")


def test_run_says_what_is_cut_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(Exception):
        pass

    class Display:
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)
            if text.startswith("Starting"):
                raise Started

    display = Display()
    folder = RunFolder(tmp_path / "runs" / "20260101-000000-abcd")
    long = config(tmp_path, evaluation={"prompts": [LONG]})
    with pytest.raises(Started):
        workflow.carry_out(tmp_path, folder, long, display=display)
    assert display.said[0].startswith("Warning: evaluation.prompts has a prompt of ")
