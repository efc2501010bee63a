"""The recipe: tokenizer, resumable stages and the exported folders."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models.build import evaluate
from models.build.autoencoder import (
    AutoencoderObjective,
    build_autoencoder,
    detail_weights,
    encode_all,
    standardise_latents,
    to_tensor,
)
from models.build.cli import parse_steps
from models.build.clip import ClipObjective, build_clip, rotate_hue
from models.build.evaluate import frechet_distance, set_exam
from models.build.export import export_clip, export_image_encoder, export_pipeline
from models.build.generation import load_pipeline
from models.build.image_encoder import build_image_encoder
from models.build.recipe import (
    AutoencoderSize,
    Recipe,
    Training,
    TransformerSize,
    UnetSize,
    quick_recipe,
)
from models.build.scenes import SceneSet
from models.build.stage import StageTrainer, StepDraw, learning_rate_at
from models.build.tokenizer import save_tokenizer, tokenize, world_words
from models.build.unet import build_unet
from models.build.vocabulary import (
    IDENTIFIERS,
    VOCABULARY,
)

TINY = TransformerSize(width=16, layers=1, heads=2)
RECIPE = Recipe(text=TINY, vision=TINY, image_encoder=TINY, clip_width=16)
SMALL_AUTOENCODER = AutoencoderSize(channels=(8, 8), norm_groups=8)


def some_pixels(count: int = 8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (count, 16, 16, 3)).astype(np.uint8)


def test_tokenizer_reads_each_word_of_the_world_as_one_token(tokenizer) -> None:
    words = world_words()
    assert len(words) > 90
    assert [word for word in words if len(tokenizer.tokenize(word)) != 1] == []


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tokenizer")
    recipe = Recipe()
    return save_tokenizer(
        folder, vocabulary_size=recipe.vocabulary_size, max_tokens=recipe.max_tokens
    )


def test_tokenizer_unknown_text_survives_in_pieces(tokenizer) -> None:
    numbers = tokenize(tokenizer, ["a zyxw dog"])[0]
    assert len(numbers) == 24
    assert tokenizer.decode(numbers, skip_special_tokens=True).strip() == "a zyxw dog"


def test_world_words_cover_every_identifier() -> None:
    assert set(IDENTIFIERS) <= set(world_words())


def small_unet() -> nn.Module:
    return build_unet(
        UnetSize(channels=(32, 32), attention=(False, True)),
        latent_channels=SMALL_AUTOENCODER.latent_channels,
        text_width=16,
    )


def make_trainer(state: Path) -> StageTrainer:
    torch.manual_seed(0)
    objective = AutoencoderObjective(
        build_autoencoder(SMALL_AUTOENCODER), pixels=(some_pixels(),), batch_size=2
    )
    plan = Training(6, 2, 1e-3, warmup_steps=2, ema_decay=0.9)
    return StageTrainer(
        "autoencoder", objective=objective, plan=plan, seed=1, state_path=state / "a.pt"
    )


def weights(trainer: StageTrainer) -> Mapping[str, torch.Tensor]:
    return trainer.modules.state_dict()


def test_stage_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.run()
    make_trainer(tmp_path / "parts").run(until_step=3)
    resumed = make_trainer(tmp_path / "parts")
    resumed.run()
    assert resumed.step == whole.step == 6
    for name, expected in weights(whole).items():
        assert torch.equal(weights(resumed)[name], expected), name
    for average, expected in zip(resumed.average, whole.average, strict=True):
        assert torch.equal(average, expected)


def test_stage_finished_trains_no_further(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    again = make_trainer(tmp_path)
    again.run()
    assert again.step == 6


def test_decoder_objective_leaves_the_encoder_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_autoencoder(SMALL_AUTOENCODER)
    before = encode_all(model, some_pixels())
    decoder = model.decoder.conv_out.weight.detach().clone()
    objective = AutoencoderObjective(
        model, pixels=(some_pixels(),), batch_size=2, decoder_only=True
    )
    plan = Training(3, 2, 1e-3, warmup_steps=1)
    StageTrainer(
        "decoder", objective=objective, plan=plan, seed=1, state_path=tmp_path / "d.pt"
    ).run()
    assert torch.equal(before, encode_all(model, some_pixels()))
    assert not torch.equal(decoder, model.decoder.conv_out.weight)


def test_detail_weights_are_even_on_a_plain_picture_and_high_at_an_eye() -> None:
    pixels = torch.full((2, 3, 16, 16), 0.4)
    pixels[1, :, 6:8, 9] = -1
    weights = detail_weights(pixels)
    assert torch.allclose(weights[0], torch.ones(1, 16, 16))
    assert weights[1, 0, 6:8, 9].min() > 5 * weights[1, 0, 0, 0]
    assert torch.allclose(weights.mean(dim=(1, 2, 3)), torch.ones(2))


def test_autoencoder_objective_stays_near_the_latents_that_a_unet_knows(tmp_path: Path) -> None:
    known = build_autoencoder(SMALL_AUTOENCODER).requires_grad_(False)
    drifts = {}
    for near in (known, None):
        torch.manual_seed(0)
        model = build_autoencoder(replace(SMALL_AUTOENCODER, latent_channels=16))
        objective = AutoencoderObjective(model, pixels=(some_pixels(),), batch_size=2, near=near)
        plan = Training(30, 2, 1e-2, warmup_steps=1)
        path = tmp_path / f"{near is None}.pt"
        StageTrainer("autoencoder", objective=objective, plan=plan, seed=1, state_path=path).run()
        latents = encode_all(model, some_pixels())[:, : known.config.latent_channels]
        drifts[near is None] = float((latents - encode_all(known, some_pixels())).pow(2).mean())
    assert drifts[False] < 0.5 * drifts[True]


def test_clip_objective_of_pictures_only_keeps_the_text_tower(tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_clip(RECIPE, tokenizer=tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scenes = SceneSet(
        pixels_NHWC=np.random.default_rng(3).integers(0, 255, (8, 64, 64, 3)).astype(np.uint8),
        captions=["a photo of a bear"] * 8,
        nouns=np.arange(8),
        backgrounds=np.arange(8),
        styles=["noto"] * 8,
        instances=np.arange(8),
    )
    objective = ClipObjective(
        model, tokenizer=tokenizer, scenes=scenes, batch_size=4, pictures_only=True
    )
    plan = Training(2, 4, 1e-3, warmup_steps=1)
    StageTrainer(
        "vision", objective=objective, plan=plan, seed=1, state_path=tmp_path / "v.pt"
    ).run()
    changed = {
        name for name, kept in before.items() if not torch.equal(model.state_dict()[name], kept)
    }
    assert any(name.startswith("vision_model.") for name in changed)
    assert not any(name.startswith("text_model.") for name in changed)


def test_rotate_hue_by_a_third_of_a_turn_makes_red_green() -> None:
    picture = torch.rand(3, 4, 4) * 2 - 1
    turned = rotate_hue(picture, angle=2 * math.pi / 3)
    assert torch.allclose(turned, picture.roll(1, dims=0), atol=1e-6)
    grey = torch.full((3, 4, 4), 0.3)
    assert torch.allclose(rotate_hue(grey, angle=1.0), grey, atol=1e-6)


def test_decoder_objective_draws_from_latents_with_noise() -> None:
    torch.manual_seed(0)
    model = build_autoencoder(SMALL_AUTOENCODER)
    restored = []
    for decoder_only in (False, True):
        objective = AutoencoderObjective(
            model, pixels=(some_pixels(),), batch_size=8, decoder_only=decoder_only
        )
        draw = StepDraw(1, step=0, device=torch.device("cpu"))
        restored.append(float(objective.loss(draw)[0].detach()))
    assert restored[0] != restored[1]


def test_exam_asks_for_the_given_nouns_on_every_background() -> None:
    exam = set_exam(48, nouns=["bear", "fish"])
    names = {VOCABULARY.noun_names[label] for label in exam.nouns}
    assert names == {"bear", "fish"}
    assert len(set(exam.prompts)) == 48
    for prompt, background in zip(exam.prompts, exam.backgrounds, strict=True):
        assert prompt.endswith(VOCABULARY.background_names[background])


def test_learning_rate_warms_up_then_falls() -> None:
    plan = Training(100, 1, 1.0, warmup_steps=10)
    rates = [learning_rate_at(step, plan=plan) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)


def test_standardise_latents_keeps_reconstructions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_autoencoder(SMALL_AUTOENCODER)
    pictures = some_pixels(8)
    pixels = to_tensor(pictures)
    with torch.no_grad():
        before = model.decode(model.encode(pixels).latent_dist.mean).sample
        standardise_latents(model, pixels_NHWC=pictures)
        after = model.decode(model.encode(pixels).latent_dist.mean).sample
    latents = encode_all(model, pictures).float()
    assert torch.allclose(before, after, atol=1e-4)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01


def test_export_loads_in_plain_diffusers_and_transformers(tokenizer, tmp_path: Path) -> None:
    clip = build_clip(RECIPE, tokenizer=tokenizer)
    unet = small_unet()
    export_pipeline(
        autoencoder=build_autoencoder(AutoencoderSize(channels=(8, 8, 8), norm_groups=8)),
        clip=clip,
        tokenizer=tokenizer,
        unet=unet,
        output=tmp_path,
    )
    export_clip(clip, tokenizer=tokenizer, output=tmp_path)
    export_image_encoder(build_image_encoder(RECIPE), output=tmp_path)

    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
    from transformers import AutoModel, CLIPModel

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "tiny-emoji-sd")
    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == torch.float32
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a dog on grass", num_inference_steps=1).images[0]
    assert picture.size == (64, 64)
    examined = load_pipeline(tmp_path / "tiny-emoji-sd", device=torch.device("cpu")).scheduler
    assert isinstance(examined, EulerAncestralDiscreteScheduler)
    assert torch.equal(examined.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
    assert isinstance(CLIPModel.from_pretrained(tmp_path / "tiny-emoji-clip"), nn.Module)
    encoder = AutoModel.from_pretrained(tmp_path / "tiny-emoji-dino")
    assert encoder(pixel_values=torch.zeros(1, 3, 64, 64)).last_hidden_state.shape[2] == 16


def test_export_keeps_the_card_and_its_pictures(tokenizer, tmp_path: Path) -> None:
    kept = {"README.md", "samples.png", "personalised.png"}
    (tmp_path / "tiny-emoji-sd").mkdir()
    for name in kept:
        (tmp_path / "tiny-emoji-sd" / name).write_text(name)
    export_pipeline(
        autoencoder=build_autoencoder(SMALL_AUTOENCODER),
        clip=build_clip(RECIPE, tokenizer=tokenizer),
        tokenizer=tokenizer,
        unet=small_unet(),
        output=tmp_path,
    )
    assert kept < {path.name for path in (tmp_path / "tiny-emoji-sd").iterdir()}


def test_frechet_distance_of_a_shifted_cloud_is_the_shift_squared() -> None:
    cloud = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(cloud, cloud + 2.0) == pytest.approx(12.0, rel=1e-6)


def test_likeness_is_of_the_scenes_own_captions_with_little_guidance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels, labels = some_pixels(64), np.zeros(64, dtype=np.int64)
    captions = [f"scene {number}" for number in range(64)]
    scenes = SceneSet(pixels, captions, labels, labels, ["flat"] * 64, labels)
    asked: list[float] = []

    def painter(prompts: list[str], *, guidance_scale: float, **_: object) -> SimpleNamespace:
        asked.append(guidance_scale)
        drawn = [pixels[captions.index(prompt)] for prompt in prompts]
        return SimpleNamespace(images=[Image.fromarray(picture) for picture in drawn])

    monkeypatch.setattr(evaluate, "embed_subjects", lambda _, pixels: pixels.mean(dim=(2, 3)))
    found = evaluate.measure_likeness(painter, encoder=None, scenes=scenes, recipe=Recipe())
    assert found["num_pictures"] == 64
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert found["frechet_distance_real_halves"] > 1e-5
    assert set(asked) == {1.5}


def test_quick_recipe_covers_every_stage() -> None:
    assert quick_recipe().training.keys() == Recipe().training.keys()


def test_recipe_draws_every_noun_of_the_world() -> None:
    assert Recipe().drawn_nouns == VOCABULARY.noun_names
    assert len(Recipe().drawn_nouns) >= 40


def test_exam_asks_for_every_background() -> None:
    exam = set_exam(24, nouns=["bear"])
    assert sorted(exam.backgrounds) == list(range(24))
    assert any(prompt.endswith("bear in front of a brick wall") for prompt in exam.prompts)


def test_parse_steps_with_an_unknown_stage_exits() -> None:
    assert parse_steps(["unet=9000"]) == {"unet": 9000}
    with pytest.raises(SystemExit, match="expected STAGE=N"):
        parse_steps(["nothing=3"])
