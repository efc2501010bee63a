"""The MLmodel of a version: what MLflow loads and shows. The weights stay in the store.

The files are written as MLflow documents them: its own writer needs pandas, which the images of the
steps do not have.
"""

import json
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import yaml

import boothline
from boothline.pictures.table import COLUMNS, EXAMPLE
from boothline.registry.recipes import EMBEDDINGS
from boothline.results import Evaluation, Model, Promotion
from boothline.store import ManifestRef, Store
from boothline.tracking.client import Client, translated
from boothline.tracking.identity import MlflowRun, ensure_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOADER: Final = "boothline.registry.predicting"
PINNED: Final = "pinned.json"
DIGEST_TAG: Final = "boothline.manifest_digest"
_EXAMPLE_FILE: Final = "input_example.json"
_ADAPTERS: Final = "lora/pytorch_lora_weights.safetensors"
_ADAPTER_FOLDER: Final = "adapter_weights"
_HUB_SOURCE: Final = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")


class Version(Protocol):
    """What is shown: a model version of the store."""

    @property
    def name(self) -> str:
        """The registered model."""

    @property
    def version(self) -> int:
        """Its number in the store."""

    @property
    def digest(self) -> str:
        """The sha256 of its manifest."""

    @property
    def ref(self) -> ManifestRef:
        """Its manifest."""


def log_model(
    client: Client,
    store: Store,
    version: Version,
    facts: Model,
    *,
    experiment: str,
    run: MlflowRun | None,
) -> str:
    """Return the id of a version's model in MLflow, made if it is not there.

    Args:
        client: of the tracking server.
        store: has the version.
        version: the version.
        facts: what its manifest says.
        experiment: name of the experiment that shows it, where its run is not known.
        run: the run that made it; None: it is not known.

    Raises:
        TrackingError: MLflow is unreachable, or has no place for models.
    """
    experiment_id = run.experiment_id if run else ensure_experiment(client, experiment)
    with translated(f"take the MLmodel of {version.name}"):
        library = client.library()
        found = library.search_logged_models(
            [experiment_id], filter_string=f"tags.`{DIGEST_TAG}` = '{version.digest}'"
        )
        model_id = (
            found[0].model_id if found else _create(library, version, facts, experiment_id, run)
        )
        with tempfile.TemporaryDirectory(prefix="boothline-mlmodel-") as scratch:
            _write(store, version, facts, model_id=model_id, folder=Path(scratch))
            library.log_model_artifacts(model_id, scratch)
        library.finalize_logged_model(model_id, "READY")
    return model_id


def _create(
    client: "MlflowClient",
    version: Version,
    facts: Model,
    experiment_id: str,
    run: MlflowRun | None,
) -> str:
    """Make the model, as an output of its run, and return its id."""
    from mlflow.entities import LoggedModelOutput

    made = client.create_logged_model(
        experiment_id,
        name=f"{version.name}-v{version.version}",
        source_run_id=run.mlflow_run_id if run else None,
        tags={DIGEST_TAG: version.digest},
        params={"method": facts.method, "base_model": facts.base_model.source},
        model_type="text-to-image",
    )
    if run:
        client.log_outputs(run.mlflow_run_id, models=[LoggedModelOutput(made.model_id, step=0)])
    return str(made.model_id)


def _write(store: Store, version: Version, facts: Model, *, model_id: str, folder: Path) -> None:
    """Write all files of a version's MLmodel, with the adapters that MLflow's own loader takes."""
    for name, text in files(store, version, facts, model_id=model_id).items():
        (folder / name).write_text(text, encoding="utf-8")
    if _has_adapters(store, version, facts):
        store.fetch(version.ref, folder / "fetched", prefix=_ADAPTERS)
        (folder / _ADAPTER_FOLDER).mkdir()
        fetched = folder / "fetched" / _ADAPTERS
        shutil.copyfile(fetched, folder / _ADAPTER_FOLDER / fetched.name)
        shutil.rmtree(folder / "fetched")


def _has_adapters(store: Store, version: Version, facts: Model) -> bool:
    """Return whether a version has adapters as diffusers reads them, and nothing next to them.

    MLflow's flavour loads no learnt tokens.
    """
    manifest = store.read(version.ref)
    is_whole = not manifest.under(EMBEDDINGS)
    return facts.method == "lora" and is_whole and bool(manifest.under(_ADAPTERS))


def _diffusers(facts: Model) -> dict[str, object]:
    """Return the flavour that `mlflow.diffusers` loads: adapters, and the base that they fit."""
    source = facts.base_model.source
    hub = _HUB_SOURCE.fullmatch(source)
    flavour: dict[str, object] = {
        "base_model": hub[1] if hub else source,
        "adapter_type": "lora",
        "adapter_weights": _ADAPTER_FOLDER,
        "code": None,
    }
    return {**flavour, "base_model_revision": hub[2]} if hub else flavour


def files(store: Store, version: Version, facts: Model, *, model_id: str) -> dict[str, str]:
    """Return the files of a version's MLmodel by name."""
    from mlflow import __version__ as mlflow_version

    python = platform.python_version()
    packages = [f"boothline[torch]=={boothline.__version__}", f"mlflow=={mlflow_version}"]
    example = {"prompt": f"a photo of {_subject(facts)}", **EXAMPLE}
    pinned = {
        "version": {
            "name": version.name,
            "version": version.version,
            "digest": version.digest,
            "ref": version.ref.model_dump(mode="json"),
        },
        "store": store.uri,
    }
    python_env = {"python": python, "dependencies": ["-r requirements.txt"]}
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": packages}],
    }
    further = {"diffusers": _diffusers(facts)} if _has_adapters(store, version, facts) else {}
    mlmodel = _mlmodel(python, mlflow_version, model_id=model_id, further=further)
    return {
        "MLmodel": _yaml(mlmodel),
        PINNED: json.dumps(pinned, indent=2),
        _EXAMPLE_FILE: json.dumps({"columns": [*example], "data": [[*example.values()]]}),
        "requirements.txt": "".join(f"{package}\n" for package in packages),
        "python_env.yaml": _yaml(python_env),
        "conda.yaml": _yaml(conda),
    }


def fact_tags(facts: Model, *, base_license: str) -> dict[str, str]:
    """Return the tags that say what a version is; empty values are left out."""
    tags = {
        "subject": _subject(facts),
        "method": facts.method,
        "base_model": facts.base_model.source,
        "base_model_digest": facts.base_model.digest,
        "base_model_license": base_license,
    }
    return {name: text for name, text in tags.items() if text}


def judged_tags(evaluation: Evaluation | None, promotion: Promotion | None) -> dict[str, str]:
    """Return the tags that say how a version was judged, a tag for each score."""
    scores = evaluation.means() if evaluation else {}
    verdict = {"verdict": promotion.verdict} if promotion else {}
    return {**{name: f"{mean:.4f}" for name, mean in scores.items()}, **verdict}


def description(version: Version, tags: Mapping[str, str], *, rules: Iterable[str] = ()) -> str:
    """Return what MLflow's page of a version says, in Markdown.

    Args:
        version: the version.
        tags: its tags.
        rules: what each rule of the gate says.
    """
    licence = tags.get("base_model_license", "")
    paragraphs = [
        f"Draws `{tags.get('subject', '')}`: these words name the subject in a prompt. "
        f"Trained ({tags.get('method', '')}) on {tags.get('base_model', '')}"
        f"{f' (licence: {licence})' if licence else ''}, whose licence holds for this model, too.",
        f"```python\nimport mlflow\n\nmodel = mlflow.pyfunc.load_model("
        f'"models:/{version.name}@champion")\n'
        f'png = model.predict([{{"prompt": "a photo of {tags.get("subject", "")}", "seed": 0}}])[0]'
        f"\n```\n\nThe weights are fetched from Boothline's store and compared with their digests.",
    ]
    if "verdict" in tags:
        paragraphs.insert(0, f"**{tags['verdict']}**\n\n" + "\n".join(f"- {r}" for r in rules))
    return "\n\n".join(paragraphs)


def _subject(facts: Model) -> str:
    return facts.phrases[0]


def _mlmodel(
    python: str, mlflow_version: str, *, model_id: str, further: Mapping[str, object]
) -> dict[str, object]:
    """Return the MLmodel: which module loads it, and the columns that it takes."""
    inputs = [
        {"type": kind, "name": name, "required": name == "prompt"} for name, kind in COLUMNS.items()
    ]
    return {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "data": PINNED,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": python,
            },
            **further,
        },
        "mlflow_version": mlflow_version,
        "model_id": model_id,
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE_FILE,
            "pandas_orient": "split",
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps(inputs),
            "outputs": json.dumps([{"type": "binary", "required": True}]),
            "params": None,
        },
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False)
