"""`make bench-memory-saving`: what freezing parts of the model saves, planned and measured.

Planned for Stable Diffusion 1.5 and the tiny base on tensors without memory; measured on the tiny
base, CPU.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.measuring import print_table, tell
from benchmarks.memory_plan import peak_bytes
from benchmarks.training_task import Task, config_of, draw_pictures
from boothline import services
from boothline.config import RunConfig
from boothline.planning import ModelShapes, plan_memory
from boothline.planning.dry_run import Recorder
from boothline.planning.memory import OPTIMIZER_BYTES
from boothline.planning.shapes import FAMILIES

PROVES = ("F09/measured",)
NUM_STEPS = 8
SD15_PX: Final = 512
ALL: Final = "autoencoder, text encoder and UNet trained"
CASES: Final[Mapping[str, Mapping[str, Any]]] = {
    "autoencoder frozen": {},
    "autoencoder and text encoder frozen": {"train_text_encoder": False},
    "autoencoder and text encoder frozen, nothing cached": {
        "train_text_encoder": False,
        "caches": False,
    },
    "LoRA on UNet and text encoder": {"method": "lora"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planned-only", action="store_true", help="leave the trainings out")
    options = parser.parse_args(arguments)
    for batch_size in (1, 4):
        title = f"Stable Diffusion 1.5, {SD15_PX} px, fp32, AdamW, {batch_size} + {batch_size}"
        print_table(f"{title}, planned on CUDA", planned_sd15(batch_size))
    if not options.planned_only:
        print_table("Tiny base, 64 px, 4 + 4, measured on a CPU", measured_tiny())


def planned_sd15(batch_size: int) -> list[dict[str, Any]]:
    """Return a row for each case: the peak in GiB, and what it saves against training all.

    Args:
        batch_size: instance pictures a step; as many class pictures.
    """
    shapes = FAMILIES["sd15"]
    plans = {
        name: plan_memory(_sd15_config(batch_size, training), shapes, device="cuda").total
        for name, training in CASES.items()
    }
    whole = plans["autoencoder frozen"] + autoencoder_bytes(shapes, num_pictures=2 * batch_size)
    return _rows({ALL: whole, **plans}, unit="GiB")


def autoencoder_bytes(shapes: ModelShapes, *, num_pictures: int) -> int:
    """Return what training the autoencoder too would take on top.

    Its weights, which otherwise leave the memory, gradients, AdamW's states, and what autograd
    keeps of an encoding: the product never does this, so it is only counted.

    Args:
        shapes: of the model.
        num_pictures: pictures that are encoded at once.
    """
    with FakeTensorMode():
        settings = {k: v for k, v in shapes.configs["vae"].items() if not k.startswith("_")}
        autoencoder = AutoencoderKL.from_config(settings).requires_grad_(True)
        recorder = Recorder(autoencoder)
        side_px = SD15_PX if shapes is FAMILIES["sd15"] else 64
        with recorder.recording():
            encoded = autoencoder.encode(torch.zeros(num_pictures, 3, side_px, side_px))
            encoded.latent_dist.parameters.pow(2).mean()
        num_weights = sum(weight.numel() for weight in autoencoder.parameters())
    states = OPTIMIZER_BYTES["adamw"] * num_weights
    return int(4 * num_weights + states + recorder.trace.peak_bytes(gradients_allocated=True))


def measured_tiny() -> list[dict[str, Any]]:
    """Train the tiny base in each case and return a row for each: the peak in MiB."""
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="boothline-bench-") as scratch:
        home, pictures = Path(scratch) / "home", Path(scratch) / "pictures"
        draw_pictures(pictures)
        settings = services.ensure(home, only=("seaweedfs",)).settings()
        try:
            for number, (name, training) in enumerate(CASES.items()):
                task = Task(pictures, precision="fp32", train_text_encoder=True)
                config = config_of(
                    task, num_steps=NUM_STEPS, extra=training, state_every=NUM_STEPS // 2
                )
                folder = Path(scratch) / f"job-{number}"
                folder.mkdir()
                peaks[name] = peak_bytes(config, task=task, folder=folder, settings=settings)
                tell(f"{name}: {peaks[name] / 2**20:.0f} MiB")
        finally:
            services.stop(home)
    return _rows(peaks, unit="MiB")


def _sd15_config(batch_size: int, training: Mapping[str, Any]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "subject": {"resolution_px": SD15_PX},
            "training": {"batch_size": batch_size, "num_processes": 1, **training},
        }
    )


def _rows(peaks: Mapping[str, int], *, unit: str) -> list[dict[str, Any]]:
    """Return a row for each peak; the first is what the others are compared with."""
    first = next(iter(peaks.values()))
    divisor = 2**30 if unit == "GiB" else 2**20
    return [
        {
            "training": name,
            f"peak {unit}": round(peak / divisor, 1),
            "saved %": round(100 * (first - peak) / first, 1),
        }
        for name, peak in peaks.items()
    ]


if __name__ == "__main__":
    main()
