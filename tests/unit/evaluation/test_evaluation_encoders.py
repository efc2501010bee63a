import json
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


@pytest.mark.proves("F18")
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


# What the hub's facebook/dino-vits16 and openai/clip-vit-base-patch32 say of themselves, with fewer
# layers and features: a ViT and a CLIP of the same classes, patches and picture sizes.
DINO_PROCESSOR = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": 224,
}
CLIP_PROCESSOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
LAYERS = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def hub_dino(tmp_path_factory):
    import torch
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("dino-vits16")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ViTConfig(**LAYERS, num_attention_heads=6, patch_size=16, image_size=224)
        ViTModel(config, add_pooling_layer=True).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(DINO_PROCESSOR))
    return folder


@pytest.fixture(scope="module")
def hub_clip(tmp_path_factory):
    import torch
    from model_fixtures import make_tiny_tokenizer
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = make_tiny_tokenizer(tmp_path_factory.mktemp("clip-vit-base-patch32"))
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    text = {
        **LAYERS,
        "num_attention_heads": 4,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**LAYERS, "num_attention_heads": 6, "patch_size": 32, "image_size": 224}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(
            CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
        ).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP_PROCESSOR))
    return folder


def test_dino_encoder_reads_the_layout_of_the_papers_encoder(hub_dino, images):
    import torch
    from transformers import ViTModel

    picture = images[0]
    (features,) = DinoEncoder(hub_dino).encode([picture])
    resized = np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR)) / 255
    pixels = (resized - DINO_PROCESSOR["image_mean"]) / DINO_PROCESSOR["image_std"]
    with torch.inference_mode():
        model = ViTModel.from_pretrained(hub_dino).eval()
        token = model(torch.tensor(pixels).float().permute(2, 0, 1)[None]).last_hidden_state[0, 0]
    assert features == pytest.approx((token / token.norm()).numpy(), abs=1e-3)


def test_clip_encoder_reads_the_layout_of_the_papers_encoder(hub_clip, images):
    import torch
    from transformers import CLIPModel

    encoder = ClipEncoder(hub_clip)
    (features,), texts = encoder.encode([images[0]]), encoder.encode_texts(TEXTS)
    picture = images[0].convert("RGB")
    side = 224 / min(picture.size)
    size = (int(picture.width * side), int(picture.height * side))
    large = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (large.width - 224) // 2, (large.height - 224) // 2
    cut = np.asarray(large.crop((left, top, left + 224, top + 224))) / 255
    pixels = (cut - CLIP_PROCESSOR["image_mean"]) / CLIP_PROCESSOR["image_std"]
    with torch.inference_mode():
        model = CLIPModel.from_pretrained(hub_clip).eval()
        pooled = model.vision_model(torch.tensor(pixels).float().permute(2, 0, 1)[None])
        expected = model.visual_projection(pooled.pooler_output)[0]
    assert features == pytest.approx((expected / expected.norm()).numpy(), abs=1e-3)
    assert texts.shape == (3, 20)


def test_clip_encoder_says_which_text_it_cuts_off(clip, caplog):
    clip.encode_texts(["a bear", "a photo of " * 50, "a bear"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CLIP-T compares with the first" in caplog.text
    assert "'a photo of a photo of" in caplog.text
