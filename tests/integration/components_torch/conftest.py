"""What the tests of the torch steps share: a small configuration and a context."""

from collections.abc import Callable
from pathlib import Path

import pytest
from integration.components_torch.mlflow_registry import Registry
from integration.components_torch.workshop import Workshop

from boothline import settings as environment
from boothline.config import RunConfig
from boothline.launch.local.session import Session
from boothline.progress import Progress
from boothline.registry.versions import ModelVersion, ensure_version
from boothline.settings import Settings
from boothline.steps import StepContext
from boothline.store import Store
from boothline.tracking import MemoryTracker

MakeContext = Callable[[RunConfig], StepContext]


@pytest.fixture
def run_config(tiny_pipeline: Path) -> RunConfig:
    """A run on the tiny random model: 32 px, one sampling step, batches of two."""
    sampling = {"num_steps": 1, "batch_size": 2, "seed": 3}
    return RunConfig.model_validate(
        {
            "subject": {"resolution_px": 32, "identifier": "sks", "class_noun": "bear"},
            "base_model": {"source": str(tiny_pipeline)},
            "prior": {"num_images": 5, "num_shards": 2, "sampling": sampling},
            "inference": {"num_shards": 2, "sampling": sampling},
        }
    )


@pytest.fixture
def make_context(store: Store, store_settings: Settings, tmp_path: Path) -> MakeContext:
    """Makes the context of a step, each with a fresh folder, over the test's store."""
    count = 0

    def make(config: RunConfig) -> StepContext:
        nonlocal count
        count += 1
        folder = tmp_path / f"step-{count}"
        folder.mkdir()
        return StepContext(
            run_id="20260101-000000-abcd",
            config=config,
            # With a run folder the shards share the cores: one thread each is fastest here.
            settings=store_settings.model_copy(update={"run_dir": folder}),
            store=store,
            progress=Progress("step", run_dir=folder / "run", min_interval_seconds=0),
            tracker=MemoryTracker(),
            folder=folder,
            manifest_path=f"steps/step/{count}",
        )

    return make


@pytest.fixture
def workshop(store: Store, store_settings: Settings, tiny_pipeline: Path) -> Workshop:
    return Workshop(store, store_settings, tiny_pipeline)


@pytest.fixture
def session(store: Store, store_settings: Settings) -> Session:
    """The test's store as the commands have it."""
    session = Session(home=store_settings.home, environment={})
    session.__dict__.update(store=store, settings=store_settings)
    return session


@pytest.fixture
def publish(
    make_context: MakeContext, run_config: RunConfig, session: Session, workshop: Workshop
) -> Callable[[float], ModelVersion]:
    """Publishes the tiny model with its weights times a number."""
    from boothline.components.publish_checkpoint import step

    def apply(scale: float) -> ModelVersion:
        training = str(workshop.training(scale=scale))
        inputs = step.Inputs(run_id="r", config=run_config.model_dump_json(), training=training)
        draft = step.produce(make_context(run_config), inputs)
        ref = session.store.commit(f"steps/publish_checkpoint/{scale}", draft)
        return ensure_version(session.store, session.settings, model_name="boothline-bear", ref=ref)

    return apply


@pytest.fixture
def registry(
    make_context: Callable[[RunConfig], StepContext],
    run_config: RunConfig,
    store: Store,
    store_settings: Settings,
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Registry:
    settings = store_settings.model_copy(update={"mlflow_uri": mlflow_uri})
    monkeypatch.setattr(environment, "current", lambda: settings)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    return Registry(make_context, run_config, settings, store)
