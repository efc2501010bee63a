"""What pictures of several subjects are taken for, by features that are known."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boothline.errors import ConflictError
from boothline.evaluation.confusion import confusion_of, nearest_shares, of_several
from boothline.results import Dataset, Evaluation
from boothline.store import ManifestRef, Store
from boothline.store.memory import memory_store

RED, BLUE = (255, 0, 0), (0, 0, 255)


def colours(images: list[Image.Image]) -> np.ndarray:
    """Return a picture's colour as its feature."""
    rows = np.array([image.getpixel((0, 0)) for image in images], dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def evaluated(store: Store, name: str, real, generated, base) -> ManifestRef:
    """Commit an evaluation of pictures that are each of one colour, and its dataset."""
    draft = Dataset().draft({"images/0.png": png(real)})
    dataset = store.commit(f"steps/validate_data/{name}", draft)
    files = {f"images/finetuned/p00-s{n:02d}.png": png(c) for n, c in enumerate(generated)}
    files |= {f"images/base/p00-s{n:02d}.png": png(c) for n, c in enumerate(base)}
    files["images/finetuned-class/000000.png"] = png((1, 1, 1))
    scores = {"score": {"mean": 0.5, "low": 0.4, "high": 0.6}}
    facts = {"metrics": {"finetuned": scores, "base": scores}, "gains": {"base": scores}}
    found = Evaluation.model_validate(facts).draft(files, inputs=(dataset,))
    return store.commit(f"steps/evaluate/{name}", found)


def test_confusion_counts_what_pictures_are_most_like(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    parts = {
        "bear": evaluated(store, "bear", RED, [RED, RED, RED, BLUE], [BLUE, BLUE, BLUE, BLUE]),
        "robot": evaluated(store, "robot", BLUE, [BLUE] * 4, [RED, BLUE, BLUE, BLUE]),
    }
    found = confusion_of(store, parts, encode=colours)
    assert found.subjects == ("bear", "robot")
    assert found.shares["finetuned"] == ((0.75, 0.25), (0.0, 1.0))
    assert found.scores["base"] == ((0.0, 1.0), (0.25, 0.75))
    assert found.confused("finetuned") == pytest.approx(0.125)
    assert found.confused("base") == pytest.approx(0.625)


def test_picture_that_is_as_like_two_subjects_is_shared() -> None:
    likeness = np.array([[0.5, 0.5], [0.9, 0.1]])
    assert nearest_shares(likeness).tolist() == [0.75, 0.25]


def score(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def judged(dino: float, *, champion: str = "") -> Evaluation:
    scores = {"finetuned": {"dino": score(dino), "div": None}}
    return Evaluation.model_validate(
        {"metrics": scores, "gains": {"base": {"dino": dino}}, "champion": champion}
    )


def test_scores_of_several_are_means_without_intervals(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    parts = {"bear": evaluated(store, "bear", RED, [RED], [RED])}
    confusion = confusion_of(store, parts, encode=colours)
    whole = of_several({"a": judged(0.4), "b": judged(0.6)}, confusion=confusion)
    assert whole.means() == {"dino": pytest.approx(0.5)}
    assert whole.scores()["dino"].low is None
    assert whole.metrics["finetuned"]["div"] is None
    assert whole.gained()["dino"].mean == pytest.approx(0.5)


def test_subjects_judged_against_different_champions_are_refused(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    confusion = confusion_of(
        store, {"bear": evaluated(store, "bear", RED, [RED], [RED])}, encode=colours
    )
    with pytest.raises(ConflictError, match="champion changed"):
        of_several({"a": judged(0.4), "b": judged(0.5, champion="x")}, confusion=confusion)
