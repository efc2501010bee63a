"""Writes uv.lock: what `pip install -c constraints.txt` installs, for `uv sync`.

Usage: python tests/lock.py [UV], UV being the program. uv takes no file of constraints for a lock,
so they stand in a copy of pyproject.toml while it resolves; a second run keeps the versions.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
READ = ("pyproject.toml", "README.md", "LICENSE", "boothline/__init__.py")
"""What of the checkout says what the package needs."""


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt by name."""
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


def locked() -> dict[str, set[str]]:
    """Return the versions of uv.lock by name; some have one for each platform."""
    packages = tomllib.loads((CHECKOUT / "uv.lock").read_text(encoding="utf-8"))["package"]
    found: dict[str, set[str]] = {}
    for package in packages:
        found.setdefault(package["name"], set()).add(package.get("version", ""))
    return found


def requirements() -> set[tuple[str, str]]:
    """Return name and versions of what pyproject.toml asks for, extras included."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]
    return {(canonicalize_name(each.name), str(each.specifier)) for each in asked}


def locked_requirements() -> set[tuple[str, str]]:
    """Return what uv.lock says that the project asks for."""
    packages = tomllib.loads((CHECKOUT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (own,) = (package for package in packages if package["name"] == "boothline")
    asked = own["metadata"]["requires-dist"]
    return {(each["name"], str(SpecifierSet(each.get("specifier", "")))) for each in asked}


def main(uv: str = "uv") -> None:
    """Write the file."""
    with TemporaryDirectory() as scratch:
        for name in READ:
            target = Path(scratch, name)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(CHECKOUT / name, target)
        project = Path(scratch, "pyproject.toml")
        plain = project.read_text(encoding="utf-8")
        wanted = json.dumps([f"{name}=={version}" for name, version in pins().items()])
        for text in (f"{plain}\n[tool.uv]\nconstraint-dependencies = {wanted}\n", plain):
            project.write_text(text, encoding="utf-8")
            subprocess.run([uv, "lock", "--quiet"], cwd=scratch, check=True)
        shutil.copy2(Path(scratch, "uv.lock"), CHECKOUT / "uv.lock")


if __name__ == "__main__":
    main(*sys.argv[1:])
