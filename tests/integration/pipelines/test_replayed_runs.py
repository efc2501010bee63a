"""A run of which every result stands is carried out without a process for each step."""

import importlib.util
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from command_files import write_pictures

from boothline import reusing
from boothline.config import RunConfig
from boothline.config.form import encode
from boothline.launch.local.events import RunProgress
from boothline.launch.local.folder import RunFolder
from boothline.launch.local.replay import replay
from boothline.launch.local.runner import Outcome
from boothline.launch.local.session import Session
from boothline.reusing import REUSED, reuse_rest
from boothline.runs import open_run, read_run, read_steps
from boothline.settings import Settings
from boothline.steps import execute

pytestmark = pytest.mark.services
STUBS = Path(__file__).parent / "stub_steps"
FIRST, SECOND = "20260101-000000-0000", "20260102-000000-0000"


class SilentDisplay:
    """Keeps the last that was shown."""

    shown: RunProgress | None = None

    def show(self, progress: RunProgress) -> None:
        self.shown = progress

    def say(self, text: str) -> None:
        raise AssertionError(text)


def stub_of(name: str) -> ModuleType:
    """The module of a step: a stub that costs nothing where there is one."""
    file = STUBS / f"stub_{name.split('.')[2]}.py"
    if not file.exists():
        return import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def session(store_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(reusing, "import_module", stub_of)
    environment = {
        "BOOTHLINE_S3_ENDPOINT": store_settings.s3_endpoint,
        "BOOTHLINE_S3_ACCESS_KEY": store_settings.s3_access_key,
        "BOOTHLINE_S3_SECRET_KEY": store_settings.s3_secret_key.get_secret_value(),
        "BOOTHLINE_BUCKET": store_settings.bucket,
        "BOOTHLINE_PREFIX": store_settings.prefix,
        "BOOTHLINE_HOME": str(store_settings.home),
    }
    return Session(home=store_settings.home, environment=environment)


@pytest.fixture
def config(tmp_path: Path, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.chdir(tmp_path)
    write_pictures("pictures", 3)
    subject = {"name": "looped", "images": str(tmp_path / "pictures"), "class_noun": "bear"}
    settings = {
        "subject": {**subject, "resolution_px": 32},
        "base_model": {"source": str(tiny_pipeline)},
        "prior": {"num_images": 2, "num_shards": 1},
        "training": {"num_steps": 5, "learning_rate": 2e-4},
    }
    return RunConfig.model_validate(settings)


@pytest.fixture
def carry_out(session: Session) -> Callable[..., Outcome | None]:
    """Carry out a run of its own folder."""

    def run(run_id: str, config: RunConfig, display: SilentDisplay | None = None) -> Outcome | None:
        folder = RunFolder(session.home / "runs" / run_id)
        folder.write_config(config)
        open_run(session.store, run_id, config, pipeline="dreambooth")
        return replay(session, folder, config, display=display or SilentDisplay())

    return run


@pytest.fixture
def made(
    carry_out: Callable[..., Outcome | None], config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run, whose steps are made."""
    with monkeypatch.context() as patched:
        patched.setattr(reusing, "reuse", execute)
        assert carry_out(FIRST, config)


def labels(session: Session, run_id: str, *, reused: bool) -> list[str]:
    return sorted(one.label for one in read_steps(session.store, run_id) if one.reused is reused)


@pytest.mark.usefixtures("made")
def test_replay_of_a_run_that_stands_reuses_every_step_and_starts_no_process(
    session: Session, config: RunConfig, carry_out: Callable[..., Outcome | None]
) -> None:
    display, before = SilentDisplay(), psutil.Process().children(recursive=True)
    outcome = carry_out(SECOND, config, display)

    assert outcome is not None
    assert (outcome.succeeded, outcome.interrupted) == (True, False)
    assert labels(session, SECOND, reused=False) == ["finish_run"]
    first = [label for label in labels(session, FIRST, reused=False) if label != "finish_run"]
    assert labels(session, SECOND, reused=True) == first
    assert {"batch_infer-0", "generate_prior-0", "train"} < set(first)
    assert display.shown is outcome.progress
    assert all(step.state == "done" for step in outcome.progress.steps.values())
    run = read_run(session.store, SECOND)
    assert run is not None
    assert run.status == "done"
    folder = session.home / "runs" / SECOND
    assert "train done" in (folder / "logs" / "train.log").read_text()
    assert (folder / "report.html").exists()
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.usefixtures("made")
def test_replay_of_a_pipeline_that_asks_what_else_stands_is_left_to_the_launcher(
    session: Session, config: RunConfig
) -> None:
    folder = RunFolder(session.home / "runs" / SECOND)
    folder.write_config(config, pipeline="retrain")
    assert replay(session, folder, config, display=SilentDisplay()) is None


@pytest.mark.usefixtures("made")
def test_replay_with_a_step_to_be_made_leaves_the_run_to_the_launcher(
    session: Session, config: RunConfig, carry_out: Callable[..., Outcome | None]
) -> None:
    training = config.training.model_copy(update={"learning_rate": 3e-4})
    display = SilentDisplay()
    outcome = carry_out(SECOND, config.model_copy(update={"training": training}), display)

    assert outcome is None
    assert display.shown is None
    assert "train" not in labels(session, SECOND, reused=False)
    assert not (session.home / "runs" / SECOND / "events" / "train.jsonl").exists()


def test_replay_that_is_interrupted_says_so(
    config: RunConfig, carry_out: Callable[..., Outcome | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reusing, "reuse", interrupted)
    outcome = carry_out(SECOND, config)

    assert outcome is not None
    assert (outcome.succeeded, outcome.interrupted) == (False, True)


def test_replay_that_fails_leaves_the_run_to_the_launcher(
    config: RunConfig, carry_out: Callable[..., Outcome | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object, **options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(reusing, "reuse", failing)
    assert carry_out(SECOND, config) is None


@pytest.fixture
def rest_of(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Reuse what comes after the class pictures of a run, as their pod does."""

    def rest(config: RunConfig, *, pipeline: str = "dreambooth", gpus: int | None = 0) -> str:
        here = session.settings.model_copy(update={"train_gpus": gpus})
        monkeypatch.setattr(reusing.environment, "current", lambda: here)
        open_run(session.store, SECOND, config, pipeline=pipeline)
        known = {one.step: one.manifest for one in read_steps(session.store, FIRST)}
        results = {name: known[name] for name in ("validate_data", "generate_prior")}
        return reuse_rest(SECOND, encode(config), results=results)

    return rest


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("pipeline", ["dreambooth", "retrain"])
def test_pod_of_the_class_pictures_reuses_the_rest_of_a_run_that_stands(
    session: Session, config: RunConfig, rest_of: Callable[..., str], pipeline: str
) -> None:
    assert rest_of(config, pipeline=pipeline) == REUSED
    first = {one.label: one.manifest for one in read_steps(session.store, FIRST)}
    begun = ("validate_data", "generate_prior-0", "finish_run")
    reused = {one.label: one.manifest for one in read_steps(session.store, SECOND) if one.reused}
    assert reused == {label: ref for label, ref in first.items() if label not in begun}


@pytest.mark.usefixtures("made")
def test_rest_is_left_to_kubeflow_where_a_step_is_to_be_made_or_the_ranks_are_not_known(
    session: Session, config: RunConfig, rest_of: Callable[..., str]
) -> None:
    assert rest_of(config, gpus=None) == ""
    inference = config.inference.model_copy(update={"num_shards": 3})
    assert not labels(session, SECOND, reused=True)
    assert rest_of(config.model_copy(update={"inference": inference})) == ""
    assert "train" in labels(session, SECOND, reused=True)
    assert "batch_infer-2" not in labels(session, SECOND, reused=True)


@pytest.mark.usefixtures("made")
def test_rest_of_a_sweep_is_left_to_its_trials(
    session: Session, config: RunConfig, rest_of: Callable[..., str]
) -> None:
    assert rest_of(config, pipeline="sweep") == ""
    assert not labels(session, SECOND, reused=True)


@pytest.mark.usefixtures("made")
def test_rest_is_left_to_kubeflow_where_looking_for_it_fails(
    config: RunConfig, rest_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object, **options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(reusing, "reuse", failing)
    assert rest_of(config) == ""
