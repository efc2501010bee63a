import shutil

import numpy as np
import pytest
from PIL import Image

from boothline.diffusion.base_model import BaseModel
from boothline.errors import ConfigError
from boothline.evaluation.encoders import ClipEncoder, DinoEncoder, load_clip, load_dino

TEXTS = ("a photo of a bear", "a cat on the moon", "sks")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (40, 48, 40, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in arrays]


@pytest.fixture(scope="module")
def clip(tiny_clip) -> ClipEncoder:
    return ClipEncoder(tiny_clip)


@pytest.fixture(scope="module")
def dino(tiny_dino) -> DinoEncoder:
    return DinoEncoder(tiny_dino)


def _assert_unit(features: np.ndarray, rows: int) -> None:
    assert features.shape == (rows, 16)
    assert features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(rows), abs=1e-5)


def test_dino_encoder_gives_unit_features_of_the_class_token(dino, tiny_dino, images):
    import torch
    from transformers import AutoImageProcessor, AutoModel

    features = dino.encode(images)
    _assert_unit(features, 40)
    processor = AutoImageProcessor.from_pretrained(tiny_dino, backend="pil")
    with torch.inference_mode():
        model = AutoModel.from_pretrained(tiny_dino).eval()
        token = model(**processor(images=images[:3], return_tensors="pt")).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(token, dim=1).numpy()
    assert features[:3] == pytest.approx(expected, abs=1e-5)


def test_clip_encoder_equals_the_model_of_transformers(clip, tiny_clip, images):
    import torch
    from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

    picture_features, text_features = clip.encode(images), clip.encode_texts(TEXTS)
    _assert_unit(picture_features, 40)
    _assert_unit(text_features, 3)
    tokens = CLIPTokenizer.from_pretrained(tiny_clip)(
        list(TEXTS), padding=True, return_tensors="pt"
    )
    processor = AutoImageProcessor.from_pretrained(tiny_clip, backend="pil")
    with torch.inference_mode():
        model = CLIPModel.from_pretrained(tiny_clip).eval()
        output = model(**tokens, **processor(images=images[:3], return_tensors="pt"))
    assert picture_features[:3] == pytest.approx(output.image_embeds.numpy(), abs=1e-5)
    assert text_features == pytest.approx(output.text_embeds.numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["clip", "dino"])
def test_encoder_picture_does_not_depend_on_its_batch(name, images, request):
    encoder = request.getfixturevalue(name)
    assert encoder.encode(images)[35] == pytest.approx(encoder.encode([images[35]])[0], abs=1e-5)


def test_clip_encoder_text_beyond_the_context_is_cut_off(clip):
    long = clip.encode_texts(["a photo of " * 50])
    _assert_unit(long, 1)


@pytest.mark.parametrize("load", [load_dino, load_clip])
def test_load_encoder_without_safetensors_is_config_error(tiny_clip, tmp_path, load):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_clip, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load(BaseModel(path=folder, digest="", source="x"))


def test_load_encoder_without_image_processor_is_config_error(tiny_dino, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_dino, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="image processor"):
        load_dino(BaseModel(path=folder, digest="", source="x"))
