"""Pages and pictures of the site that are made from the product."""

import re

import typer
import yaml

from boothline import catalogue
from boothline.cli.app import app
from website import badges, commands, diagram
from website.links import DOCS, ROOT


def test_page_of_commands_has_every_command_once_and_every_option() -> None:
    page = commands.page()
    named = re.findall(r"^#{3,} boothline (.+)$", page, re.MULTILINE)
    known = typer.main.get_command(app).commands
    wanted = [name for name, command in known.items() if not command.hidden]
    inner = [f"{name} {one}" for name in wanted for one in getattr(known[name], "commands", {})]
    assert sorted(named) == sorted([*wanted, *inner])
    section = page.partition("### boothline export\n")[2].partition("\n### ")[0]
    assert "| `MODEL[@VERSION] <str>` |" in section
    assert "| `--format <diffusers\\|single-file\\|lora\\|comfyui>` |" in section
    assert "--help" not in section


def test_diagram_is_fresh_and_shows_every_step_of_the_pipeline() -> None:
    source = diagram.read()
    assert diagram.PICTURE.read_text(encoding="utf-8") == diagram.drawing(source), "run `make docs`"
    shown = [box["name"] for box in source["boxes"] if box["kind"] != "given"]
    steps = [step.name for step in catalogue.steps() if "dreambooth" in step.pipelines]
    assert sorted(shown) == sorted(steps)


def test_every_page_of_docs_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = yaml.safe_load(text.partition("\nnav:\n")[2])
    listed = set(re.findall(r"[\w/]+\.md", str(navigation)))
    assert {path.name for path in DOCS.glob("*.md")} <= listed


def test_badges_are_fresh_and_say_what_the_repository_says() -> None:
    made = badges.badges()
    for name, text in made.items():
        assert (badges.FOLDER / name).read_text(encoding="utf-8") == text, "run `make docs`"
    assert ">3.11+</text>" in made["python.svg"]
    assert ">Apache-2.0</text>" in made["licence.svg"]
    assert re.search(r">\d+ of \d+ proven, \d+ partly</text>", made["features.svg"])
