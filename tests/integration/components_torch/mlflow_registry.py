"""A model of a test's own in a real MLflow, published and loaded as users do."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from boothline.cli.app import app
from boothline.components.publish_checkpoint import step
from boothline.components.publish_checkpoint.step import Inputs
from boothline.config import RunConfig
from boothline.registry.promotion import promote_past_gate, rollback
from boothline.registry.versions import ModelVersion, find
from boothline.settings import Settings
from boothline.steps import StepContext
from boothline.store import ManifestRef, Store

PROMPT = "a photo of sks bear on grass"
LINE = {"prompt": PROMPT, "seed": 7, "steps": 2, "guidance": 3.0, "size": "32x32"}


class Registry:
    """A model of this test's own, published and loaded as users do."""

    def __init__(
        self,
        context: Callable[[RunConfig], StepContext],
        config: RunConfig,
        settings: Settings,
        store: Store,
    ) -> None:
        self.name = f"boothline-{settings.prefix}"
        subject = config.subject.model_copy(update={"name": settings.prefix})
        self.config = config.model_copy(update={"subject": subject})
        self.settings = settings
        self.store = store
        self.client = MlflowClient(settings.mlflow_uri)
        self._context = context

    def publish(self, training: ManifestRef) -> ModelVersion:
        """Publish a training as the step does, and return its version."""
        context = replace(self._context(self.config), settings=self.settings)
        inputs = Inputs(run_id="r", config=self.config.model_dump_json(), training=str(training))
        path = f"steps/publish_checkpoint/{training.digest[:8]}"
        ref = self.store.commit(path, step.produce(context, inputs))
        step.finish(context, inputs, ref)
        version = find(self.store, self.name, ref)
        assert version is not None
        return version

    def promote(self, version: ModelVersion) -> None:
        promote_past_gate(
            self.store, self.settings, self.name, ref=version.ref, reason="r", actor="x"
        )

    def roll_back(self) -> None:
        rollback(self.store, self.settings, self.name, reason="r", actor="x")

    def loaded(self, selector: str = "@champion") -> Any:
        return mlflow.pyfunc.load_model(f"models:/{self.name}{selector}")

    def generated(self, folder: Path) -> np.ndarray:
        """Return the pixels of `boothline generate` with the champion."""
        options = ["--seed", "7", "--steps", "2", "--guidance", "3", "--size", "32x32"]
        done = CliRunner().invoke(
            app,
            ["generate", PROMPT, "--model", self.name, *options, "--output-dir", str(folder)],
            catch_exceptions=False,
        )
        assert done.exit_code == 0
        return pixels((folder / "00000-00.png").read_bytes())


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image)
