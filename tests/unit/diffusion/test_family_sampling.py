"""Every family samples what diffusers' own pipeline samples, guidance included."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_fixtures import T5_LENGTH

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.editing import Edit
from boothline.diffusion.export import plain_pipeline
from boothline.diffusion.loading import DiffusionParts, load_pipeline, quiet_libraries
from boothline.diffusion.samplers import make_scheduler
from boothline.diffusion.sampling import SampleRequest, sample, start_noise
from boothline.errors import ConfigError

Folders = Callable[[str], Path]
FLOW = ("sd3", "flux", "klein", "z_image", "qwen_image")
GUIDED = ("sdxl", "sd3", "klein", "z_image", "qwen_image")
ALL = ("sdxl", *FLOW)
PROMPT = "a photo of sks bear"
HEIGHT_PX, WIDTH_PX = 48, 32


def sampling_of(name: str, **changes: Any) -> SamplingConfig:
    sampler = "euler" if name in FLOW else "dpmpp_2m"
    settings = {"sampler": sampler, "num_steps": 4, "guidance_scale": 4.0, "batch_size": 2}
    return SamplingConfig.model_validate(settings | changes)


def requests_of(negative: str = "", **changes: Any) -> list[SampleRequest]:
    settings: dict[str, Any] = {"height_px": HEIGHT_PX, "width_px": WIDTH_PX} | changes
    return [
        SampleRequest(prompt=PROMPT, seed=5, index=i, negative_prompt=negative, **settings)
        for i in range(2)
    ]


def plain(parts: DiffusionParts, sampling: SamplingConfig, negative: str | None) -> np.ndarray:
    """Return the levels, 0 to 255, of diffusers' own pipeline at the same noise."""
    scheduler = None
    if not parts.family.is_flow:
        scheduler = make_scheduler(parts.scheduler, sampling)
    pipeline = plain_pipeline(parts, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    with quiet_libraries(), torch.inference_mode():
        levels: np.ndarray = (
            255
            * pipeline(
                prompt=[PROMPT] * 2,
                num_inference_steps=sampling.num_steps,
                height=HEIGHT_PX,
                width=WIDTH_PX,
                output_type="np",
                **arguments_of(pipeline, parts, sampling.guidance_scale, negative),
            ).images
        )
    return levels


def arguments_of(
    pipeline: Any, parts: DiffusionParts, scale: float, negative: str | None
) -> dict[str, Any]:
    """Return what each of diffusers' pipelines has names, shapes and a scale of its own for."""
    noise, name = start_noise(parts, requests_of()), parts.family.pipeline
    count, channels, height, width = noise.shape
    squares = noise.view(count, channels, height // 2, 2, width // 2, 2)
    tokens = squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    places = squares.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    without = {"negative_prompt": None if negative is None else [negative] * 2}
    if name == "FluxPipeline":
        return {"latents": tokens, "guidance_scale": scale, "max_sequence_length": T5_LENGTH}
    if name == "QwenImagePipeline":
        # Without a negative prompt it takes no guidance.
        without = {"negative_prompt": [negative or ""] * 2 if scale > 1 else None}
        return {"latents": tokens, "true_cfg_scale": scale, **without}
    if name == "ZImagePipeline":
        return {"latents": noise, "guidance_scale": scale - 1, "max_sequence_length": 64, **without}
    if name == "Flux2KleinPipeline":
        if negative is not None:  # its texts alone have no argument
            embeds, _ = pipeline.encode_prompt([negative] * 2, max_sequence_length=64)
            without = {"negative_prompt_embeds": embeds}
        else:
            without = {}
        length = {"max_sequence_length": 64}
        return {"latents": places, "guidance_scale": scale, **length, **without}
    length = {"max_sequence_length": T5_LENGTH} if name == "StableDiffusion3Pipeline" else {}
    return {"latents": noise, "guidance_scale": scale, **length, **without}


def pixels(
    parts: DiffusionParts, sampling: SamplingConfig, requests: list[SampleRequest]
) -> np.ndarray:
    return np.stack([np.array(image) for image in sample(parts, requests, sampling=sampling)])


@pytest.mark.proves("F26/sampling", "F26/other")
@pytest.mark.parametrize(
    ("name", "guidance_scale"),
    [*((name, 4.0) for name in ALL), ("sdxl", 1.0), ("flux", 1.0), ("z_image", 1.0)],
)
def test_sampling_of_a_family_equals_the_pipeline_of_diffusers(
    family_folders: Folders, name: str, guidance_scale: float
) -> None:
    parts = load_pipeline(family_folders(name), device="cpu")
    sampling = sampling_of(name, guidance_scale=guidance_scale)
    wanted = plain(parts, sampling, None)
    # Half a level of rounding, and float noise: texts are encoded one by one here.
    assert np.abs(pixels(parts, sampling, requests_of()) - wanted).max() <= 0.51
    assert wanted.std() > 1


@pytest.mark.parametrize("name", GUIDED)
def test_sampling_with_a_negative_prompt_equals_the_pipeline_of_diffusers(
    family_folders: Folders, name: str
) -> None:
    parts = load_pipeline(family_folders(name), device="cpu")
    sampling = sampling_of(name)
    got = pixels(parts, sampling, requests_of("a red cat"))
    assert np.abs(got - plain(parts, sampling, "a red cat")).max() <= 0.51
    assert np.abs(got - plain(parts, sampling, None)).max() > 1


@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_guidance_of_a_family_changes_the_picture(family_folders: Folders, name: str) -> None:
    parts = load_pipeline(family_folders(name), device="cpu")
    low, high = (
        pixels(parts, sampling_of(name, guidance_scale=scale), requests_of())
        for scale in (1.5, 9.0)
    )
    assert (low != high).any()


@pytest.mark.parametrize("name", FLOW)
def test_sampler_that_does_not_fit_is_refused_by_name(family_folders: Folders, name: str) -> None:
    parts = load_pipeline(family_folders(name), device="cpu")
    with pytest.raises(ConfigError, match=r"^The sampler ddim does not fit"):
        pixels(parts, sampling_of(name, sampler="ddim"), requests_of())


def test_negative_prompt_of_embedded_guidance_is_refused(family_folders: Folders) -> None:
    parts = load_pipeline(family_folders("flux"), device="cpu")
    with pytest.raises(ConfigError, match="no negative prompts"):
        pixels(parts, sampling_of("flux"), requests_of("a cat"))


@pytest.mark.parametrize("name", FLOW)
def test_size_that_cuts_a_token_is_refused(family_folders: Folders, name: str) -> None:
    parts = load_pipeline(family_folders(name), device="cpu")
    with pytest.raises(ConfigError, match=r"32 x 34 pixels .* sides are multiples of 4"):
        pixels(parts, sampling_of(name), requests_of(height_px=34))


@pytest.mark.parametrize("name", ALL)
def test_edit_of_no_strength_keeps_the_picture_the_autoencoder_gives(
    family_folders: Folders, name: str, tmp_path: Path
) -> None:
    """A masked edit keeps the rest to the bit, a full one moves away from the picture."""
    from PIL import Image

    parts = load_pipeline(family_folders(name), device="cpu")
    drawn = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    mask[:16] = 255
    Image.fromarray(drawn).save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit = Edit(image=tmp_path / "picture.png", mask=tmp_path / "mask.png", strength=0.75)
    (got, _) = pixels(parts, sampling_of(name), requests_of(edit=edit))
    assert (got[16:] == drawn[16:]).all()
    assert (got[:16] != drawn[:16]).any()


def test_size_ids_of_sdxl_are_the_size_of_the_latents(family_folders: Folders) -> None:
    """height, width, no crop, height, width: for each row."""
    seen: list[list[float]] = []
    parts = load_pipeline(family_folders("sdxl"), device="cpu")

    def note(network: Any, args: Any, kwargs: Any) -> None:
        seen.extend(kwargs["added_cond_kwargs"]["time_ids"].tolist())

    parts.unet.register_forward_pre_hook(note, with_kwargs=True)
    pixels(parts, sampling_of("sdxl", num_steps=1, guidance_scale=1.0), requests_of())
    assert seen == [[48, 32, 0, 0, 48, 32]] * 2


def test_digest_of_a_family_covers_all_of_its_folders(
    family_folders: Folders, tmp_path: Path
) -> None:
    import shutil

    from boothline.diffusion.base_model import digest_folder
    from boothline.settings import Settings

    settings = Settings(home=tmp_path / "home")
    for name, part in (("sdxl", "text_encoder_2"), ("sd3", "transformer"), ("flux", "tokenizer_2")):
        copy = shutil.copytree(family_folders(name), tmp_path / name)
        before = digest_folder(copy, settings=settings)
        with (copy / part / "extra.json").open("w") as stream:
            stream.write("{}")
        assert digest_folder(copy, settings=settings) != before, part


@torch.inference_mode()
def test_shift_of_a_dynamic_scheduler_grows_with_the_picture(family_folders: Folders) -> None:
    """The schedule's own times are those of the factor that training shifts by."""
    parts = load_pipeline(family_folders("flux"), device="cpu")
    family: Any = parts.family
    sampling = sampling_of("flux")
    for num_tokens in (16, 400):
        factor = family.shift(parts.scheduler, num_tokens=num_tokens)
        scheduler = family.sampling_scheduler(
            parts.scheduler, sampling, num_tokens=num_tokens, device="cpu"
        )
        plain_levels = torch.tensor(family.sigmas(4))
        wanted = factor * plain_levels / (1 + (factor - 1) * plain_levels)
        torch.testing.assert_close(scheduler.sigmas[:-1], wanted)


def test_distilled_klein_takes_no_guidance_like_the_pipeline_of_diffusers(
    family_folders: Folders,
) -> None:
    parts = load_pipeline(family_folders("klein"), device="cpu")
    distilled = replace(parts, index={**parts.index, "is_distilled": True})
    got = pixels(distilled, sampling_of("klein"), requests_of())
    assert np.abs(got - plain(distilled, sampling_of("klein"), None)).max() <= 0.51
    assert (got != pixels(parts, sampling_of("klein"), requests_of())).any()


@pytest.mark.parametrize("name", ["z_image", "qwen_image"])
def test_picture_does_not_depend_on_the_length_of_its_neighbours_text(
    family_folders: Folders, name: str
) -> None:
    parts = load_pipeline(family_folders(name), device="cpu")
    (first, second), long = requests_of(), "a photo of a very small red cat on the moon"
    alike = pixels(parts, sampling_of(name), [first, second])
    mixed = pixels(parts, sampling_of(name), [first, replace(second, prompt=long)])
    assert (alike[0] == mixed[0]).all()
    assert (alike[1] != mixed[1]).any()
