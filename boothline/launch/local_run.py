"""The process in which kfp.local runs a pipeline.

`python -m boothline.launch.local_run RUN_DIR [TARGET [LIBRARY ...]]`: the pipeline is the folder's
own without a target; the libraries are loaded while the first steps run.

It runs in a process group of its own. SIGTERM, or the end of its standard input (its parent died),
makes it send SIGTERM to its steps, start no more of them and exit.
"""

import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from boothline import logs
from boothline import settings as environment
from boothline.config import RunConfig
from boothline.launch.compile import pipeline_named
from boothline.launch.local.containers import ContainerLauncher, give_folder, run_arguments
from boothline.launch.local.folder import RunFolder
from boothline.launch.local.processes import StepLauncher
from boothline.pipelines.parameters import arguments
from boothline.warm import STEP_LIBRARIES, warm_process

logger = logging.getLogger(__name__)


def run(folder: RunFolder, target: str, launcher: StepLauncher) -> bool:
    """Run a pipeline by kfp.local and return whether KFP calls it a success.

    Args:
        folder: the run's folder, which holds its configuration.
        target: `<module>:<attribute>` of a pipeline; empty: the folder's own.
        launcher: starts the steps.
    """
    warnings.filterwarnings("ignore", category=RuntimeWarning, message="You may be attemp")
    warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
    from kfp import local

    launcher.install()
    scratch = folder.path / "kfp"
    config = folder.read_config()
    runner = local.SubprocessRunner(use_venv=False)
    if folder.in_containers:
        give_folder(folder.path)
        runner = local.DockerRunner(**run_arguments(folder.path, config, os.environ))
    local.init(
        runner,
        pipeline_root=str(scratch),
        workspace_root=tempfile.mkdtemp(prefix="workspace-"),
        raise_on_error=True,
    )
    pipeline = _pipeline(target) if target else _own_pipeline(folder, config)
    # Only now: two threads that import at the same time would both be late.
    threading.Thread(target=_start_tracking, args=(folder,), daemon=True).start()
    try:
        pipeline(**arguments(folder.run_id, config, pipeline=folder.pipeline))
    except RuntimeError as error:  # what kfp.local raises for every failed task
        logger.error("%s", error)
        return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _pipeline(target: str) -> Callable[..., object]:
    """Return the pipeline that an attribute of a module is."""
    module, _, attribute = target.partition(":")
    pipeline: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    return pipeline


def _own_pipeline(folder: RunFolder, config: RunConfig) -> Callable[..., object]:
    """Return the pipeline of a run folder, for its configuration."""
    from boothline.pipelines.stages import Shape

    return pipeline_named(folder.pipeline, shape=Shape.of(config, guarded=True))


def _stop_with_parent(launcher: StepLauncher) -> None:
    """Stop the run when standard input ends."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    logger.warning("the starting process is gone; stopping")
    launcher.stop()


def _start_tracking(folder: RunFolder) -> None:
    """Open the run's MLflow parent while the first step starts."""
    settings = environment.current()
    if not settings.mlflow_uri:
        return
    from boothline.store import Store
    from boothline.tracking import start_parent

    start_parent(settings, Store.connect(settings), folder.run_id, folder.read_config())


def main(argv: list[str]) -> int:
    """Run the pipeline of a run folder; return 0 when KFP calls it a success, 1 otherwise."""
    folder = RunFolder(Path(argv[0]))
    log_format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logs.configure(environment.current().log_format, run=folder.run_id, text=log_format)
    target, *soon = argv[1:] or [""]
    if folder.in_containers:
        return _run(folder, target, ContainerLauncher(folder.logs, run_id=folder.run_id))
    with warm_process(*STEP_LIBRARIES, soon=soon) as warm:
        return _run(folder, target, StepLauncher(folder.logs, warm=warm))


def _run(folder: RunFolder, target: str, launcher: StepLauncher) -> int:
    """Run a pipeline, and stop it when asked to."""

    def stop(signal_number: int, frame: object) -> None:
        if not launcher.stopping:
            logger.warning("stopping (signal %d)", signal_number)
            launcher.stop()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_stop_with_parent, args=(launcher,), daemon=True).start()
    return 0 if run(folder, target, launcher) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
