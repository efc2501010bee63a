"""What stands around the code agrees with it: make targets that are named, and one version."""

import re
from pathlib import Path

import pytest
import yaml

import boothline

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/testing.md", "docs/workflows.md")
TARGET = re.compile(r"\bmake ((?:[a-z][a-z0-9-]*)(?: [a-z][a-z0-9-]+)*)")

workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z0-9-]*):", text, re.MULTILINE))


def unknown(commands: str) -> list[str]:
    """Return the targets of `make` in a text that the Makefile does not have."""
    named = {name for found in TARGET.findall(commands) for name in found.split()}
    return sorted(named - targets())


@pytest.mark.parametrize("path", workflows, ids=lambda path: path.stem)
def test_workflow_runs_targets_that_exist(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    steps = [step for job in jobs for step in job.get("steps", ())]
    assert unknown("\n".join(step.get("run", "") for step in steps)) == []


@pytest.mark.parametrize("name", PAGES)
def test_page_names_targets_that_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
    assert unknown("\n".join(code)) == []


def test_citation_and_chart_have_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    chart = yaml.safe_load((ROOT / "charts/boothline/Chart.yaml").read_text(encoding="utf-8"))
    versions = {citation["version"], chart["version"], chart["appVersion"]}
    assert versions == {boothline.__version__}
