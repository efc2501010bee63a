"""The notebook in examples/, executed cell by cell as Jupyter does."""

import base64
import io
import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from boothline.registry.loaded import LoadedModel
from boothline.registry.versions import resolve
from boothline.settings import Settings
from boothline.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.services]

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "examples" / "python.ipynb"


def results(notebook: Any) -> dict[str, Any]:
    """Return what each code cell shows last, by the cell's name."""
    return {
        cell.id: output.data
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    }


@pytest.mark.proves("F66/notebook")
def test_notebook_trains_and_draws_the_champion_with_the_python_functions(
    store_settings: Settings, store: Store, mlflow_uri: str, tmp_path: Path
) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    shutil.copytree(ROOT / "examples" / "subjects" / "teddy-bear", tmp_path / "subjects/teddy-bear")
    settings = store_settings.model_copy(update={"mlflow_uri": mlflow_uri})
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env={**os.environ, **settings.variables(), "PYTHONPATH": str(ROOT)})

    shown = {name: data["text/plain"] for name, data in results(notebook).items()}
    version = resolve(store, "boothline-teddy-bear", "champion")
    assert shown["run"] == "('done', True)"
    assert "'dino'" in shown["scores"]
    assert shown["champion"] == f"(1, '{version.digest}')"
    assert shown["find"] == "'done'"
    champion = LoadedModel.load(store, settings, version)
    (drawn,) = champion.generate("a photo of sks bear on the moon", seed=7, steps=10)
    png = base64.b64decode(results(notebook)["generate"]["image/png"])
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        assert image.tobytes() == drawn.tobytes()
