"""From a picture's text back to the instance pictures, on a real store."""

import hashlib
import io
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

from boothline.cli.summaries import say_lineage
from boothline.errors import DataError
from boothline.launch.lineage import trace
from boothline.registry.versions import ensure_version
from boothline.runs import StepRecord, write_step
from boothline.store import ManifestDraft

pytestmark = pytest.mark.services
RUN = "20260101-000000-0000"


def png(path, **text: str) -> bytes:
    info = PngInfo()
    for name, value in text.items():
        info.add_text(name, value)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(path, pnginfo=info)
    return path.read_bytes()


@pytest.fixture
def made(store, store_settings, tmp_path):
    """A dataset, a prior, a training, a registered model, and a picture of a batch."""
    captions = [{"image": "images/000.png", "caption": "a photo of sks bear", "source": "one.jpg"}]
    dataset = store.commit(
        "steps/validate_data/d",
        ManifestDraft(
            kind="dataset",
            files={"images/000.png": b"one", "captions.jsonl": json.dumps(captions[0]).encode()},
            metadata={"num_images": 1},
        ),
    )
    prior = store.commit(
        "steps/generate_prior/p",
        ManifestDraft(kind="prior", files={}, metadata={"num_images": 32}),
    )
    training = store.commit(
        "steps/train/t",
        ManifestDraft(
            kind="training",
            files={},
            inputs=(dataset, prior),
            metadata={"num_steps": 150, "base_model_digest": "b" * 64},
        ),
    )
    model = store.commit(
        "steps/publish_checkpoint/m",
        ManifestDraft(
            kind="model",
            files={},
            inputs=(training, dataset),
            metadata={"model_name": "boothline-bear", "identifier": "sks"},
        ),
    )
    ensure_version(store, store_settings, model_name="boothline-bear", ref=model)
    for step, ref, reused in (("train", training, False), ("generate_prior", prior, True)):
        record = StepRecord(
            step=step, status="done", reused=reused, manifest=str(ref), started_at=1.0
        )
        write_step(store, RUN, record)
    return {"dataset": dataset, "prior": prior, "training": training, "model": model}


def by_kind(link) -> dict:
    """Return all links by kind."""
    found = {link.kind: link}
    for part in link.made_from:
        found |= by_kind(part)
    return found


@pytest.mark.proves("F43/lineage")
def test_picture_leads_to_model_training_and_instance_pictures(store, made, tmp_path):
    content = store.read(made["model"]).content_digest
    data = png(tmp_path / "a.png", model=content, prompt="a photo of sks bear", seed="7")
    batch = store.commit(
        "steps/batch_infer/i",
        ManifestDraft(kind="images", files={"images/00000-00.png": data}, inputs=(made["model"],)),
    )

    found = by_kind(trace(store, tmp_path / "a.png"))

    assert list(found) == [
        "picture",
        "images",
        "model",
        "training",
        "dataset",
        "instance_picture",
        "prior",
        "base_model",
    ]
    assert found["picture"].digest == hashlib.sha256(data).hexdigest()
    assert found["picture"].facts == {"prompt": "a photo of sks bear", "seed": "7"}
    assert found["images"].ref == str(batch)
    assert found["model"].name == "boothline-bear version 1"
    assert found["training"].facts == {"num_steps": 150, "run": RUN}
    assert "run" not in found["prior"].facts
    assert found["instance_picture"].name == "one.jpg"
    assert found["instance_picture"].digest == hashlib.sha256(b"one").hexdigest()
    assert found["base_model"].digest == "b" * 64


def test_picture_made_by_hand_names_its_model_by_manifest(store, made, tmp_path):
    png(tmp_path / "a.png", model=made["model"].digest)

    found = by_kind(trace(store, tmp_path / "a.png"))

    assert found["model"].ref == str(made["model"])
    assert "images" not in found


def test_picture_lineage_reads_as_a_tree(store, made, tmp_path):
    png(tmp_path / "a.png", model=made["model"].digest, prompt="a photo")
    console = Console(width=100, file=io.StringIO())

    say_lineage(console, trace(store, tmp_path / "a.png"))

    text = console.file.getvalue()
    assert text.index("a.png") < text.index("boothline-bear version 1") < text.index("one.jpg")
    assert "prompt a photo" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [({}, "does not say which model"), ({"model": "c" * 64}, r"cccccccccccc... .* is not in s3")],
)
def test_picture_that_leads_nowhere_says_so(store, made, tmp_path, text, message):
    png(tmp_path / "a.png", **text)

    with pytest.raises(DataError, match=message):
        trace(store, tmp_path / "a.png")


def test_file_that_is_no_png_says_so(store, tmp_path):
    (tmp_path / "a.png").write_text("hello")

    with pytest.raises(DataError, match="cannot be read as PNG"):
        trace(store, tmp_path / "a.png")
