"""The chart's values: linted, typed, refused with a reason; the generated pages are not stale."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

CHARTS = Path(__file__).resolve().parents[2] / "charts"
CHART = CHARTS / "boothline"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
BUNDLED = CHART / "ci" / "bundled-values.yaml"


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_lint_is_clean(helm: Any, values: Path) -> None:
    result = helm("lint", "--strict", str(CHART), "-f", str(values))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[WARNING]" not in result.stdout


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("trainer.numNode=2", "additional properties 'numNode' not allowed"),
        ("s3.roles.pipeline.secret=x", "additional properties 'secret' not allowed"),
        ("images.tools.digest=sha256:12", "does not match pattern"),
        ("trainer.numNodes=0", "minimum"),
        ("mlflow.bundled.database.kind=mysql", "value must be one of"),
        ("retraining.cron=0 2 * * *", "does not match pattern"),
        ("trainer.sharedMemory=2GB", "does not match pattern"),
    ],
)
def test_wrong_value_is_refused(helm: Any, setting: str, complaint: str) -> None:
    result = helm("template", "rel", str(CHART), "-f", str(BUNDLED), "--set", setting)
    assert result.returncode != 0
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("s3.roles.pipeline.existingSecret=", "the chart makes up no credentials"),
        ("s3.bundled.enabled=false", "Set s3.endpoint, or s3.bundled.enabled=true"),
        ("s3.bundled.signing.existingSecret=", "Set s3.bundled.signing.existingSecret"),
        ("mlflow.bundled.auth.enabled=true", "Set mlflow.bundled.auth.existingSecret"),
    ],
)
def test_missing_value_is_named(helm: Any, setting: str, complaint: str) -> None:
    result = helm("template", "rel", str(CHART), "-f", str(BUNDLED), "--set", setting)
    assert result.returncode != 0
    assert complaint in result.stderr


def test_generated_pages_are_not_stale() -> None:
    spec = importlib.util.spec_from_file_location("chart_documents", CHARTS / "documents.py")
    assert spec is not None
    assert spec.loader is not None
    documents = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(documents)
    for path, text in documents.documents().items():
        assert path.read_text(encoding="utf-8") == text, "run: python charts/documents.py"
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    undocumented = set(documents.schema_of(documents.yaml.safe_load(values))["properties"]) - {
        path.partition(".")[0] for path in documents.descriptions(values)
    }
    assert undocumented == set()


def test_application_version_is_the_librarys() -> None:
    import yaml

    import boothline

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == boothline.__version__
