"""A run says which of its prompts the text encoder cuts off, before anything starts."""

import json
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


@pytest.mark.proves("F71/prompts")
@pytest.mark.parametrize(
    ("section", "setting"),
    [
        ({"evaluation": {"prompts": [LONG, "a {subject}"]}}, "evaluation.prompts"),
        ({"prior": {"prompts": ["a {class} " * 40]}}, "prior.prompts"),
        ({"prior": {"prompt": "a {class} " * 29}}, "prior.prompt"),
        (
            {"prior": {"sampling": {"negative_prompt": "a , . " * 49}}},
            "prior.sampling.negative_prompt",
        ),
        (
            {"evaluation": {"sampling": {"negative_prompt": "a , . " * 49}}},
            "evaluation.sampling.negative_prompt",
        ),
        (
            {"inference": {"sampling": {"negative_prompt": "a , . " * 49}}},
            "inference.sampling.negative_prompt",
        ),
        ({"training": {"caption_templates": [LONG]}}, "training.caption_templates"),
        (
            {"training": {"caption_templates": ["{caption} " + "in the snow " * 40]}},
            "training.caption_templates",
        ),
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


def test_cut_prompts_reads_the_negative_prompts_of_a_file(tmp_path: Path) -> None:
    row = {"prompt": "a {subject}", "negative_prompt": "blurred , " * 60}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row))
    named = {"inference": {"prompts_file": str(tmp_path / "prompts.jsonl")}}
    (sentence,) = cut_prompts(config(tmp_path, **named), home=tmp_path)
    assert sentence.startswith("inference.prompts_file (negative_prompt) has a prompt of ")


def test_cut_prompts_of_a_long_file_names_some_and_counts_the_rest(tmp_path: Path) -> None:
    lines = "".join(f"{LONG} number {number}\n" for number in range(30))
    (tmp_path / "prompts.txt").write_text(lines)
    named = {"inference": {"prompts_file": str(tmp_path / "prompts.txt")}}
    sentences = cut_prompts(config(tmp_path, **named), home=tmp_path)
    assert len(sentences) == 6
    assert sentences[-1].startswith("inference.prompts_file has 25 more texts that are cut off")


def test_cut_prompts_short_ones_are_no_matter(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a {subject} in snow\n")
    sections = {
        "training": {"caption_templates": ["{caption} in snow"]},
        "inference": {"prompts_file": str(tmp_path / "prompts.txt")},
    }
    assert cut_prompts(config(tmp_path, **sections), home=tmp_path) == []


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
