"""Pickled weights and code that comes with a model: refused by every loader, never run."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from boothline.diffusion.base_model import BaseModel, content_files, resolve
from boothline.diffusion.loading import load_pipeline
from boothline.errors import BoothlineError
from boothline.evaluation.encoders import load_clip, load_dino
from boothline.settings import Settings

Note = Callable[[str, str], None]
Load = Callable[[Path], object]

PICKLES = (
    "diffusion_pytorch_model.bin", "pytorch_model.bin", "model.ckpt", "model.pt", "model.pth",
    "weights.pkl", "flax_model.msgpack", "diffusion_pytorch_model.fp16.bin",
)  # fmt: skip
PARTS = ("unet", "vae", "text_encoder")


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def only_pickles(folder: Path, name: str, canary: Path) -> None:
    """Leave nothing but a pickle in place of the weights."""
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / name).write_bytes(pickle.dumps({"weight": Canary(canary)}))


def encoder(load: Callable[[BaseModel], object]) -> Load:
    return lambda folder: load(BaseModel(path=folder, digest="", source=str(folder)))


def test_pickled_weights_of_every_format_and_loader_are_refused(
    tiny_pipeline: Path,
    tiny_clip: Path,
    tiny_dino: Path,
    tmp_path: Path,
    canary: Path,
    measured: Note,
) -> None:
    loaders: list[tuple[Path, str, Load]] = [
        *(
            (tiny_pipeline, part, lambda folder: load_pipeline(folder, device="cpu"))
            for part in PARTS
        ),
        (tiny_clip, "", encoder(load_clip)),
        (tiny_dino, "", encoder(load_dino)),
    ]
    num_refused = 0
    for name in PICKLES:
        for source, part, load in loaders:
            folder = shutil.copytree(source, tmp_path / f"{num_refused}")
            only_pickles(folder / part, name, canary)
            with pytest.raises(BoothlineError):
                load(folder)
            assert not canary.exists(), (name, part)
            num_refused += 1
    measured("pickled weights", f"{num_refused} combinations of format and loader: 0 canaries")


def test_pickle_that_calls_itself_safetensors_is_refused(
    tiny_pipeline: Path, tiny_dino: Path, tmp_path: Path, canary: Path
) -> None:
    pipeline = shutil.copytree(tiny_pipeline, tmp_path / "pipeline")
    only_pickles(pipeline / "unet", "diffusion_pytorch_model.safetensors", canary)
    dino = shutil.copytree(tiny_dino, tmp_path / "dino")
    only_pickles(dino, "model.safetensors", canary)
    for load, folder in ((load_pipeline, pipeline), (encoder(load_dino), dino)):
        with pytest.raises(BoothlineError):
            load(folder)
    assert not canary.exists()


@pytest.mark.parametrize("shard", ["shard.bin", "../shard.bin", "/etc/passwd"])
def test_index_that_names_a_pickle_is_refused(
    tiny_pipeline: Path, tmp_path: Path, canary: Path, shard: str
) -> None:
    folder = shutil.copytree(tiny_pipeline, tmp_path / "pipeline")
    only_pickles(folder / "unet", "shard.bin", canary)
    shutil.copy(folder / "unet" / "shard.bin", folder / "shard.bin")
    index = {"metadata": {"total_size": 4}, "weight_map": {"conv_in.weight": shard}}
    name = "diffusion_pytorch_model.safetensors.index.json"
    (folder / "unet" / name).write_text(json.dumps(index))
    with pytest.raises(BoothlineError):
        load_pipeline(folder, device="cpu")
    assert not canary.exists()


def test_model_folder_with_code_runs_none_of_it(
    tiny_pipeline: Path, tiny_dino: Path, tmp_path: Path, canary: Path
) -> None:
    code = f"open({str(canary)!r}, 'w')\nclass Custom: ...\n"
    dino = shutil.copytree(tiny_dino, tmp_path / "dino")
    config = json.loads((dino / "config.json").read_text())
    named = {"AutoModel": "custom.Custom", "AutoConfig": "custom.Custom"}
    (dino / "config.json").write_text(
        json.dumps({**config, "model_type": "custom", "auto_map": named})
    )
    (dino / "custom.py").write_text(code)
    with pytest.raises(BoothlineError):
        encoder(load_dino)(dino)
    for index in (
        {"_class_name": ["custom", "Custom"]},
        {"_class_name": "Custom", "_module": "custom"},
        {"unet": ["custom", "Custom"]},
        {"tokenizer": ["..", "custom"]},
    ):
        folder = shutil.copytree(tiny_pipeline, tmp_path / "pipeline", dirs_exist_ok=True)
        (folder / "custom.py").write_text(code)
        (folder / "unet" / "custom.py").write_text(code)
        path = folder / "model_index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
        with pytest.raises(BoothlineError):
            load_pipeline(folder, device="cpu")
    assert not canary.exists()


def test_digest_of_a_model_leaves_pickles_and_code_out(
    tiny_pipeline: Path, tmp_path: Path, canary: Path
) -> None:
    folder = shutil.copytree(tiny_pipeline, tmp_path / "pipeline")
    before = resolve(str(folder), settings=Settings(home=tmp_path / "home")).digest
    only = {path.suffix for path in content_files(folder)}
    (folder / "unet" / "evil.bin").write_bytes(pickle.dumps(Canary(canary)))
    (folder / "unet" / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    assert resolve(str(folder), settings=Settings(home=tmp_path / "home")).digest == before
    assert only == {".json", ".txt", ".safetensors"}
    assert not canary.exists()
