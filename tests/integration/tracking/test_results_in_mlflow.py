"""What MLflow shows at the end of a run is what the store has, whatever arrived before."""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.report.synthetic_run import RUN_ID, SyntheticRun
from PIL import Image, ImageChops, ImageStat

from boothline import settings as environment
from boothline.components.finish_run import step as finish_run
from boothline.facts import TrialRow
from boothline.registry.mirror import Origin
from boothline.registry.versions import ensure_version
from boothline.results import Leaderboard
from boothline.runs import StepRecord, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft, Store, layout
from boothline.tracking import open_step_tracker
from boothline.tracking.client import connect
from boothline.tracking.identity import recorded

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("patient")]

KEY_PARTS = {"step": "train", "config": {"training": {"num_steps": 120}}}
Finish = Callable[..., None]


@pytest.fixture
def run(store: Store, settings: Settings) -> SyntheticRun:
    run = SyntheticRun(store)
    tracking = run.config.tracking.model_copy(update={"experiment": settings.prefix})
    run.config = run.config.model_copy(update={"tracking": tracking})
    return run


@pytest.fixture
def finish(monkeypatch: pytest.MonkeyPatch, settings: Settings, run: SyntheticRun) -> Finish:
    """Ends the run as the exit handler does."""

    def end(**changes: str) -> None:
        monkeypatch.setattr(environment, "current", lambda: settings.model_copy(update=changes))
        finish_run.run(run_id=RUN_ID, config=run.config.model_dump_json())

    return end


class Shown:
    """The MLflow run of a step."""

    def __init__(self, settings: Settings, store: Store, step: str) -> None:
        found = recorded(store, RUN_ID, step)
        assert found is not None
        self._client = connect(settings.mlflow_uri)
        self._run_id = found.mlflow_run_id
        self.run: Any = self._client.get_run(self._run_id)

    def steps(self, metric: str) -> list[int]:
        history = self._client.get_metric_history(self._run_id, metric)
        return sorted(point.step for point in history)

    def files(self, folder: str) -> list[str]:
        return [file.path for file in self._client.list_artifacts(self._run_id, folder)]


def curve(steps: Iterable[int]) -> bytes:
    rows = [{"step": step, "instance_loss": 1 / step, "learning_rate": 1e-4} for step in steps]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def commit_state(store: Store, step: int) -> None:
    path = f"{layout.training_states(layout.key_of(KEY_PARTS))}/step-{step:06d}"
    files = {"curve.jsonl": curve(range(1, step + 1)), f"samples/step-{step:06d}.png": b"png"}
    store.commit(path, ManifestDraft(kind="training_state", files=files))


def test_finish_run_shows_every_result_once_however_often_it_is_called(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    run.complete()
    finish()
    finish()

    train = Shown(settings, store, "train")
    assert train.steps("instance_loss") == list(range(1, 121))
    assert 3 not in train.steps("grad_norm")
    assert len(train.steps("validation_score")) == len(set(train.steps("validation_score"))) > 1
    assert train.files("samples") == [f"samples/step-{s:06}.png" for s in (0, 40, 80, 120)]
    assert train.run.data.metrics["seconds"] == 98.3
    dataset = Shown(settings, store, "validate_data")
    assert dataset.run.data.metrics["dataset/num_quarantined"] == 2
    assert dataset.files("dataset") == ["dataset/report.json"]  # too short to make a page from
    evaluate = Shown(settings, store, "evaluate")
    assert evaluate.steps("metrics/finetuned/dino") == [0]
    assert evaluate.files("evaluation")[0] == "evaluation/prompt-00.png"
    assert len(evaluate.files("evaluation")) == len(run.prompts)
    prior = Shown(settings, store, "generate_prior")
    assert prior.files("prior") == [f"prior/class-images-{n:06}.png" for n in (0, 8)]
    promote = Shown(settings, store, "promote")
    assert promote.run.data.tags["boothline.verdict"] == "promoted"
    model = Shown(settings, store, "publish_checkpoint")
    assert model.run.data.params["model_name"] == run.config.model_name
    parent = Shown(settings, store, "_parent")
    assert parent.run.data.metrics["finetuned/dino"] > 0
    assert parent.files("report") == ["report/report.html"]


def test_finish_run_shows_the_leaderboard_of_a_sweep_once(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    run.complete()
    rows = [
        TrialRow(trial=1, scores={"score": 0.5}),
        TrialRow(trial=0, scores={"score": 0.25}),
        TrialRow(trial=2, failure="train: NaN"),
    ]
    leaderboard = Leaderboard(model_name="m", best=rows[0], trials=tuple(rows))
    ref = store.commit("steps/compare_trials/k", leaderboard.draft({"leaderboard.json": b"[]"}))
    values = {"status": "done", "started_at": 1.0, "manifest": str(ref)}
    write_step(store, RUN_ID, StepRecord.model_validate({"step": "compare_trials", **values}))
    finish()
    finish()

    parent = Shown(settings, store, "_parent")
    assert parent.files("sweep") == ["sweep/leaderboard.json"]
    assert parent.steps("sweep/score") == [0, 1]


def test_finish_run_adds_what_did_not_arrive_while_the_step_worked(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    run.complete()
    rows = store.read_bytes(run.refs["train"], "curve.jsonl").splitlines()
    tracker = open_step_tracker(
        settings, store=store, run_id=RUN_ID, step="train", experiment=settings.prefix
    )
    for row in map(json.loads, rows[:50]):
        values = {"instance_loss": row["instance_loss"], "images_per_second": 3.0}
        tracker.metrics(values, step=row["step"])
    tracker.close("FINISHED")
    finish()
    train = Shown(settings, store, "train")
    assert train.steps("instance_loss") == list(range(1, 121))
    assert train.steps("images_per_second") == list(range(1, 51))


def test_finish_run_after_an_outage_makes_up_for_all_of_it(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    run.complete()
    finish(mlflow_uri="http://127.0.0.1:9")
    assert recorded(store, RUN_ID) is None
    finish()
    assert Shown(settings, store, "train").steps("prior_loss") == list(range(1, 121))


def test_finish_run_of_a_killed_training_shows_its_last_state(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    run.record("running")
    record = StepRecord(step="train", status="running", started_at=run.clock, key_parts=KEY_PARTS)
    write_step(store, RUN_ID, record)
    for step in (10, 20):
        commit_state(store, step)
    finish()
    train = Shown(settings, store, "train")
    assert train.run.info.status == "KILLED"
    assert train.steps("instance_loss") == list(range(1, 21))
    assert train.files("samples") == ["samples/step-000020.png"]
    assert train.run.data.params["training.num_steps"] == "120"


def test_finish_run_shows_the_rest_where_a_result_cannot_be_read(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    run.complete()
    draft = ManifestDraft(kind="evaluation", files={"scores.jsonl": b"{}"}, metadata={})
    run.step("evaluate", draft, seconds=1, shard=1)
    finish()
    assert Shown(settings, store, "evaluate").steps("metrics/finetuned/dino") == [0]
    assert Shown(settings, store, "promote").run.data.tags["boothline.verdict"] == "promoted"


@pytest.mark.proves("F52/shown")
def test_finish_run_puts_the_scores_once_on_the_model_linked_to_run_and_pictures(
    settings: Settings, store: Store, run: SyntheticRun, finish: Finish
) -> None:
    subject = run.config.subject.model_copy(update={"name": settings.prefix})
    run.config = run.config.model_copy(update={"subject": subject})
    run.complete()
    name, ref = run.config.model_name, run.refs["publish_checkpoint"]
    origin = Origin(run_id=RUN_ID, experiment=settings.prefix)
    ensure_version(store, settings, model_name=name, ref=ref, origin=origin)
    finish()
    finish()

    parent = Shown(settings, store, "_parent").run
    client = connect(settings.mlflow_uri)
    (output,) = parent.outputs.model_outputs
    assert client.get_model_version(name, "1").source == f"models:/{output.model_id}"
    model = client.get_logged_model(output.model_id)
    shown = {metric.key: metric for metric in model.metrics}
    assert len(model.metrics) == len(shown)
    (pictures,) = [
        each.dataset
        for each in parent.inputs.dataset_inputs
        if each.dataset.name == "instance pictures"
    ]
    for key in ("finetuned/dino", "base/dino", "gain_over_base/dino"):
        assert shown[key].value == parent.data.metrics[key]
        assert shown[key].run_id == parent.info.run_id
        assert (shown[key].dataset_name, shown[key].dataset_digest) == (
            pictures.name,
            pictures.digest,
        )


@pytest.mark.proves("F52/shown")
def test_finish_run_shows_a_table_with_the_pictures_of_every_model(
    settings: Settings,
    store: Store,
    run: SyntheticRun,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    rows_of = run._score_rows

    def of_both(prompts: Sequence[str]) -> list[dict[str, Any]]:
        rows = [{**row, "dino": 0.7, "clip_t": 0.3} for row in rows_of(prompts)]
        base = {"model": "base", "dino": 0.2, "clip_t": 0.4}
        also = [{**row, **base, "image": row["image"].replace("finetuned", "base")} for row in rows]
        return [*rows, *also]

    monkeypatch.setattr(run, "_score_rows", of_both)
    run.complete()
    finish()
    evaluate = Shown(settings, store, "evaluate")
    (table,) = json.loads(evaluate.run.data.tags["mlflow.loggedArtifacts"])
    assert table == {"path": "evaluation_pictures.json", "type": "table"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_uri)  # load_table asks no other
    client = connect(settings.mlflow_uri)
    experiment = evaluate.run.info.experiment_id
    rows = client.load_table(experiment, table["path"], [evaluate.run.info.run_id])
    columns = ["prompt", "fine-tuned model", "base model", "DINO", "CLIP-T"]
    assert list(rows.columns[:5]) == columns
    assert (rows["DINO"][0], rows["CLIP-T"][0]) == pytest.approx((0.7, 0.3))
    assert len(rows) == len(run.prompts) * run.images_per_prompt
    assert rows["prompt"][0] == run.config.subject.fill(run.prompts[0])
    for column, model in (("fine-tuned model", "finetuned"), ("base model", "base")):
        path = client.download_artifacts(
            evaluate.run.info.run_id, rows[column][0]["compressed_filepath"], str(tmp_path)
        )
        stored = store.read_bytes(run.refs["evaluate"], f"images/{model}/p00-s00.png")
        with Image.open(path, formats=("WEBP",)) as copy, Image.open(io.BytesIO(stored)) as made:
            difference = ImageChops.difference(copy.convert("RGB"), made.convert("RGB"))
            assert max(ImageStat.Stat(difference).mean) < 6
