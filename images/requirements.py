"""Prints the pinned requirements of an image: `requirements.py tools|torch`.

The pins are those of constraints.txt; the set is the closure of pyproject.toml's dependencies, for
torch without what tools has already. The steps talk to MLflow as clients, so the images have
mlflow-skinny in place of MLflow's server.
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# Every step writes to TensorBoard and W&B and sends telemetry where it is asked to; the rest is for
# steps with torch, and for the server.
TOOLS_EXTRAS = ("heif", "observability", "tensorboard", "wandb")
EXTRAS = {
    "tools": TOOLS_EXTRAS,
    "torch": (*TOOLS_EXTRAS, "torch", "gpu", "optimizers", "serve", "signing"),
}
REPLACED = {"mlflow": "mlflow-skinny"}
# Faster downloads from a model hub, which only steps with torch do.
LEFT_OUT = {"tools": frozenset({"hf-xet"}), "torch": frozenset()}


def normal(name: str) -> str:
    """Return the normal form of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """Return name and installed version of the wanted packages and of all they need."""
    environment = {**default_environment(), "extra": ""}
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = REPLACED.get(normal(requirement.name), normal(requirement.name))
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                package = distribution(name)
            except PackageNotFoundError:
                raise SystemExit(f"{name} is not installed: run make setup first.") from None
            found[name] = package.version.partition("+")[0]
            for text in package.requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({**environment, "extra": extra}):
                    wanted.append(needed)
    return found


def pins(image: str) -> set[str]:
    """Return the requirements of an image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = list(project["dependencies"])
    for extra in EXTRAS[image]:
        texts += project["optional-dependencies"][extra]
    found = closure([Requirement(text) for text in texts])
    return {f"{name}=={version}" for name, version in found.items() if name not in LEFT_OUT[image]}


def main(image: str) -> None:
    """Print what an image adds to the one that it is made from."""
    below: set[str] = set() if image == "tools" else pins("tools")
    sys.stdout.write("\n".join(sorted(pins(image) - below)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
