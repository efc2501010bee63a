"""Pictures by a registered model: the pipeline batch_inference on a real cluster."""

import io
import json
import urllib.request
from typing import Any

import pytest
from kubernetes_here import Cluster
from PIL import Image

from boothline.results import Images
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking.identity import RUN_TAG, STEP_TAG

pytestmark = pytest.mark.cluster

PROMPTS = "prompt,seed\na {subject} on the beach,\na {subject} in snow,5\n"
MODEL = "boothline-served"


def in_mlflow(cluster: Cluster, run_id: str) -> set[str]:
    """Return the steps of a run of Boothline that MLflow has, an empty text for the run itself."""
    url = f"{cluster.forwards['mlflow'].url}/api/2.0/mlflow"
    headers = {"Content-Type": "application/json", "Host": "localhost:5000"}

    def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  (a port of this machine)
            f"{url}/{path}", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
        return found

    experiments = ask("experiments/search", {"max_results": 100})["experiments"]
    asked = {
        "experiment_ids": [item["experiment_id"] for item in experiments],
        "filter": f"tags.`{RUN_TAG}` = '{run_id}'",
    }
    found = ask("runs/search", asked).get("runs", [])
    return {tags_of(run).get(STEP_TAG, "") for run in found}


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a run in MLflow."""
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def texts_of(cluster: Cluster, manifest: str) -> list[dict[str, str]]:
    """Return the texts of a result's pictures, and check that the result names their model."""
    access, secret = cluster.release.keys("reader")
    settings = Settings(
        s3_endpoint=cluster.forwards["store"].url, s3_access_key=access, s3_secret_key=secret
    )
    store, ref = Store.connect(settings), ManifestRef.parse(manifest)
    entries = [entry for entry in store.read(ref).files if entry.path.startswith("images/")]
    texts = []
    for entry in entries:
        with Image.open(io.BytesIO(store.read_entry(entry))) as picture:
            texts.append(dict(picture.text))  # type: ignore[attr-defined]
    model = store.read_as(Images, ref).model
    assert {text["model"] for text in texts} == {store.read(model).content_digest}
    return texts


def step(run: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (step for step in run["steps"] if step["name"].startswith(name))
    return dict(found)


def test_registered_model_makes_pictures_by_its_alias_and_by_its_number(
    cluster: Cluster, pictures: str, figure: Any
) -> None:
    """`batch_inference` by NAME@champion, prompts from the store; by NAME@1 they are reused"""
    plain = cluster.deployment("batch", trainer=None)
    words = ("--deployment", plain, "--watch")
    trained = cluster.boothline("submit", cluster.configuration("served", pictures), *words)
    assert trained.code == 0, trained.said
    assert MODEL in json.dumps(cluster.boothline("models").printed)
    prompts = PROMPTS.encode()
    cluster.store().put_object("boothline", "data/p.csv", io.BytesIO(prompts), len(prompts))
    config = cluster.configuration(
        "served", pictures, inference__prompts_file="s3://boothline/data/p.csv"
    )
    batch = ("submit", config, "--pipeline", "batch_inference", *words)
    made = cluster.boothline(*batch, "--run-id", "batch-1")
    assert made.code == 0, made.said
    shown = cluster.state("batch-1", plain)
    assert [item["name"] for item in shown["steps"]] == [
        "choose_model", "batch_infer-0", "finish_run",
    ]  # fmt: skip
    assert {item["status"] for item in shown["steps"]} == {"done"}
    texts = texts_of(cluster, step(shown, "batch_infer")["manifest"])
    assert [text["prompt"] for text in texts] == ["a sks bear on the beach", "a sks bear in snow"]
    assert {text["run"] for text in texts} == {"batch-1"}
    assert in_mlflow(cluster, "batch-1") >= {"", "choose_model", "batch_infer"}
    again = cluster.boothline(*batch, "--run-id", "batch-2", "--set", "inference.version=1")
    assert again.code == 0, again.said
    of_first = step(made.printed, "batch_infer")
    of_number = step(again.printed, "batch_infer")
    assert (of_number["status"], of_number["manifest"]) == ("reused", of_first["manifest"])
    took = f"{made.seconds:.0f} s; by number, reused, {again.seconds:.0f} s"
    figure(f"{len(texts)} pictures in {took}")
