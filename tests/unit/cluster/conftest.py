"""Lets the tests of one process compile each pipeline for each deployment once, and soon."""

import inspect
import sys
from collections.abc import Iterator

import pytest
from kfp_fake import FakePipelines
from kubernetes_fake import served

from boothline.config import RunConfig
from boothline.launch.cluster import runs
from boothline.launch.cluster.deployment import Deployment
from boothline.pipelines.stages import Shape

_whole = runs.compile_for
_COMPILED: dict[tuple[str, str, object], str] = {}


def _once(
    deployment: Deployment, *, pipeline: str = "dreambooth", config: RunConfig | None = None
) -> str:
    """Return what `compile_for` does; it does not depend on the API's address."""
    loops = tuple(Shape.of(config).loops.items())
    key = (pipeline, deployment.model_dump_json(exclude={"kfp"}), loops)
    if key not in _COMPILED:
        _COMPILED[key] = _whole(deployment, pipeline=pipeline, config=config)
    return _COMPILED[key]


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes seconds, and most of these tests are about the API."""
    monkeypatch.setattr(runs, "compile_for", _once)


@pytest.fixture(autouse=True, scope="module")
def callers_without_sources() -> Iterator[None]:
    """KFP asks for its caller's name at every setting of a task.

    Python then looks for the source of every frame in every module that the process has: with the
    libraries of other tests loaded that is half the time of these tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", _callers)
        yield


def _callers(context: int = 1) -> list[tuple[object, ...]]:
    """Return what `inspect.stack` does, without the lines of the sources."""
    callers = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        callers.append((frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return callers


@pytest.fixture
def server() -> Iterator[FakePipelines]:
    """Kubeflow Pipelines over HTTP."""
    fake = FakePipelines()
    with served(fake):
        yield fake
