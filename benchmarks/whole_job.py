"""`make bench-job PEER=...`: from pictures to a published model, against diffusers' script.

Both sample class pictures, train with prior preservation and write a model that diffusers loads.
Ours is `boothline run`, from its start to the end of publish_checkpoint; what comes after (scores,
gate, pictures) the peer has not. The services are up before, the store is empty each time. The peer
is `accelerate launch train_dreambooth.py` to its end. Runs alternate.

`equal`: the same class pictures (PNDM, 50 steps, guidance 7.5, batches of 4), steps, batches,
learning rate, precision and trained text encoder. `defaults`: the same numbers of class pictures
and steps, all else as each side has it.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import measure, middle, print_table, tell
from benchmarks.training_task import (
    BATCH_SIZE,
    MODEL,
    NEVER,
    SIDE_PX,
    Task,
    environment,
    peer_command,
    peer_launch,
)
from boothline import services
from boothline.launch.local.session import existing_session
from boothline.runs import read_steps

SCRIPT = Path("examples/dreambooth/train_dreambooth.py")
SIDES = ("ours", "peer")
STEPS = ("generate_prior", "train", "publish_checkpoint")
_PROGRAM = [sys.executable, "-m", "boothline.cli.app"]
_SUBJECT = Path(__file__).resolve().parents[1] / "examples" / "subjects" / "teddy-bear"
_PEERS_SAMPLER = {"sampler": "pndm", "num_steps": 50, "guidance_scale": 7.5, "batch_size": 4}
_EQUAL: Mapping[str, Any] = {
    "prior": {"sampling": _PEERS_SAMPLER, "prompt": "a photo of a {class}", "num_shards": 1},
    "training": {
        "batch_size": BATCH_SIZE,
        "num_processes": 1,
        "train_text_encoder": True,
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "sample_every_steps": 0,
    },
    "checkpoints": {"every_steps": NEVER},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    options = _parser().parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="boothline-bench-") as scratch:
        for name in options.settings:
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            parts: list[dict[str, float]] = []
            for pair in range(options.pairs):
                for side in SIDES if pair % 2 == 0 else reversed(SIDES):
                    if side == "ours":
                        took, of_steps = _ours(name, options, Path(scratch))
                        parts.append(of_steps)
                    else:
                        took = _peer(name, options, Path(scratch))
                    seconds[side].append(took)
                    tell(f"{name}: {side} {took:.1f} s")
            precision = options.precision if name == "equal" else "fp32"
            rows.append(_row(f"{name}, {precision}", seconds, parts))
            tell(str(rows[-1]))
    print_table("Whole job, tiny base: ours against diffusers' train_dreambooth.py", rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="checkout of diffusers")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps")
    parser.add_argument("--class-pictures", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side")
    parser.add_argument(
        "--settings", nargs="+", default=["equal", "defaults"], choices=("equal", "defaults")
    )
    parser.add_argument(
        "--precision", default="fp32", choices=("fp32", "bf16"), help="of both, at equal settings"
    )
    parser.add_argument("--torchvision", default="", help="folder that holds torchvision")
    return parser


def _config(name: str, options: argparse.Namespace, pictures: Path) -> dict[str, dict[str, Any]]:
    """Return our settings; what comes after the model is kept short."""
    sections: dict[str, dict[str, Any]] = {
        section: dict(values) for section, values in (_EQUAL if name == "equal" else {}).items()
    }
    if name == "equal":
        sections["training"]["precision"] = options.precision
        sections["prior"]["sampling"] = {**_PEERS_SAMPLER, "precision": options.precision}
    more: dict[str, dict[str, Any]] = {
        "subject": {"name": "bench", "images": str(pictures), "class_noun": "bear"},
        "prior": {"num_images": options.class_pictures},
        "training": {"num_steps": options.steps},
        "evaluation": {"prompts": ["a {subject}"], "sampling": {"num_steps": 1}},
        "inference": {"sampling": {"num_steps": 1}},
    }
    for section, values in more.items():
        sections.setdefault(section, {}).update(values)
    return sections


def _pictures(scratch: Path) -> Path:
    """Return a folder with the subject's pictures alone: the peer would open captions, too."""
    folder = scratch / "pictures"
    folder.mkdir(exist_ok=True)
    for file in _SUBJECT.glob("*.jpg"):
        shutil.copy(file, folder)
    return folder


def _ours(name: str, options: argparse.Namespace, scratch: Path) -> tuple[float, dict[str, float]]:
    """Run ours once in a new home; return its seconds, and those of the steps."""
    home, file = scratch / "home", scratch / "run.yaml"
    file.write_text(json.dumps(_config(name, options, _pictures(scratch))))  # which is YAML, too
    services.ensure(home)
    command = [*_PROGRAM, "run", str(file), "--home", str(home)]
    try:
        measured = measure(command, environment=environment(threads=options.threads))
        run_id = max(path.name for path in (home / "runs").glob("*"))
        with existing_session(home) as session:
            records = read_steps(session.store, run_id)
    finally:
        services.stop(home)
        shutil.rmtree(home)
    (published,) = (record for record in records if record.step == STEPS[-1])
    of_steps = dict.fromkeys(STEPS, 0.0)
    for step in STEPS:  # shards run side by side
        own = [record for record in records if record.step == step]
        begun = min(record.started_at for record in own)
        of_steps[step] = max(record.started_at + record.seconds for record in own) - begun
    return published.started_at + published.seconds - measured.started, of_steps


def _peer(name: str, options: argparse.Namespace, scratch: Path) -> float:
    """Run the peer's script once, with no class pictures yet; return its seconds."""
    classes, output = scratch / "peer-classes", scratch / "peer-output"
    script = options.peer / SCRIPT
    given: dict[str, object] = {
        "pretrained_model_name_or_path": MODEL,
        "instance_data_dir": _pictures(scratch),
        "class_data_dir": classes,
        "instance_prompt": "a photo of sks bear",
        "class_prompt": "a photo of a bear",
        "num_class_images": options.class_pictures,
        "resolution": SIDE_PX,
        "max_train_steps": options.steps,
        "output_dir": output,
    }
    if name == "equal":
        task = Task(scratch, precision=options.precision, train_text_encoder=True)
        given["prior_generation_precision"] = options.precision
        command = peer_command(
            task, script=script, num_steps=options.steps, output=output, other=given
        )
    else:
        command = peer_launch(script, given)
    surroundings = environment(threads=options.threads, more={"PYTHONPATH": options.torchvision})
    try:
        return measure(command, environment=surroundings).seconds
    finally:
        for folder in (classes, output):
            shutil.rmtree(folder, ignore_errors=True)


def _row(
    name: str, seconds: Mapping[str, Sequence[float]], parts: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return the table's row of one choice of settings."""
    ratios = [peer / ours for ours, peer in zip(seconds["ours"], seconds["peer"], strict=True)]
    return {
        "settings": name,
        "ours s": middle(seconds["ours"]),
        **{f"of it {step}": middle([one[step] for one in parts]) for step in STEPS},
        "peer s": middle(seconds["peer"]),
        "speed ratio": middle(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


if __name__ == "__main__":
    main()
