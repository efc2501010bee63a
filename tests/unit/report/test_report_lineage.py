"""The base model in the lineage, and the command that takes the model out."""

from pathlib import Path

from boothline.config import RunConfig
from boothline.registry.versions import ensure_version
from boothline.report.collect import collect
from boothline.results import Model, ModelBase, Training
from boothline.runs import RunRecord, StepRecord, write_run, write_step
from boothline.settings import Settings
from boothline.store.memory import memory_store

RUN = "20260101-000000-abcd"
BASE = "b" * 64


def test_report_shows_the_base_model_above_what_was_made_from_it(tmp_path: Path) -> None:
    store, config = memory_store(tmp_path), RunConfig()
    training = store.commit("steps/train/a", Training(base_model_digest=BASE).draft())
    base = ModelBase(source="/models/sd15", digest=BASE)
    model = Model(model_name=config.model_name, base_model=base)
    ref = store.commit("steps/publish_checkpoint/a", model.draft(inputs=(training,)))
    ensure_version(store, Settings(), model_name=config.model_name, ref=ref)
    plain = config.model_dump(mode="json")
    write_run(store, RunRecord(run_id=RUN, status="done", config=plain, created_at=1.0))
    for step, made in (("train", training), ("publish_checkpoint", ref)):
        record = StepRecord(step=step, status="done", manifest=str(made), started_at=1.0)
        write_step(store, RUN, record)

    report = collect(store, RUN)

    nodes = {node.kind: node for node in report.lineage.nodes}
    assert (nodes["base_model"].digest, nodes["base_model"].uri) == (BASE, "/models/sd15")
    for kind in ("model", "training"):
        assert BASE in [link.digest for link in nodes[kind].inputs]
    assert report.subject.registered == f"{config.model_name}@1"
