"""Writes the chart's README.md and values.schema.json from values.yaml."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "boothline"

# Objects whose keys are the user's or Kubernetes' own.
FREE = {
    "commonLabels",
    "nodeSelector",
    "affinity",
    "annotations",
    "resources",
    "deployment",
    "config",
    "hard",
    "labels",
}
QUANTITY = {"pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
CIDRS = {"items": {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"}}
PORT = {"minimum": 1, "maximum": 65535}
# What a type does not say, by the last one or two parts of a value's path.
RULES: dict[str, dict[str, Any]] = {
    "digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "s3.endpoint": {"pattern": "^(https?://[^/]+)?$"},
    "s3.bucket": {"pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"},
    "mlflow.uri": {"pattern": "^(https?://.+)?$"},
    "database.kind": {"enum": ["sqlite", "postgres"]},
    "persistence.size": QUANTITY,
    "trainer.sharedMemory": QUANTITY,
    "trainer.scratch": QUANTITY,
    "trainer.numNodes": {"minimum": 1},
    "trainer.processesPerNode": {"minimum": 1},
    "trainer.deadlineSeconds": {"minimum": 60},
    "trainer.gpusPerNode": {"type": ["integer", "null"], "minimum": 0},
    "trainer.maxRestarts": {"minimum": 0},
    "hooks.deadlineSeconds": {"minimum": 1},
    "serve.alias": {"pattern": "^(champion|challenger|[1-9][0-9]*)$"},
    "serve.queue": {"minimum": 1},
    "serve.replicas": {"minimum": 0},
    "serve.scratch": QUANTITY,
    "serve.startupSeconds": {"minimum": 10},
    "autoscaling.minReplicas": {"minimum": 1},
    "autoscaling.maxReplicas": {"minimum": 1},
    "autoscaling.targetCPUUtilization": {"minimum": 1},
    "disruptionBudget.maxUnavailable": {"minimum": 1},
    "monitoring.logFormat": {"enum": ["text", "json"]},
    "otlp.endpoint": {"pattern": "^(https?://.+)?$"},
    "otlp.port": PORT,
    "serviceMonitor.interval": {"pattern": "^[0-9]+(ms|s|m|h)$"},
    "retraining.cron": {"pattern": r"^\S+( \S+){5}$"},
    "retraining.pipeline": {"minLength": 1},
    "pipelines.host": {"pattern": "^https?://.+$"},
    "pipelines.serviceAccount": {"minLength": 1},
    "pipelines.ports": {"items": {"type": "integer", **PORT}},
    "pipelines.connections": {
        "items": {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?:[0-9]{1,5}$"}
    },
    "networkPolicy.dnsCidrs": CIDRS,
    "networkPolicy.dnsPorts": {"items": {"type": "integer", **PORT}, "minItems": 1},
    "networkPolicy.s3Cidrs": CIDRS,
    "networkPolicy.mlflowCidrs": CIDRS,
    "networkPolicy.apiServerCidrs": CIDRS,
    "database.cidrs": CIDRS,
    "database.port": PORT,
    "networkPolicy.s3Port": PORT,
    "networkPolicy.mlflowPort": PORT,
    "networkPolicy.apiServerPort": PORT,
    "images.pullSecrets": {"items": {"type": "string", "minLength": 1}},
}
TYPES = {
    bool: "boolean", int: "integer", str: "string", list: "array", dict: "object",
    type(None): "null",
}  # fmt: skip


def schema_of(
    value: object, path: tuple[str, ...] = (), texts: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return the JSON schema of a value: its default's type, and no unknown keys."""
    schema: dict[str, Any] = {"type": TYPES[type(value)]}
    if text := (texts or {}).get(".".join(path)):
        schema["description"] = text
    if isinstance(value, dict) and not (path and path[-1] in FREE):
        schema["additionalProperties"] = False
        schema["properties"] = {
            key: schema_of(item, (*path, key), texts) for key, item in value.items()
        }
    for name in (".".join(path[-1:]), ".".join(path[-2:])):
        schema |= RULES.get(name, {})
    return schema


def descriptions(text: str) -> dict[str, str]:
    """Return the meaning of each documented value by its dotted path."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    meaning = ""
    for line in text.splitlines():
        if match := re.match(r"\s*# -- (.*)", line):
            meaning = match[1]
        elif match := re.match(r"(\s*)([\w-]+):", line):
            indent = len(match[1])
            parents = [parent for parent in parents if parent[0] < indent]
            parents.append((indent, match[2]))
            if meaning:
                found[".".join(name for _, name in parents)] = meaning
            meaning = ""
    return found


def default_of(values: dict[str, Any], path: str) -> str:
    """Return a default as it is shown in the table."""
    value: object = values
    for key in path.split("."):
        value = value[key] if isinstance(value, dict) else None
    return f"`{json.dumps(value)}`"


def documents() -> dict[Path, str]:
    """Return the generated files and their content."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values, meanings = yaml.safe_load(text), descriptions(text)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    rows = [f"| `{path}` | {default_of(values, path)} | {meanings[path]} |" for path in meanings]
    readme = [
        f"# {chart['name']} {chart['version']}",
        "",
        f"{chart['description']}. Generated by `python charts/documents.py`; "
        "how to use it: [docs/kubernetes.md](../../docs/kubernetes.md).",
        "",
        "| value | default | meaning |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]
    # `global` is what Helm itself adds when the chart is a dependency of another.
    schema = schema_of({**values, "global": {}}, (), meanings)
    schema["properties"]["global"] = {"type": "object"}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    return {
        CHART / "README.md": "\n".join(readme),
        CHART / "values.schema.json": json.dumps(schema, indent=2) + "\n",
    }


def main() -> int:
    """Write the files."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
