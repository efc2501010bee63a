"""Writes the software bill of materials (CycloneDX) of this Python environment: OUTPUT_FILE."""

import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any


def component(distribution: importlib.metadata.Distribution) -> dict[str, Any]:
    """Return what is known of an installed package."""
    name, version = distribution.metadata["Name"], distribution.version
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    entry = {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
    if declared := distribution.metadata.get("License-Expression"):
        return {**entry, "licenses": [{"expression": declared}]}
    return entry


def bill() -> dict[str, Any]:
    """Return the bill of materials, without a clock time: equal environments give equal files."""
    found = {item.metadata["Name"].lower(): item for item in importlib.metadata.distributions()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": "boothline",
                "version": found["boothline"].version,
                "properties": [{"name": "python", "value": platform.python_version()}],
            }
        },
        "components": [component(found[name]) for name in sorted(found)],
    }


if __name__ == "__main__":
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
