"""Stable Diffusion 2.x, whose UNet predicts v: trained, exported, loaded by diffusers, sampled."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.export import apply_trained_weights, check_diffusers, save_diffusers
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.sampling import SampleRequest, sample, start_noise
from boothline.store import Store
from boothline.training.job import TrainingJob

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]
PROMPT = "a photo of sks dog"
REQUEST = SampleRequest(prompt=PROMPT, seed=5, index=0, height_px=32, width_px=32)
SAMPLING = SamplingConfig(num_steps=4, batch_size=1, guidance_scale=1.0, sampler="dpmpp_2m")


def ours(parts: DiffusionParts) -> np.ndarray[Any, Any]:
    """Return the pixels that the product samples."""
    (image,) = sample(parts, [REQUEST], sampling=SAMPLING)
    return np.asarray(image).astype(int)


def theirs(folder: Path) -> np.ndarray[Any, Any]:
    """Return the pixels that diffusers samples, from the same noise, as the folder tells it to."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    noise_BCHW = start_noise(load_pipeline(folder), [REQUEST])
    image = pipeline(
        PROMPT, num_inference_steps=4, guidance_scale=1.0, latents=noise_BCHW, output_type="pil"
    ).images[0]
    assert isinstance(image, Image.Image)
    return np.asarray(image).astype(int)


@pytest.mark.proves("F21/v", "F26/sd2")
def test_model_that_predicts_v_is_trained_exported_and_sampled(
    make_job: JobMaker, run_here: Runner, store: Store, tiny_sd2: Path, tmp_path: Path
) -> None:
    job = make_job(num_steps=3)
    result = run_here(job.model_copy(update={"base_model": tiny_sd2}))
    state = store.fetch(result["final_state"], tmp_path / "state")
    parts = load_pipeline(tiny_sd2)
    base = ours(parts)
    trained = apply_trained_weights(parts, state)
    folder = tmp_path / "export"
    save_diffusers(parts, folder, base=tiny_sd2, trained=trained)
    check_diffusers(folder, parts, prompt=PROMPT)

    loaded = load_pipeline(folder)
    weights = load_file(state / "unet.safetensors")
    assert all(torch.equal(loaded.unet.state_dict()[name], w) for name, w in weights.items())
    assert abs(ours(loaded) - base).max() > 0
    assert abs(ours(loaded) - theirs(folder)).max() <= 1


@pytest.mark.proves("F21/v")
def test_model_that_predicts_v_is_trained_towards_v(
    make_job: JobMaker, run_here: Runner, tiny_sd2: Path, tmp_path: Path
) -> None:
    """The same weights with epsilon in their schedule's configuration have another loss."""
    other = shutil.copytree(tiny_sd2, tmp_path / "epsilon")
    schedule = other / "scheduler/scheduler_config.json"
    values = json.loads(schedule.read_text())
    schedule.write_text(json.dumps({**values, "prediction_type": "epsilon"}))
    losses = []
    for number, base in enumerate((tiny_sd2, other)):
        job = make_job(f"training/{number}", num_steps=1).model_copy(update={"base_model": base})
        run_here(job)
        losses.append(json.loads((job.folder / "curve.jsonl").read_text())["instance_loss"])
    assert abs(losses[0] - losses[1]) > 0.01
