"""The images hold every extra that the product advises, in the versions of constraints.txt."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from boothline.doctor.libraries import missing

ROOT = Path(__file__).resolve().parents[3]
# Programs of the command line's machine, which no step starts.
NOT_IN_STEPS = {"local", "serve", "sweep"}


def requirements_module():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("requirements", ROOT / "images/requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REQUIREMENTS = requirements_module()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADVISED = {
    extra
    for path in (ROOT / "boothline").rglob("*.py")
    for extra in re.findall(r"boothline\[([a-z]+)\]", path.read_text())
} | {
    extra
    for extra in re.findall(r'extra="([a-z]+)"', Path(missing.__code__.co_filename).read_text())
}


def test_advice_names_the_extras_of_the_project() -> None:
    assert {"heif", "optimizers", "signing", "tensorboard", "wandb"} <= ADVISED
    assert set(PROJECT["optional-dependencies"]) >= ADVISED


@pytest.mark.parametrize("extra", sorted((ADVISED | {"gpu"}) - NOT_IN_STEPS))
def test_torch_image_holds_an_advised_extra_pinned(extra: str) -> None:
    assert extra in REQUIREMENTS.EXTRAS["torch"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {REQUIREMENTS.normal(line.partition("==")[0]) for line in pins if "==" in line}
    wanted = {
        REQUIREMENTS.normal(Requirement(text).name)
        for text in PROJECT["optional-dependencies"][extra]
    }
    assert wanted <= pinned


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_tools_image_holds_what_every_step_writes_to(extra: str) -> None:
    assert extra in REQUIREMENTS.EXTRAS["tools"]
