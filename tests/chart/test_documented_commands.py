"""The commands and files of the two cluster pages: options exist, values render, names are real."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from boothline.cli.app import app
from boothline.launch.cluster.deployment import Deployment

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "boothline"
PAGES = ("kubernetes", "operations")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RESOURCE = re.compile(r"\b(deployment|statefulset|configmap)[/ ](boothline[\w-]*)")
every_page = pytest.mark.parametrize("page", PAGES)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [body for found, body in BLOCK.findall(text) if found == language]


def command_lines(page: str) -> Iterator[list[str]]:
    """Yield the words of every `boothline` command of a page, in blocks and in running text."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += re.findall(r"`(boothline [a-z][^`]*)`", text)
    for line in lines:
        if line.startswith("boothline "):
            yield shlex.split(line.partition("  #")[0])[1:]


@every_page
def test_commands_have_the_options_that_are_shown(page: str) -> None:
    found = 0
    for words in command_lines(page):
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):  # a group: the next word is one of its commands
            name, *words = words
            assert name in command.commands, name
            command = command.commands[name]
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("-"):
                assert word in options, (name, word)
        found += 1
    assert found >= 3


def shown_values() -> list[dict[str, Any]]:
    """Return the values files of the page, the first one below each of the others."""
    texts = [text for text in blocks("kubernetes", "yaml") if text.startswith("# values.yaml")]
    texts = [text.replace('"sha256:..."', f'"sha256:{"1" * 64}"') for text in texts]
    first, *further = map(yaml.safe_load, texts)
    return [first, *({**first, **values} for values in further)]


@pytest.mark.parametrize("number", range(len(shown_values())))
def test_shown_values_render(helm: Any, tmp_path: Path, number: int) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(shown_values()[number]))
    result = helm("lint", "--strict", str(CHART), "-f", str(path))
    assert result.returncode == 0, result.stdout
    result = helm(
        *("template", "boothline", str(CHART), "-n", "imaging", "-f", str(path)),
        *("--api-versions", "trainer.kubeflow.org/v1alpha1"),
    )
    assert result.returncode == 0, result.stderr
    objects = [item for item in yaml.safe_load_all(result.stdout) if item]
    names = {(item["kind"].lower(), item["metadata"]["name"]) for item in objects}
    for page in PAGES:
        named = set(RESOURCE.findall("\n".join(blocks(page, "bash"))))
        assert named
        assert named <= names, page


def test_shown_deployment_settings_fit_those_of_the_chart(helm: Any, tmp_path: Path) -> None:
    (shown,) = [text for text in blocks("kubernetes", "yaml") if text.startswith("images:")]
    path = tmp_path / "values.yaml"
    values = shown_values()[0]
    values["pipelines"]["deployment"] = yaml.safe_load(shown)
    path.write_text(yaml.safe_dump(values))
    template = ("--show-only", "templates/settings.yaml")
    result = helm("template", "boothline", str(CHART), "-n", "imaging", "-f", str(path), *template)
    assert result.returncode == 0, result.stderr
    maps = [item["data"] for item in yaml.safe_load_all(result.stdout) if item]
    (text,) = [data["deployment.yaml"] for data in maps if "deployment.yaml" in data]
    deployment = Deployment.from_text(text, source="docs/kubernetes.md")
    assert deployment.placement("train").gpu is not None
    assert deployment.images.require_digests
