"""Where a public key is configured, every way of loading a model asks for its signature."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from integration.components_torch.mlflow_registry import Registry
from integration.components_torch.serving import served
from integration.components_torch.workshop import Workshop
from signing_keys import key_pair

import boothline
from boothline import settings as environment
from boothline.components.batch_infer import step as batch_infer
from boothline.config import RunConfig
from boothline.errors import IntegrityError
from boothline.evaluation.contenders import contenders_of
from boothline.launch.local.session import Session
from boothline.launch.serve import Followed
from boothline.registry.versions import ModelVersion
from boothline.settings import Settings
from boothline.steps import StepContext

pytest.importorskip("model_signing", reason="needs the extra signing")

pytestmark = pytest.mark.services


@dataclass(frozen=True)
class Loading:
    """The ways in which a published model is loaded; each returns something of what it loaded."""

    registry: Registry
    settings: Settings
    context: StepContext
    folder: Path

    def generate(self, version: ModelVersion) -> object:
        return self.registry.generated(self.folder).size

    def python(self, version: ModelVersion) -> object:
        return boothline.load_champion(version.name, home=self.settings.home).version == version

    def mlflow(self, version: ModelVersion) -> object:
        return self.registry.loaded().metadata.signature

    def serve(self, version: ModelVersion) -> object:
        session = Session(home=self.settings.home, environment={})
        session.__dict__.update(store=self.registry.store, settings=self.settings)
        with served(Followed(session, version.name, "champion")) as url:
            return url

    def batch_infer(self, version: ModelVersion) -> object:
        inputs = batch_infer.Inputs(run_id="r", config="{}", model=str(version.ref), shard=0)
        return batch_infer.produce(self.context, inputs).files

    def evaluate(self, version: ModelVersion) -> object:
        return contenders_of(self.context, model=version.ref, champion=None)[0].load()


WAYS = ("generate", "python", "mlflow", "serve", "batch_infer", "evaluate")


@pytest.fixture
def loading(
    registry: Registry,
    make_context: Callable[[RunConfig], StepContext],
    run_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Loading:
    """Loads with a public key; what the registry publishes is signed by its private half."""
    private, public = key_pair(tmp_path / "keys")
    verifying = registry.settings.model_copy(update={"verification_key": public})
    monkeypatch.setattr(environment, "current", lambda: verifying)
    registry.settings = registry.settings.model_copy(update={"signing_key": private})
    context = replace(make_context(run_config), settings=verifying)
    return Loading(registry, verifying, context, tmp_path / "pictures")


@pytest.mark.proves("F48/load")
@pytest.mark.parametrize("way", WAYS)
def test_unsigned_model_is_loaded_by_no_way(loading: Loading, workshop: Workshop, way: str) -> None:
    unsigned = loading.registry.settings.model_copy(update={"signing_key": None})
    loading.registry.settings = unsigned
    version = loading.registry.publish(workshop.training())
    loading.registry.promote(version)
    with pytest.raises(IntegrityError, match="is not signed"):
        getattr(loading, way)(version)


@pytest.mark.proves("F48/load")
def test_signed_model_is_loaded_by_every_way(loading: Loading, workshop: Workshop) -> None:
    version = loading.registry.publish(workshop.training())
    loading.registry.promote(version)
    for way in WAYS:
        assert getattr(loading, way)(version), way
