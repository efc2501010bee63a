"""Training states: what they hold, how they become files, and how a training takes one over.

Weights, optimizer and weight average are separate safetensors files, so that an export never
carries optimizer state; everything else is JSON. Nothing is pickled. No generator state is needed:
all draws are named by counters.
"""

import json
import logging
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file

import boothline
from boothline.errors import ConfigError
from boothline.results import TrainingState
from boothline.store import ManifestDraft
from boothline.store.manifest import canonical_json, files_under
from boothline.training.denoiser import Denoiser
from boothline.training.job import TrainingJob
from boothline.training.optimizing import WeightAverage

logger = logging.getLogger(__name__)


_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors of any layout and device to a new file; equal tensors give equal bytes.

    The library's own writer wants all tensors of a file contiguous in host memory at once. The
    format is a header of JSON, its length as 8 bytes before it, and the tensors' bytes behind it
    (https://github.com/huggingface/safetensors#format).

    Args:
        path: the file.
        tensors: by name.

    Raises:
        OSError: it cannot be written, e.g. because no space is left.
        KeyError: a tensor's type is none that the format knows.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("xb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            flat = tensor.detach().to("cpu").contiguous().reshape(-1)
            stream.write(flat.view(torch.uint8).numpy().data)


OPTIMIZER_FILE = "optimizer.safetensors"
OPTIMIZER_SETTINGS_FILE = "optimizer.json"
AVERAGE_FILE = "ema.safetensors"
STATE_FILE = "state.json"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A training state in host memory, independent of the training that continues.

    Its tensors lie in buffers that the training's next snapshot fills again; those of a training
    that has ended are its own.

    Attributes:
        step: optimizer steps taken.
        tensors: tensors by name, by the name of their file.
        documents: JSON and text files by name, as bytes.
        metadata: facts for the manifest.
    """

    step: int
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    documents: Mapping[str, bytes]
    metadata: Mapping[str, Any]

    def draft(self, folder: Path) -> ManifestDraft:
        """Write the snapshot under an empty folder and return it as a manifest draft."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, tensors in self.tensors.items():
            write_tensors(folder / name, tensors)
        files: dict[str, Path | bytes] = dict(files_under(folder))
        state = TrainingState.model_validate(self.metadata)
        return state.draft({**files, **self.documents})


class HostBuffers:
    """Host memory that is filled again and again, so that a snapshot takes no fresh pages."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], torch.Tensor] = {}
        self._from_device = False

    def fill(self, file: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        """Return contiguous copies of a file's tensors, good until the file is filled again.

        Copies from an accelerator may still be under way: `settle` waits for them.
        """
        copies = {}
        for name, tensor in tensors.items():
            buffer = self._buffers.get((file, name))
            on_device = tensor.device.type == "cuda"
            self._from_device |= on_device
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_device)
                self._buffers[file, name] = buffer
            copies[name] = buffer.copy_(tensor.detach(), non_blocking=True)
        return copies

    def settle(self) -> None:
        """Wait until all copies have arrived."""
        if self._from_device:
            torch.cuda.synchronize()


@dataclass(frozen=True, kw_only=True)
class TrainedParts:
    """The parts of a training that change from step to step.

    Attributes:
        denoiser: the trained networks, unwrapped.
        optimizer: the torch optimizer, unwrapped.
        average: the weight average, if any.
        scaler: the loss scaler of fp16, if any.
        buffers: where snapshots are kept.
    """

    denoiser: Denoiser
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    scaler: torch.amp.GradScaler | None = None
    buffers: HostBuffers = field(default_factory=HostBuffers)

    def snapshot(
        self,
        step: int,
        *,
        job: TrainingJob,
        documents: Mapping[str, bytes] | None = None,
        goes_on: bool = True,
    ) -> Snapshot:
        """Copy everything to host memory; the snapshot before must not be in use any more.

        Args:
            step: optimizer steps taken.
            job: whose state this is.
            documents: further files, e.g. the curve so far.
            goes_on: the training changes its tensors again; else they are taken as they are.
        """
        slots, settings = _optimizer_state(self.optimizer)
        present: dict[str, Mapping[str, torch.Tensor]] = {
            **self.denoiser.trained_weights(),
            OPTIMIZER_FILE: slots,
        }
        if self.average is not None:
            present[AVERAGE_FILE] = self.average.averages
        tensors = present
        if goes_on:
            tensors = {file: self.buffers.fill(file, present[file]) for file in present}
            self.buffers.settle()
        facts: dict[str, Any] = {
            "step": step,
            "world_size": job.world_size,
            "accumulation": job.config.training.accumulation,
            "method": job.config.training.method,
            "networks": sorted(self.denoiser.networks()),
            "averaged": self.average is not None,
            "identity": job.identity,
        }
        if job.config.training.method == "lora":
            facts["lora"] = job.config.training.lora.model_dump(mode="json")
        scaler = self.scaler.state_dict() if self.scaler is not None else {}
        state = {**facts, "versions": versions(), "scaler": scaler}
        if job.config.training.shard_frozen:
            state["shard_frozen"] = True
        return Snapshot(
            step=step,
            tensors=tensors,
            documents={
                STATE_FILE: canonical_json(state),
                OPTIMIZER_SETTINGS_FILE: canonical_json(settings),
                **(documents or {}),
            },
            metadata=facts,
        )

    def restore(self, folder: Path, *, job: TrainingJob) -> int:
        """Take over the state in a folder of verified files.

        Returns:
            The optimizer steps it has behind it.

        Raises:
            ConfigError: the state belongs to other data, settings or another base model.
        """
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        _check_identity(state, job)
        self.denoiser.take_over(
            {file: load_file(folder / file) for file in self.denoiser.trained_weights()}
        )
        settings = json.loads((folder / OPTIMIZER_SETTINGS_FILE).read_text(encoding="utf-8"))
        _restore_optimizer(self.optimizer, load_file(folder / OPTIMIZER_FILE), settings)
        if self.average is not None:
            self.average.restore(load_file(folder / AVERAGE_FILE))
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        return int(state["step"])


def versions() -> dict[str, str]:
    """Return the versions of all that decides the bits of a training."""
    packages = {
        name: version(name) for name in ("accelerate", "diffusers", "torch", "transformers")
    }
    return {
        "boothline": boothline.__version__,
        "python": platform.python_version(),
        **packages,
    }


def _check_identity(state: Mapping[str, Any], job: TrainingJob) -> None:
    """Refuse a state of another job; warn when only the ranks or the software differ."""
    training = job.config.training
    cut = {
        "world_size": state["world_size"],
        "accumulation": state.get("accumulation", training.accumulation),
        "shard_frozen": state.get("shard_frozen", False),
    }
    present = {
        "world_size": job.world_size,
        "accumulation": training.accumulation,
        "shard_frozen": training.shard_frozen,
    }
    if cut != present:
        logger.warning(
            "the training state was made with the work cut otherwise (%s); it continues with %s: "
            "the result may differ by rounding",
            cut,
            present,
        )
    for name, digest in job.identity_as(**cut).items():
        found = state["identity"].get(name)
        if found != digest:
            raise ConfigError(
                f"The training state {job.state_path(state['step'])} was made with another "
                f"{name.replace('_', ' ')} ({str(found)[:12]} instead of {digest[:12]}).",
                remedy="Start a new training, or restore the former settings and pictures.",
            )
    if state["versions"] != versions():
        logger.warning(
            "the training state was made by %s, this is %s: the result may differ by rounding",
            state["versions"],
            versions(),
        )


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """Return the optimizer's tensors as `<parameter>/<slot>`, and all other values as JSON.

    The others are the settings of the groups, in which Prodigy keeps its estimates too, and slots
    that are plain numbers, such as counts of steps.
    """
    tensors: Tensors = {}
    numbers: dict[str, float] = {}
    groups = []
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for slot, value in optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{name}/{slot}"] = value
                else:
                    numbers[f"{name}/{slot}"] = value
        groups.append({key: value for key, value in group.items() if _is_kept(key, value)})
    settings: dict[str, Any] = {"optimizer": type(optimizer).__name__.lower(), "groups": groups}
    if numbers:
        settings["slots"] = numbers
    return tensors, settings


def _is_kept(key: str, value: object) -> bool:
    """Return whether a group's value goes into JSON: an infinite one is a setting, not a state."""
    return key != "params" and not (isinstance(value, float) and math.isinf(value))


def _restore_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
) -> None:
    """Put a stored state back into the optimizer."""
    owners: dict[str, torch.nn.Parameter] = {}
    for group, stored in zip(optimizer.param_groups, settings["groups"], strict=True):
        owners.update(zip(group["names"], group["params"], strict=True))
        for key, value in stored.items():
            # The names are the same, and a list stands for a tuple such as the betas.
            if not isinstance(value, list):
                group[key] = value
    for place, slot_value in {**tensors, **settings.get("slots", {})}.items():
        name, _, slot = place.rpartition("/")
        parameter = owners[name]
        if isinstance(slot_value, torch.Tensor):
            optimizer.state[parameter][slot] = _beside(parameter, slot_value)
        else:
            optimizer.state[parameter][slot] = slot_value


def _beside(parameter: torch.nn.Parameter, value: torch.Tensor) -> torch.Tensor:
    """Return a stored tensor on the parameter's device, in the parameter's layout in memory."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
