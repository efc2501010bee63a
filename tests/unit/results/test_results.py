"""What the typed results write is what stores hold, and what older stores hold is read."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from boothline.config.promotion import Metric as ConfiguredMetric
from boothline.errors import DataError
from boothline.measures import GAINED, METRICS, Score
from boothline.results import (
    KINDS,
    CopySigns,
    Dataset,
    Decision,
    Evaluation,
    Leaderboard,
    Model,
    Promotion,
    Result,
    RuleResult,
    Training,
    TrialRow,
    Trigger,
)
from boothline.store import Manifest
from boothline.store.manifest import canonical_json
from boothline.store.memory import memory_store

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6}
ROW = {"trial": 0, "settings": {"training.seed": 1, "training.learning_rate": 1.0}}
STORED = {
    "dataset": '{"class_noun":"bear","identifier":"sks","num_images":4,"num_quarantined":0,'
    '"num_warnings":1,"resolution_px":64}',
    "prior": '{"base_model_digest":"","class_noun":"bear","num_images":0,"series":""}',
    "prior_chunk": '{"first":8,"num_images":8,"series":"ab"}',
    "training": '{"base_model_digest":"ab","chosen_step":3,"final_state":"cd","last_step":4,'
    '"num_parameters_trained":7,"num_steps":4,"world_size":2}',
    "training_state": '{"accumulation":1,"averaged":false,"identity":{"data":"ab"},'
    '"lora":{"alpha":4.0,"rank":4},"method":"lora","networks":["unet"],"step":3,"world_size":1}',
    "training_job": "{}",
    "training_result": "{}",
    "model": '{"base_model":{"digest":"ab","source":"builtin:x"},"class_noun":"bear",'
    '"identifier":"sks","lora":{"rank":4,"targets":["a"]},"method":"lora","model_name":"bear",'
    '"single_file":true,"state":"cd"}',
    "evaluation_images_part": '{"num_images":2,"part":1,"set":"ab"}',
    "evaluation_images": '{"model_digest":"ab","num_images":1,"resolution_px":64,"sampling":'
    '{"guidance_scale":5.0,"seed":0},"shots":[{"index":0,"name":"p00-s00.png","prompt":"a"}]}',
    "evaluation_shard": '{"num_images":0,"num_shards":1,"shard":0}',
    "evaluation": '{"champion":"","copies":{},"div_distance":"LPIPS","gains":{"base":{"dino":'
    '{"high":0.3,"low":0.1,"mean":0.2}}},"images_per_prompt":2,"metrics":{"finetuned":{"dino":'
    '{"high":0.9,"low":0.7,"mean":0.8}}},"prompt_set":"objects","prompts":["a sks bear"],'
    '"real":{}}',
    "leaderboard": '{"best":{"evaluation":"e","model":"m","scores":{"score":1.0},"settings":'
    '{"training.learning_rate":1.0,"training.seed":1},"trial":0},"model_name":"bear","trials":'
    '[{"evaluation":"e","model":"m","scores":{"score":1.0},"settings":{"training.learning_rate":'
    '1.0,"training.seed":1},"trial":0},{"failure":"train: no","scores":{},"settings":'
    '{"prior.enabled":false,"training.seed":null},"trial":1}]}',
    "promotion": '{"champion_before":"","model":"m","model_name":"bear","rules":[{"bound":null,'
    '"name":"finite_scores","passed":true,"text":"All.","value":null}],"verdict":"promoted"}',
    "decision": '{"dataset":"ab","decision":"skip","model_name":"bear","triggers":[{"claimed_by":'
    '"","fired":false,"key":"","name":"new_data","text":"No."}]}',
    "choice": '{"model":"m","model_name":"bear","selector":"champion","version":3}',
    "images": '{"model":"m","num_images":1,"num_shards":1,"shard":0}',
    "base": '{"digest":"ab","family":"SDXL","license":"openrail++","source":"o/m@c"}',
    "images_part": '{"num_images":64}',
    "report": '{"run_id":"r1","status":"refused"}',
}
"""What the first release wrote, of each kind."""


def manifest(kind: str, metadata: dict[str, object]) -> Manifest:
    return Manifest(kind=kind, files=(), inputs=(), metadata=metadata)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_result_writes_byte_for_byte_what_it_was_read_from(kind: type[Result]) -> None:
    stored = STORED[kind.kind]
    found = kind.of(manifest(kind.kind, json.loads(stored)))
    assert canonical_json(found.draft().metadata).decode() == stored
    assert found.draft().kind == kind.kind


def test_kinds_are_all_known() -> None:
    assert sorted(kind.kind for kind in KINDS) == sorted(STORED)


def test_result_writes_only_what_it_was_given() -> None:
    training = Training(num_steps=4, world_size=1)
    assert training.facts() == {"num_steps": 4, "world_size": 1}
    row = TrialRow(trial=1, settings={}, scores={}, failure="train: no")
    board = Leaderboard(model_name="bear", best=row, trials=(row,)).facts()
    assert board["best"] == {"trial": 1, "settings": {}, "scores": {}, "failure": "train: no"}
    assert Evaluation(copies=CopySigns()).facts() == {"copies": {}}


def test_verdict_and_decision_write_their_defaults_too() -> None:
    rule = RuleResult(name="enabled", passed=False, text="Off.")
    trigger = Trigger(name="new_data", fired=False, text="No.")
    assert Promotion(verdict="refused", rules=(rule,)).facts()["rules"] == [
        {"name": "enabled", "passed": False, "value": None, "bound": None, "text": "Off."}
    ]
    assert Decision(decision="skip", triggers=(trigger,)).facts()["triggers"] == [
        {"name": "new_data", "fired": False, "key": "", "claimed_by": "", "text": "No."}
    ]


def test_result_of_a_later_version_is_read_without_what_is_unknown() -> None:
    found = Dataset.of(manifest("dataset", {"num_images": 3, "hue": "red"}))
    assert (found.num_images, found.num_warnings) == (3, 0)


def test_result_of_another_kind_is_refused() -> None:
    with pytest.raises(DataError, match="is of kind 'model', not 'dataset'"):
        Dataset.of(manifest("model", {}))


def test_result_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    ref = store.commit("steps/x/k", Model(model_name="bear").draft())
    assert store.read_as(Model, ref).model_name == "bear"
    broken = manifest("evaluation", {"metrics": {"finetuned": [1]}})
    with pytest.raises(DataError, match=r"metrics\.finetuned"):
        Evaluation.of(broken)


def test_result_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Dataset(num_images=1).num_images = 2


@pytest.mark.parametrize(
    ("written", "mean", "is_finite"),
    [
        (0.5, 0.5, True),
        (1, 1.0, True),
        (INTERVAL, 0.5, True),
        ({"mean": 0.5}, 0.5, True),
        ("nan", math.nan, False),
        (True, math.nan, False),
        (math.inf, math.inf, False),
        ({"mean": [1]}, math.nan, False),
    ],
)
def test_score_is_read_by_one_rule(written: object, mean: float, is_finite: bool) -> None:
    found = Evaluation.model_validate({"metrics": {"finetuned": {"dino": written}}})
    score = found.metrics["finetuned"]["dino"]
    assert score is not None
    assert score.mean == pytest.approx(mean, nan_ok=True)
    assert found.means() == ({"dino": mean} if is_finite else {})


@pytest.mark.parametrize("written", [None, {"mean": None}, {}])
def test_score_of_null_was_not_measured(written: object) -> None:
    found = Evaluation.model_validate({"gains": {"base": {"dino": written}}})
    assert found.gains["base"]["dino"] is None
    assert found.gained() == {}


def test_scores_come_in_the_order_of_the_table_and_unknown_ones_last() -> None:
    scores = {"zeal": 1.0, "pres": 0.1, "beauty": 1.0, "score": 0.5, "dino": 0.8}
    found = Evaluation.model_validate({"metrics": {"finetuned": scores}, "real": {"dino": 0.9}})
    assert list(found.scores()) == ["score", "dino", "pres", "beauty", "zeal"]
    assert found.means("real") == {"dino": 0.9}
    assert next(iter(found.figures())) == ("metrics", "finetuned", "score", 0.5)


def test_score_written_names_every_number() -> None:
    scores = {"dino": INTERVAL, "clip_t": 0.3, "pres": None}
    found = Evaluation.model_validate({"metrics": {"finetuned": scores}})
    assert dict(found.written()) == {
        "metrics.finetuned.dino.mean": 0.5,
        "metrics.finetuned.dino.low": 0.4,
        "metrics.finetuned.dino.high": 0.6,
        "metrics.finetuned.clip_t": 0.3,
        "metrics.finetuned.pres": None,
    }


def test_score_divided_keeps_its_interval() -> None:
    assert Score(mean=0.5, low=0.25).divided(0.5) == Score(mean=1.0, low=0.5, high=None)


def test_metrics_of_the_gate_are_those_of_the_table() -> None:
    assert set(get_args(ConfiguredMetric)) == set(METRICS)


def test_metric_says_title_direction_and_value() -> None:
    assert [metric.title for metric in METRICS.values()] == [
        "Overall score",
        "Subject fidelity (DINO)",
        "Subject fidelity (CLIP-I)",
        "Prompt fidelity (CLIP-T)",
        "Diversity (DIV)",
        "Prior preservation (PRES)",
    ]
    assert METRICS["pres"].explanation.endswith("Lower is better.")
    assert METRICS["dino"].text(0.12345) == "0.123"
    assert "pres" not in GAINED
