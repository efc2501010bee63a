"""What a step leaves as the end of its pod's log."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline import settings as environment
from boothline.config import RunConfig
from boothline.errors import DataError
from boothline.launch.cluster.pods import own_lines
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, Store
from boothline.store.memory import memory_store

CONFIG = RunConfig().model_dump_json()


def _key(context: StepContext, inputs: StepInputs) -> StepKey:
    return StepKey(config={})


def _refuse(context: StepContext, inputs: StepInputs) -> ManifestDraft:
    raise DataError("The picture 7.png is cut off.", remedy="Copy it again.")


def _break(context: StepContext, inputs: StepInputs) -> ManifestDraft:
    raise RuntimeError("a bug")


@pytest.fixture(autouse=True)
def _pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The environment of a pod of Kubeflow Pipelines, with a store in memory."""
    store = memory_store(tmp_path)
    monkeypatch.setattr(Store, "connect", lambda settings, **_: store)
    monkeypatch.setenv("BOOTHLINE_JOB_ID", "1f6e")
    environment.current.cache_clear()
    yield
    environment.current.cache_clear()


def test_expected_error_ends_the_pod_with_its_message_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Step(name="validate_data", inputs=StepInputs, version=1, key=_key, produce=_refuse)
    with pytest.raises(SystemExit) as ended:
        step.run(run_id="r", config=CONFIG)
    assert ended.value.code == DataError.exit_code
    *before, message, remedy = capsys.readouterr().err.splitlines()
    assert (message, remedy) == ("DataError: The picture 7.png is cut off.", "Copy it again.")
    assert any("Traceback" in line for line in before)


# KFP's executor sets up logging before it loads the step.
EXECUTOR = """
import logging, pathlib, sys
from importlib.machinery import ModuleSpec
logging.basicConfig(level="INFO", format="[KFP Executor %(asctime)s %(levelname)s]: %(message)s")
sys.modules["__main__"].__spec__ = ModuleSpec("kfp.dsl.executor_main", None)
from test_step_in_a_pod import CONFIG, _key, _refuse
from boothline.steps import Step, StepInputs
from boothline.store import Store
from boothline.store.memory import memory_store
store = memory_store(pathlib.Path(sys.argv[1]))
Store.connect = lambda settings, **_: store
step = Step(name="validate_data", inputs=StepInputs, version=1, key=_key, produce=_refuse)
step.run(run_id="r", config=CONFIG)
"""


def test_lines_of_a_step_are_known_by_their_format_where_kfp_has_set_up_logging(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXECUTOR, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "BOOTHLINE_JOB_ID": "1f6e"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == DataError.exit_code, done.stderr
    first, *_ = own_lines(f"I0131 launcher\n{done.stderr}").splitlines()
    assert first.endswith("INFO boothline.progress validate_data started")
    assert "KFP Executor" not in done.stderr


def test_bug_keeps_its_traceback() -> None:
    step = Step(name="validate_data", inputs=StepInputs, version=1, key=_key, produce=_break)
    with pytest.raises(RuntimeError, match="a bug"):
        step.run(run_id="r", config=CONFIG)


def test_error_outside_a_pod_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOTHLINE_JOB_ID")
    environment.current.cache_clear()
    step = Step(name="validate_data", inputs=StepInputs, version=1, key=_key, produce=_refuse)
    with pytest.raises(DataError):
        step.run(run_id="r", config=CONFIG)
