"""Our training beside diffusers' own scripts: equal latents, noise and timesteps, equal losses.

The scripts run as they are, from a checkout (BOOTHLINE_PEER), on the tiny folder of each family;
what they drew is then given to our training, whose losses and weights have to be theirs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import family_fixtures
import model_fixtures
import numpy as np
import pytest
import torch
from family_fixtures import MAKERS
from PIL import Image
from reference.comparing import distance
from reference.product import run_one_rank
from safetensors.torch import load_file

from boothline.config import RunConfig
from boothline.training import assembly
from boothline.training.batches import BatchMaker, MicroBatch
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.training.stepping import Stepper

pytestmark = pytest.mark.peer

NUM_STEPS = 10
SIDE_PX = 32
RATE = 1e-2
PRIOR_WEIGHT = 0.6
INSTANCE, CLASS = "a photo of sks dog", "a photo of dog"
LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 1e-3  # of the way that they went: ten steps of rounding in float32
Tensor = torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A script of diffusers, and how its conventions become ours.

    Attributes:
        script: its name after `train_dreambooth_lora`.
        settings: what it is told beside what all are.
        timesteps: of ours, from what its denoiser got.
        latents: of ours, from its own.
        has_prior: whether class pictures take part.
    """

    script: str
    settings: tuple[str, ...] = ()
    timesteps: Callable[[Tensor], Tensor] = lambda given: given
    latents: Callable[[Tensor], Tensor] = lambda given: given
    has_prior: bool = True

    @property
    def is_flow(self) -> bool:
        """Whether its family matches flows."""
        return self.script not in ("", "_sdxl")


def _in_thousandths(given: Tensor) -> Tensor:
    return given * 1000


def _spread(given: Tensor) -> Tensor:
    """Undo the packing of two by two places into channels."""
    count, channels, height, width = given.shape
    parts = given.view(count, channels // 4, 2, 2, height, width)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(count, channels // 4, 2 * height, 2 * width)


FLOW = ("--weighting_scheme", "none")
ATTENTION = "to_k,to_q,to_v,to_out.0"
TEXT_ATTENTION = f"{ATTENTION},add_k_proj,add_q_proj,add_v_proj,to_add_out"
PEERS = {
    "sd1": Peer(script=""),
    "sdxl": Peer(script="_sdxl"),
    "sd3": Peer(
        script="_sd3",
        settings=(
            *("--weighting_scheme", "logit_normal", "--precondition_outputs", "0"),
            *("--max_sequence_length", "32", "--lora_layers", TEXT_ATTENTION),
        ),
    ),
    "flux": Peer(
        script="_flux",
        settings=(*FLOW, "--max_sequence_length", "32", "--lora_layers", TEXT_ATTENTION),
        timesteps=_in_thousandths,
    ),
    "klein": Peer(
        script="_flux2_klein",
        settings=(
            *(*FLOW, "--skip_final_inference", "--max_sequence_length", "64"),
            # Its default, 10 20 30, is not what the released pipeline reads.
            *("--text_encoder_out_layers", "9", "18", "27"),
            *("--lora_layers", f"{TEXT_ATTENTION},to_qkv_mlp_proj"),
        ),
        timesteps=_in_thousandths,
        latents=_spread,
    ),
    "z_image": Peer(
        script="_z_image",
        settings=(*FLOW, "--skip_final_inference"),
        timesteps=lambda given: 1000 - given * 1000,
        has_prior=False,  # with one, the script joins a list to a tensor, and ends
    ),
    "qwen_image": Peer(
        script="_qwen_image",
        settings=(*FLOW, "--skip_final_inference"),
        timesteps=_in_thousandths,
        latents=lambda given: given.squeeze(2),
    ),
}


def write_picture(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Pictures of the subject and of its class, one of each, with their captions beside them."""
    made = {}
    for seed, (name, caption) in enumerate({"instance": INSTANCE, "class": CLASS}.items()):
        made[name] = tmp_path / name
        write_picture(made[name] / "images" / "0.png", seed=seed)
        row = {"image": "images/0.png", "caption": caption}
        (made[name] / "captions.jsonl").write_text(json.dumps(row) + "\n")
    return made


def base_of(family: str, folder: Path) -> Path:
    """Make a tiny model whose CLIP reads 77 tokens: some scripts ask for that many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (family_fixtures, model_fixtures):
            patch.setattr(module, "NUM_TOKENS", 77)
        return MAKERS[family](folder)


def recorded(peer: Peer, *, base: Path, folders: dict[str, Path], scratch: Path) -> dict[str, Any]:
    """Run a script of diffusers and return what it did."""
    checkout = Path(os.environ["BOOTHLINE_PEER"])
    script = checkout / "examples" / "dreambooth" / f"train_dreambooth_lora{peer.script}.py"
    prior = (
        "--with_prior_preservation", "--class_data_dir", str(folders["class"] / "images"),
        "--class_prompt", CLASS, "--num_class_images", "1",
        "--prior_loss_weight", str(PRIOR_WEIGHT),
    )  # fmt: skip
    command = [
        sys.executable, "-m", "peer.recording", str(scratch / "record.pt"), str(script),
        "--pretrained_model_name_or_path", str(base),
        "--instance_data_dir", str(folders["instance"] / "images"),
        "--instance_prompt", INSTANCE, "--output_dir", str(scratch / "peer"),
        "--resolution", str(SIDE_PX), "--rank", "2", "--train_batch_size", "1",
        "--max_train_steps", str(NUM_STEPS), "--learning_rate", str(RATE), "--lr_scheduler",
        "constant", "--lr_warmup_steps", "0", "--adam_weight_decay", "1e-4", "--seed", "1",
        "--mixed_precision", "no", "--checkpointing_steps", "1000", *peer.settings,
        *(prior if peer.has_prior else ()),
    ]  # fmt: skip
    tests = Path(__file__).parents[1]
    paths = [tests, tests.parent, os.environ["BOOTHLINE_TORCHVISION"]]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(scratch / "record.pt", weights_only=True)


def job_of(peer: Peer, *, base: Path, folders: dict[str, Path], scratch: Path) -> TrainingJob:
    """Return the same training as a job of ours."""
    sampling = {"num_steps": 1, "batch_size": 1, "sampler": "euler" if peer.is_flow else "ddim"}
    config = {
        "subject": {"resolution_px": SIDE_PX, "class_noun": "dog"},
        "training": {
            "num_steps": NUM_STEPS, "batch_size": 1, "num_processes": 1, "warmup_steps": 0,
            "sample_every_steps": 0, "method": "lora", "learning_rate": RATE,
            "lora": {"rank": 2, "alpha": _alpha(peer)}, "weight_decay": 1e-4,
            "max_grad_norm": 1.0, "train_text_encoder": False,
        },
        "prior": {"enabled": peer.has_prior, "weight": PRIOR_WEIGHT, "sampling": sampling},
        "evaluation": {"prompts": ["a {subject}"], "sampling": sampling},
        "inference": {"sampling": sampling},
    }  # fmt: skip
    (scratch / "ours").mkdir()
    return TrainingJob(
        config=RunConfig.model_validate(config),
        world_size=1,
        base_model=base,
        base_model_digest="base",
        pictures=(
            SubjectFolders(
                instance=folders["instance"], priors=(folders["class"],) if peer.has_prior else ()
            ),
        ),
        data_digest="data",
        states="training/job",
        folder=scratch / "ours",
    )


def _alpha(peer: Peer) -> float:
    """Return alpha as the script has it: the rank, or 4 where it is a setting of its own."""
    return 2.0 if peer.script in ("", "_sdxl", "_sd3") else 4.0


@contextmanager
def given(record: dict[str, Any], peer: Peer) -> Iterator[list[float]]:
    """Let our training start from their weights and take their draws; yield our losses."""
    make, trained, take = BatchMaker.make, assembly.add_adapters, Stepper.take
    losses: list[float] = []

    def batch(self: BatchMaker, step: int, *, slots: range) -> MicroBatch:
        theirs = record["steps"][step]
        return replace(
            make(self, step, slots=slots),
            latents_BCHW=peer.latents(theirs["latents"]),
            noise_BCHW=peer.latents(theirs["noise"]),
            timesteps_B=peer.timesteps(theirs["timestep"]),
        )

    def adapters(parts: Any, lora: Any, **settings: Any) -> list[str]:
        names = trained(parts, lora, **settings)
        own = {name: w for name, w in parts.denoiser.named_parameters() if w.requires_grad}
        assert own.keys() == record["start"].keys()
        for name, weight in own.items():
            weight.data.copy_(record["start"][name])
        return names

    def taken(self: Stepper, step: int, **settings: Any) -> Any:
        result = take(self, step, **settings)
        instance, prior = result.sums.tolist()
        losses.append(instance + PRIOR_WEIGHT * prior)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchMaker, "make", batch)
        patch.setattr(assembly, "add_adapters", adapters)
        patch.setattr(Stepper, "take", taken)
        yield losses


@pytest.mark.proves("F26/peer")
@pytest.mark.parametrize("family", PEERS)
def test_ten_steps_have_the_losses_and_end_at_the_weights_of_the_peers_script(
    folders: dict[str, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    family: str,
) -> None:
    peer, base = PEERS[family], base_of(family, tmp_path / "base")
    record = recorded(peer, base=base, folders=folders, scratch=tmp_path)
    job = job_of(peer, base=base, folders=folders, scratch=tmp_path)
    with given(record, peer) as losses:
        run_one_rank(job)
    theirs = [step["loss"] for step in record["steps"]]
    loss_error = max(abs(ours / one - 1) for ours, one in zip(losses, theirs, strict=True))
    (file,) = (job.folder / "states" / str(NUM_STEPS)).glob("*_lora.safetensors")
    weight_error = distance(load_file(file), record["end"], start=record["start"])
    record_property(f"{family} loss error", loss_error)
    record_property(f"{family} weight error", weight_error)
    assert loss_error <= LOSS_TOLERANCE
    assert weight_error <= WEIGHT_TOLERANCE
