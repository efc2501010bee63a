"""How long the steps of earlier runs took: from it follows about when a run will end."""

from pathlib import Path

from boothline.catalogue import steps_of
from boothline.launch.local.events import RunProgress
from boothline.launch.local.folder import RunFolder, run_folders
from boothline.progress import read_events

MAX_RUNS = 5


def usual_seconds(home: Path, folder: RunFolder) -> dict[str, float]:
    """Return how long each step took when it was made last, among the newest runs of a home.

    The training's time is that of this run's number of steps.

    Args:
        home: the home folder.
        folder: the run that is to be foreseen; only runs of its pipeline count.
    """
    found: dict[str, float] = {}
    others = [run for run in run_folders(home) if run != folder and run.pipeline == folder.pipeline]
    for run in reversed(others[-MAX_RUNS:]):
        progress = RunProgress([step.name for step in steps_of(run.pipeline)])
        for event in read_events(run.path):
            progress.apply(event)
        for name, step in progress.steps.items():
            if step.state == "done" and not step.reused and name not in found:
                found[name] = step.seconds(0.0)
                if name == "train" and step.total and folder.config_path.exists():
                    wanted = folder.read_config().training.num_steps
                    found[name] *= wanted / step.total
    return found
