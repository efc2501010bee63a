"""Models that begin from exported ones keep what both have."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from models.build import tokenizer as tokenizers
from models.build.autoencoder import build_autoencoder
from models.build.clip import build_clip, embed_texts
from models.build.export import export_clip, export_image_encoder, export_pipeline
from models.build.image_encoder import build_image_encoder
from models.build.recipe import AutoencoderSize, Recipe, TransformerSize, UnetSize
from models.build.tokenizer import save_tokenizer
from models.build.unet import build_unet
from models.build.warm_start import (
    begin_autoencoder,
    begin_clip,
    begin_image_encoder,
    begin_unet,
)

TINY = TransformerSize(width=16, layers=1, heads=2)
RECIPE = Recipe(text=TINY, vision=TINY, image_encoder=TINY, clip_width=16)
OLD = AutoencoderSize(channels=(8, 16), latent_channels=4, norm_groups=8)
DEEP = AutoencoderSize(channels=(8, 16), norm_groups=8)
WIDE = AutoencoderSize(channels=(16, 32), latent_channels=4, norm_groups=16)
WIDE_AND_DEEP = AutoencoderSize(channels=(16, 32), norm_groups=16)
UNET = UnetSize(channels=(32, 32), attention=(False, True))


def tokenizer_in(folder: Path) -> CLIPTokenizer:
    return save_tokenizer(folder, vocabulary_size=1_200, max_tokens=24)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """The folder of exported models and the models themselves."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "CLOTHES", ())
        tokenizer = tokenizer_in(folder / "tokenizer")
    torch.manual_seed(1)
    models = {
        "autoencoder": build_autoencoder(OLD),
        "clip": build_clip(RECIPE, tokenizer=tokenizer),
        "unet": build_unet(UNET, latent_channels=4, text_width=16),
    }
    export_pipeline(**models, tokenizer=tokenizer, output=folder)
    export_clip(models["clip"], tokenizer=tokenizer, output=folder)
    models["encoder"] = build_image_encoder(RECIPE)
    export_image_encoder(models["encoder"], output=folder)
    return folder, {name: model.half().float().eval() for name, model in models.items()}, tokenizer


@pytest.mark.parametrize("size", [DEEP, WIDE, WIDE_AND_DEEP])
def test_begin_autoencoder_with_more_channels_draws_the_old_pictures(
    exported, size: AutoencoderSize
) -> None:
    folder, models, _ = exported
    torch.manual_seed(2)
    wider = build_autoencoder(size)
    begin_autoencoder(wider, models=folder)
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        old, new = (model.encode(pixels).latent_dist for model in (models["autoencoder"], wider))
        assert new.mean.shape[1] == size.latent_channels
        assert torch.allclose(new.mean[:, :4], old.mean, atol=1e-5)
        assert torch.allclose(new.logvar[:, :4], old.logvar, atol=1e-5)
        assert size.latent_channels == 4 or new.mean[:, 4:].std() > 0
        pictures = [
            model.decode(latents.mean).sample
            for model, latents in ((models["autoencoder"], old), (wider, new))
        ]
    assert torch.allclose(*pictures, atol=1e-4)


def test_begin_autoencoder_of_equal_shape_is_the_old_one(exported) -> None:
    folder, models, _ = exported
    model = build_autoencoder(OLD)
    begin_autoencoder(model, models=folder)
    for name, weight in models["autoencoder"].state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_begin_clip_with_other_tokens_reads_old_captions_as_before(
    exported, tmp_path: Path
) -> None:
    folder, models, tokenizer = exported
    wider = tokenizer_in(tmp_path)
    assert len(wider) > len(tokenizer)
    model = build_clip(RECIPE, tokenizer=wider)
    begin_clip(model.eval(), tokenizer=wider, models=folder)
    texts = ["a photo of a bear on the beach"]
    before = embed_texts(models["clip"], texts, tokenizer=tokenizer)
    after = embed_texts(model.eval(), texts, tokenizer=wider)
    assert torch.allclose(before, after, atol=1e-4)


def test_begin_image_encoder_takes_every_weight(exported) -> None:
    folder, models, _ = exported
    model = build_image_encoder(RECIPE)
    begin_image_encoder(model, models=folder)
    for name, weight in models["encoder"].state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_begin_unet_with_more_channels_keeps_all_but_its_ends(exported) -> None:
    folder, models, _ = exported
    model = build_unet(UNET, latent_channels=8, text_width=16)
    begin_unet(model, models=folder)
    for name, weight in models["unet"].state_dict().items():
        found = model.state_dict()[name]
        if name.startswith("conv_out"):
            found = found[:4]
        if name == "conv_in.weight":
            found = found[:, :4]
        assert torch.equal(found, weight), name
