"""What is downloaded of a repository on a model hub, from a stand-in of its API."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_stand_in import COMMIT, hub

MODEL = "someone/model"
PARTS = ("unet", "vae", "text_encoder")
WEIGHTS = {"text_encoder": "model"}
ROOT = ["sd-v1.safetensors", "sd-v1.ckpt", "README.md", "picture.png"]
CODE = (
    "import sys\n"
    "from pathlib import Path\n"
    "from boothline.diffusion.base_model import resolve\n"
    "from boothline.settings import Settings\n"
    "found = resolve(sys.argv[1], settings=Settings(home=Path('home')), allow_hub=True)\n"
    "print(found.digest)"
)


def repository(*, index: str, variants: dict[str, list[str]]) -> dict[str, bytes]:
    """Return the files of a repository; the variants of each part's weights are named."""
    files = {"model_index.json": json.dumps({"_class_name": index}).encode()}
    files |= {name: b"x" * 9 for name in ROOT}
    for name in ("scheduler", "tokenizer", "safety_checker"):
        files[f"{name}/some.json"] = json.dumps({"of": name}).encode()
    for part in PARTS:
        stem = WEIGHTS.get(part, "diffusion_pytorch_model")
        files[f"{part}/config.json"] = json.dumps({"of": part}).encode()
        files[f"{part}/{stem}.bin"] = b"pickle"
        for variant in variants[part]:
            files[f"{part}/{stem}{variant}.safetensors"] = f"{part}{variant}".encode()
    return files


def downloaded(url: str, source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(folder / "hf")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", CODE, source],
        env=environment, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.proves("F50/hub")
def test_of_a_repository_one_variant_of_each_part_is_downloaded(tmp_path: Path) -> None:
    variants = {"unet": ["", ".fp16", ".non_ema"], "vae": ["", ".fp16"], "text_encoder": [".fp16"]}
    files = repository(index="StableDiffusionPipeline", variants=variants)
    with hub(files, model=MODEL) as (url, sent):
        done = downloaded(url, f"{MODEL}@{COMMIT}", tmp_path)
        assert done.returncode == 0, done.stderr
        assert sorted(sent) == [
            "model_index.json", "scheduler/some.json", "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors", "tokenizer/some.json", "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ]  # fmt: skip
        del sent[:]
        again = downloaded(url, f"{MODEL}@{COMMIT}", tmp_path)
        assert (again.stdout, sent) == (done.stdout, [])


def test_of_a_repository_of_an_unknown_family_nothing_but_the_index_is_downloaded(
    tmp_path: Path,
) -> None:
    files = repository(index="NobodyKnowsPipeline", variants={part: [""] for part in PARTS})
    with hub(files, model=MODEL) as (url, sent):
        done = downloaded(url, f"{MODEL}@{COMMIT}", tmp_path)
    assert done.returncode != 0
    assert "NobodyKnowsPipeline" in done.stderr
    assert sent == ["model_index.json"]


def test_of_an_encoder_the_plain_weights_are_downloaded(tmp_path: Path) -> None:
    # Each has its own bytes: equal ones are downloaded once.
    files = {name: name.encode() for name in ("tokenizer.json", "vocab.txt")}
    files["config.json"] = b"{}"
    files |= {"model.safetensors": b"plain", "model.fp16.safetensors": b"half", "model.bin": b"x"}
    with hub(files, model=MODEL) as (url, sent):
        done = downloaded(url, f"{MODEL}@{COMMIT}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(sent) == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
