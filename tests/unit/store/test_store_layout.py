"""The layout of the store: paths that other releases and other people's scripts rely on."""

import ast
import re
from pathlib import Path

import pytest

from boothline.store import layout

ROOT = Path(__file__).resolve().parents[3]
MLFLOW_ENDPOINT = re.compile("runs/[a-z-]+")
PREFIX = re.compile(
    r"^(blobs|steps|training|trainjobs|priors|evaluations|batches|runs|ledger|registry|retrain"
    r"|signatures|gc|probes)/"
)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (layout.blob("ab12"), "blobs/sha256/ab/ab12"),
        (layout.step_result("train", "k"), "steps/train/k"),
        (layout.training_states("k"), "training/k"),
        (layout.node_files("k"), "trainjobs/k"),
        (layout.chunk("s", first=8, size=4), "priors/s/000008-4"),
        (layout.picture_set("k"), "evaluations/pictures/k"),
        (layout.picture_set_part("k", 3), "evaluations/parts/k/0003"),
        (layout.batch_parts("k"), "batches/k"),
        (layout.run_record("r"), "runs/r/run.json"),
        (layout.step_record("r", "train"), "runs/r/steps/train.json"),
        (layout.mlflow_run("r", "train"), "runs/r/mlflow/train.json"),
        (layout.promotion(7), "ledger/promotions/000007.json"),
        (layout.aliases("m"), "registry/m/aliases.json"),
        (layout.version("m", "d"), "registry/m/d.json"),
        (layout.version_number("m", 2), "registry/m/numbers/000002.json"),
        (layout.claim("m", 1), "retrain/m/000001.json"),
        (layout.signature("d"), "signatures/d.json"),
        (layout.sweep(1), "gc/sweeps/000001.json"),
        (layout.probe("race"), "probes/race"),
    ],
)
def test_places_are_where_they_have_always_been(made: str, expected: str) -> None:
    assert made == expected


def test_places_are_found_again_by_their_patterns() -> None:
    digest = "0" * 64
    found = layout.VERSION.fullmatch(layout.version("m", digest))
    assert found is not None
    assert found["model_name"] == "m"
    assert layout.VERSION.fullmatch(layout.version_number("m", 1)) is None
    promotion, sweep = (
        pattern.fullmatch(place(12))
        for pattern, place in ((layout.PROMOTION, layout.promotion), (layout.SWEEP, layout.sweep))
    )
    assert promotion is not None
    assert sweep is not None
    assert (int(promotion[1]), int(sweep[1])) == (12, 12)
    assert layout.STEP_RECORD.fullmatch(layout.step_record("r", "train-1"))
    assert layout.run_of(layout.step_record("r", "train-1")) == "r"
    assert layout.key_in(layout.step_result("train", "k")) == "k"


def test_no_other_module_spells_a_place_out() -> None:
    spelt = []
    for top in ("boothline", "components", "pipelines"):
        for path in (ROOT / top).rglob("*.py"):
            if path.name == "layout.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = node.value if isinstance(node, ast.Constant) else None
                if not isinstance(text, str) or " " in text or MLFLOW_ENDPOINT.fullmatch(text):
                    continue
                if PREFIX.match(text):
                    spelt.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text}")
    assert spelt == []
