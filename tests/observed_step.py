"""A step that trains for show, for tests of what is observed of steps."""

from boothline.config import RunConfig
from boothline.errors import DataError
from boothline.settings import Settings
from boothline.steps import Step, StepContext, StepInputs, StepKey, execute
from boothline.store import ManifestDraft
from boothline.store.transfers import TRAFFIC

RUN = "20260131-093000-1a2b"
SHARD = 3


class Inputs(StepInputs):
    shard: int = 0


def run_step(name: str = "train", *, run_id: str = RUN, fails: bool = False) -> str:
    """Run a step that logs two steps of a training; returns its manifest."""

    def produce(context: StepContext, inputs: StepInputs) -> ManifestDraft:
        for number, loss in ((1, 0.5), (2, 0.25)):
            values = {"instance_loss": loss, "prior_loss": 0.125, "learning_rate": 1e-4}
            values |= {"grad_norm": 0.5, "images_per_second": 8.0}
            context.tracker.metrics(values, step=number)
        TRAFFIC.add("sent_bytes", 1000)
        if fails:
            raise DataError("The picture 7.png is cut off.", remedy="Copy it again.")
        return ManifestDraft(kind="test", files={})

    step = Step(
        name=name, inputs=Inputs, version=1, key=lambda c, i: StepKey(config={}), produce=produce
    )
    inputs = Inputs(run_id=run_id, config=RunConfig().model_dump_json(), shard=SHARD)
    return execute(step, inputs, settings=Settings())
