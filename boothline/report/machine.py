"""What the report says of the machine that writes it."""

import platform
from importlib import metadata

import boothline

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "kfp",
    "mlflow",
    "numpy",
    "pillow",
)


def environment_facts() -> tuple[tuple[str, str], ...]:
    """Return the versions installed where the report is written; names no host and no path."""
    facts = [
        ("boothline", boothline.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    ]
    for name in PACKAGES:
        try:
            facts.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(facts)
