"""Bear and robot in one model beside a model of each: subject fidelity and confusion.

All steps run in this process, one rank, on a store in memory: the settings of examples/demo.yaml,
the steps doubled for the model of two. `python -m benchmarks.several_subjects`
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from boothline.config import RunConfig
from boothline.config.loading import resolve
from boothline.results import BASE, FINE_TUNED, Evaluation, Promotion
from boothline.settings import Settings
from boothline.steps import execute
from boothline.store import Store
from boothline.store.memory import memory_store
from boothline.subjects import parts_of
from boothline.training.job import TrainingJob
from boothline.training.launch import TrainingResult, result_of

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "demo.yaml"
SUBJECTS = {"teddy-bear": ("sks", "bear"), "toy-robot": ("zwx", "robot")}
COMMON = (
    "training.num_processes=1",
    "training.sample_every_steps=0",
    "checkpoints.every_steps=1000",
)


def one_rank(job: TrainingJob, *, settings: Settings, on_event: Any) -> TrainingResult:  # noqa: ANN401
    """Train in this process."""
    from boothline.training.ranks import Requests
    from boothline.training.worker import run_rank

    run_rank(job, settings=settings, requests=Requests())
    return result_of(job)


class Bench:
    """Runs pipelines without services.

    Args:
        folder: receives everything.
    """

    def __init__(self, folder: Path) -> None:
        self.store = memory_store(folder / "blobs")
        self._settings = Settings(home=folder / "home")

    def run(self, config: RunConfig, *, run_id: str) -> dict[str, str]:
        """Return the results of the steps up to the verdict, by step."""
        shards = range(config.prior.num_shards)
        text = config.model_dump_json()

        def step(name: str, **inputs: object) -> str:
            sys.stderr.write(f"{run_id}: {name}\n")
            module = import_module(f"boothline.components.{name}.step")
            values = module.Inputs(run_id=run_id, config=text, **inputs)
            return execute(module.STEP, values, settings=self._settings)

        done = {"dataset": step("validate_data")}
        priors = [step("generate_prior", dataset=done["dataset"], shard=n) for n in shards]
        done["training"] = step("train", dataset=done["dataset"], priors=priors)
        done["model"] = step("publish_checkpoint", training=done["training"])
        done["evaluation"] = step(
            "evaluate", model=done["model"], dataset=done["dataset"], priors=priors, samples=[]
        )
        done["promotion"] = step("promote", model=done["model"], evaluation=done["evaluation"])
        return done


def joint(num_steps: int) -> RunConfig:
    """Return the configuration of both subjects in one model."""
    subjects = [
        {
            "name": name,
            "images": str(ROOT / "examples" / "subjects" / name),
            "identifier": identifier,
            "class_noun": noun,
        }
        for name, (identifier, noun) in SUBJECTS.items()
    ]
    return resolve(
        [DEMO],
        (*COMMON, f"training.num_steps={num_steps}"),
        values={"subject": {"name": "bear-and-robot"}, "subjects": subjects},
    )


def alone(config: RunConfig, name: str, num_steps: int) -> RunConfig:
    """Return the configuration of one of the subjects by itself."""
    one = config.by_subject[name]
    training = one.training.model_copy(update={"num_steps": num_steps})
    subject = one.subject.model_copy(update={"name": name})
    return one.model_copy(update={"training": training, "subject": subject})


def figures(bench: Bench, num_steps: int) -> Mapping[str, object]:
    """Return what was measured."""
    both = joint(2 * num_steps)
    done = bench.run(both, run_id="joint")
    store = bench.store
    whole = store.read_as(Evaluation, done["evaluation"])
    found: dict[str, Any] = {"joint": _scores(store, done["evaluation"])}
    assert whole.confusion is not None  # noqa: S101 - it is of several subjects
    found["confusion"] = whole.confusion.model_dump(mode="json")
    found["confused"] = {m: round(whole.confusion.confused(m), 4) for m in (FINE_TUNED, BASE)}
    found["gate"] = [rule.text for rule in store.read_as(Promotion, done["promotion"]).rules]
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.stdout.flush()
    for name in SUBJECTS:
        done = bench.run(alone(both, name, num_steps), run_id=name)
        found[name] = _scores(store, done["evaluation"])
    return found


def _scores(store: Store, evaluation: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean scores of the models by subject."""
    return {
        name: {m: store.read_as(Evaluation, ref).means(m) for m in (FINE_TUNED, BASE)}
        for name, ref in parts_of(store, evaluation).items()
    }


def main() -> None:
    """Measure and print."""
    num_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="boothline-several-") as folder, ExitStack() as stack:
        bench = Bench(Path(folder))
        stack.enter_context(patch("boothline.components.train.step.train", one_rank))
        stack.enter_context(patch.object(Store, "connect", lambda settings: bench.store))
        sys.stdout.write(json.dumps(figures(bench, num_steps), indent=1) + "\n")


if __name__ == "__main__":
    main()
