"""Image-to-image and inpainting: equal to diffusers, exact outside the mask, named noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_profiles import rgb_profile
from diffusers import StableDiffusionImg2ImgPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as peer
from PIL import Image
from unit.diffusion.peers import counted, plain_pipeline

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.diffusion.editing import Edit
from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.sampling import SampleRequest, decode, sample, start_noise
from boothline.errors import DataError

SAMPLING = SamplingConfig(num_steps=5, guidance_scale=4, batch_size=2)
SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "a.png")
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (9, 5, 24, 20))
    mask.save(folder / "mask.png")
    return folder


def _requests(edit: Edit | None, count: int = 2) -> list[SampleRequest]:
    return [
        SampleRequest(prompt=f"a photo of a {noun}", seed=5, index=index, edit=edit)
        for index, noun in enumerate(("bear", "dog", "cat")[:count])
    ]


def _arrays(
    parts: DiffusionParts, requests: list[SampleRequest], sampling: SamplingConfig = SAMPLING
) -> np.ndarray:
    return np.stack([np.array(image) for image in sample(parts, requests, sampling=sampling)])


def _pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def _round_trip(parts: DiffusionParts, path: Path) -> np.ndarray:
    pixels = torch.from_numpy(_pixels(path)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        latents = parts.vae.encode(pixels).latent_dist.mode() * parts.vae.config.scaling_factor
        return decode(parts, latents)[0].numpy()


@contextmanager
def _same_draws(
    parts: DiffusionParts, requests: list[SampleRequest], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let the diffusers pipeline take our start noise and the mode of the posterior."""
    with monkeypatch.context() as patch:
        patch.setattr(peer, "randn_tensor", lambda *_, **__: start_noise(parts, requests))
        patch.setattr(peer, "retrieve_latents", lambda output, **_: output.latent_dist.mode())
        yield


@pytest.mark.proves("F17/image")
@pytest.mark.parametrize("name", ["dpmpp_2m", "ddim", "euler", "unipc"])
def test_image_to_image_equals_the_diffusers_pipeline(
    tiny_parts: DiffusionParts, folder: Path, name: SamplerName, monkeypatch
) -> None:
    sampling = SAMPLING.model_copy(update={"sampler": name})
    requests = _requests(Edit(image=folder / "a.png", strength=0.6))
    pipeline = plain_pipeline(StableDiffusionImg2ImgPipeline, tiny_parts, sampling)
    with _same_draws(tiny_parts, requests, monkeypatch):
        wanted = pipeline(
            [request.prompt for request in requests],
            image=[Image.open(folder / "a.png").convert("RGB")] * 2,
            strength=0.6,
            num_inference_steps=5,
            guidance_scale=4,
            output_type="np",
        ).images
    assert np.abs(_arrays(tiny_parts, requests, sampling) - wanted * 255).max() <= 0.5 + 0.02


def test_image_to_image_without_strength_gives_the_picture_up_to_the_autoencoder(
    tiny_parts: DiffusionParts, folder: Path
) -> None:
    made = _arrays(tiny_parts, _requests(Edit(image=folder / "a.png", strength=0)))
    expected = _round_trip(tiny_parts, folder / "a.png").astype(int)
    # The batch has two rows here and one there: rounding may differ by a level.
    assert np.abs(made[0].astype(int) - expected).max() <= 1
    assert np.array_equal(made[0], made[1])


def test_image_to_image_moves_further_from_the_picture_with_strength(
    tiny_parts: DiffusionParts, folder: Path
) -> None:
    start = _round_trip(tiny_parts, folder / "a.png").astype(int)
    distances = []
    for strength in (0.2, 0.6, 1.0):
        made = _arrays(tiny_parts, _requests(Edit(image=folder / "a.png", strength=strength)))
        distances.append(np.abs(made[0].astype(int) - start).mean())
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.proves("F17/inpainting")
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_inpainting_keeps_what_is_outside_the_mask_bit_for_bit(
    tiny_parts: DiffusionParts, folder: Path, strength: float
) -> None:
    edit = Edit(image=folder / "a.png", mask=folder / "mask.png", strength=strength)
    made = _arrays(tiny_parts, _requests(edit))
    inside = np.array(Image.open(folder / "mask.png")) >= 128
    picture = _pixels(folder / "a.png")
    assert np.array_equal(made[:, ~inside], np.stack([picture[~inside]] * 2))
    changed = (made[0][inside] != picture[inside]).mean()
    assert changed > 0.5
    if strength:
        assert (made[0][inside] != made[1][inside]).mean() > 0.5


@pytest.mark.parametrize("name", ["dpmpp_2m", "euler_a", "ddpm", "pndm", "unipc"])
@pytest.mark.parametrize("mask", [None, "mask.png"])
def test_edit_depends_on_its_own_request_alone(
    tiny_parts: DiffusionParts, folder: Path, name: SamplerName, mask: str | None
) -> None:
    sampling = SAMPLING.model_copy(update={"sampler": name, "num_steps": 4})
    edit = Edit(image=folder / "a.png", mask=folder / mask if mask else None, strength=0.75)
    requests = _requests(edit, count=3)
    together = _arrays(tiny_parts, requests, sampling)
    assert np.isfinite(together).all()
    other = [replace(requests[0], seed=6), replace(requests[0], index=9)]
    mixed = _arrays(tiny_parts, [other[0], requests[2], other[1], requests[0]], sampling)
    assert np.array_equal(mixed[1], together[2])
    assert np.array_equal(mixed[3], together[0])
    assert not np.array_equal(mixed[0], together[0])
    assert not np.array_equal(mixed[2], together[0])


def test_edit_and_plain_requests_share_one_call(tiny_parts: DiffusionParts, folder: Path) -> None:
    edit = Edit(image=folder / "a.png", strength=0.5)
    mixed = [*_requests(None), *_requests(edit)]
    made = _arrays(tiny_parts, mixed)
    assert np.array_equal(made[:2], _arrays(tiny_parts, _requests(None)))
    assert np.array_equal(made[2:], _arrays(tiny_parts, _requests(edit)))


def test_edit_guidance_takes_one_forward_a_step(tiny_parts: DiffusionParts, folder: Path) -> None:
    with counted(tiny_parts.unet) as rows:
        _arrays(tiny_parts, _requests(Edit(image=folder / "a.png", strength=0.6)))
    assert rows == [4, 4, 4]


def test_edit_crops_another_shape_to_the_size_of_the_request(
    tiny_parts: DiffusionParts, folder: Path, tmp_path: Path
) -> None:
    wide = Image.new("RGB", (96, 64), "red")
    wide.paste(Image.new("RGB", (64, 64), "blue"), (16, 0))
    wide.save(tmp_path / "wide.png")
    mask = Image.new("L", (96, 64))
    mask.save(tmp_path / "mask.png")
    edit = Edit(image=tmp_path / "wide.png", mask=tmp_path / "mask.png")
    (made,) = _arrays(tiny_parts, _requests(edit, count=1))
    assert made.shape == (SIDE, SIDE, 3)
    assert (made[:, 4:-4] == (0, 0, 255)).all()


def test_edit_with_a_mask_of_another_size_is_refused(
    tiny_parts: DiffusionParts, folder: Path, tmp_path: Path
) -> None:
    Image.new("L", (16, 16), 255).save(tmp_path / "small.png")
    edit = Edit(image=folder / "a.png", mask=tmp_path / "small.png")
    with pytest.raises(DataError, match="16 x 16 pixels"):
        _arrays(tiny_parts, _requests(edit))


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_edit_of_a_file_that_is_no_picture_is_refused_by_name(
    tiny_parts: DiffusionParts, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "broken.png"
    if content:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        _arrays(tiny_parts, _requests(Edit(image=path)))


def test_edit_of_a_picture_in_another_colour_space_starts_from_its_colours(
    tiny_parts: DiffusionParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "iphone.png"
    Image.new("RGB", (SIDE, SIDE), (185, 71, 66)).save(path, icc_profile=rgb_profile("Display P3"))
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "nothing.png")
    edit = Edit(image=path, mask=tmp_path / "nothing.png", strength=0.5)
    with caplog.at_level("INFO", logger="boothline.diffusion.editing"):
        (made,) = _arrays(tiny_parts, _requests(edit, count=1))
    # The mask keeps all of it, so it comes out as it went in.
    assert np.abs(made.astype(int) - (200, 60, 60)).max() <= 1
    assert "has the colours of Display P3; they are converted to sRGB" in caplog.text


def test_edit_of_a_picture_with_a_broken_profile_is_warned_about(
    tiny_parts: DiffusionParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broken.png"
    Image.new("RGB", (SIDE, SIDE), "red").save(path, icc_profile=b"no profile")
    _arrays(tiny_parts, _requests(Edit(image=path, strength=0.2), count=1))
    assert "has a damaged colour profile" in caplog.text
