"""What a step leaves as the end of its pod's log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline import settings as environment
from boothline.config import RunConfig
from boothline.errors import DataError
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
    monkeypatch.setattr(Store, "connect", lambda settings: store)
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
