"""Runs a training script of diffusers as it is, and records what each of its steps took.

    python -m peer.recording RECORD SCRIPT ARGUMENTS

RECORD receives, by `torch.save`, the trained weights before the first and after the last step, and
for each step the scaled latents, the noise, the timestep as the denoiser got it, and the loss. The
script is not changed: only functions that it calls in its libraries are listened to.
"""

import inspect
import sys
from functools import wraps
from typing import Any

import diffusers
import torch
from accelerate import Accelerator

from benchmarks.peer import run_script

DENOISERS = (
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "Flux2Transformer2DModel",
    "ZImageTransformer2DModel",
    "QwenImageTransformer2DModel",
)
TIMESTEP = {"ZImageTransformer2DModel": "t"}


class Recorder:
    """What a script has done so far."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.start: dict[str, torch.Tensor] = {}
        self._now: dict[str, Any] = {}
        self._denoiser: torch.nn.Module | None = None

    def noise(self, latents: torch.Tensor, noise: torch.Tensor) -> None:
        """Note a draw in the shape of latents: the scripts make no other."""
        if latents.dim() in (4, 5):
            self._now.update(latents=latents.detach().clone(), noise=noise.detach().clone())

    def forward(self, denoiser: torch.nn.Module, timestep: torch.Tensor) -> None:
        """Note the timestep of a pass, and the weights before the first."""
        if self._denoiser is None:
            self._denoiser = denoiser
            self.start = self.trained()
        self._now["timestep"] = timestep.detach().clone()

    def loss(self, loss: torch.Tensor) -> None:
        """Note the loss of a step, which ends it."""
        self.steps.append({**self._now, "loss": float(loss)})

    def trained(self) -> dict[str, torch.Tensor]:
        """Return the adapters as they are now."""
        assert self._denoiser is not None, "the script has trained no known denoiser"
        weights = self._denoiser.named_parameters()
        return {name: w.detach().clone() for name, w in weights if "lora_" in name}


def listen(recorder: Recorder) -> None:
    """Let a recorder hear of draws, passes and losses."""
    draw, backward = torch.randn_like, Accelerator.backward

    def randn_like(like: torch.Tensor, **settings: Any) -> torch.Tensor:
        drawn = draw(like, **settings)
        recorder.noise(like, drawn)
        return drawn

    def backward_of(self: Accelerator, loss: torch.Tensor, **settings: Any) -> None:
        recorder.loss(loss)
        backward(self, loss, **settings)

    torch.randn_like = randn_like  # type: ignore[assignment]
    Accelerator.backward = backward_of  # type: ignore[method-assign]
    for name in DENOISERS:
        _listen_to(getattr(diffusers, name), TIMESTEP.get(name, "timestep"), recorder)


def _listen_to(denoiser: Any, argument: str, recorder: Recorder) -> None:
    forward = denoiser.forward
    signature = inspect.signature(forward)

    @wraps(forward)
    def heard(self: Any, *arguments: Any, **named: Any) -> Any:
        if self.training:
            given = signature.bind(self, *arguments, **named).arguments
            recorder.forward(self, given[argument])
        return forward(self, *arguments, **named)

    denoiser.forward = heard


def main() -> None:
    """Run the script named second with the arguments that follow."""
    record, script, *arguments = sys.argv[1:]
    recorder = Recorder()
    listen(recorder)
    run_script(script, arguments)
    found = {"start": recorder.start, "end": recorder.trained(), "steps": recorder.steps}
    torch.save(found, record)


if __name__ == "__main__":
    main()
