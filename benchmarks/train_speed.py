"""`make bench-train PEER=...`: our training against diffusers' train_dreambooth.py, in pairs.

Each side runs with two numbers of steps; the difference is free of start-up. Runs alternate, so
that a slower minute of the machine meets both.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import Measurement, measure, middle, print_table, tell
from benchmarks.training_task import (
    Task,
    config_of,
    draw_pictures,
    environment,
    our_command,
    peer_command,
)
from boothline import services

SCRIPT = Path("examples/dreambooth/train_dreambooth.py")
SIDES = ("ours", "peer")
Runs = dict[tuple[str, int], list[Measurement]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    options = _parser().parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="boothline-bench-") as scratch:
        home = Path(scratch) / "home"
        pictures = Path(scratch) / "pictures"
        draw_pictures(pictures)
        endpoints = services.ensure(home, only=("seaweedfs",))
        more = endpoints.environment()
        try:
            for precision in options.precisions:
                for text_encoder in options.text_encoder:
                    task = Task(
                        pictures, precision=precision, train_text_encoder=text_encoder == "trained"
                    )
                    runs = _interleaved(task, options=options, more=more, scratch=Path(scratch))
                    rows.append(_row(task, runs, options=options))
                    tell(str(rows[-1]))
        finally:
            services.stop(home)
    print_table("Training, tiny base: ours against diffusers' train_dreambooth.py", rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="checkout of diffusers")
    parser.add_argument("--steps", type=int, nargs=2, default=(10, 50), help="both step counts")
    parser.add_argument("--pairs", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side")
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument(
        "--text-encoder", nargs="+", default=["frozen", "trained"], choices=("frozen", "trained")
    )
    parser.add_argument("--compile", action="store_true", help="with training.compile on our side")
    parser.add_argument("--torchvision", default="", help="folder that holds torchvision")
    return parser


def _interleaved(
    task: Task, *, options: argparse.Namespace, more: dict[str, str], scratch: Path
) -> Runs:
    """Return the measurements of both sides for both numbers of steps."""
    runs: Runs = {}
    ours = environment(threads=options.threads, more=more)
    surroundings = {"ours": ours, "peer": ours | {"PYTHONPATH": options.torchvision}}
    if options.compile:  # once, into the compiler's cache
        first = config_of(task, num_steps=options.steps[0], extra={"compile": True})
        tell(f"compiling: {measure(our_command(task, first), environment=ours).seconds:.1f} s")
    for pair in range(options.pairs):
        for num_steps in options.steps:
            config = config_of(task, num_steps=num_steps, extra={"compile": options.compile})
            commands = {
                "ours": our_command(task, config),
                "peer": peer_command(
                    task,
                    script=options.peer / SCRIPT,
                    num_steps=num_steps,
                    output=scratch / "peer-output",
                ),
            }
            for side in SIDES if pair % 2 == 0 else reversed(SIDES):
                measured = measure(commands[side], environment=surroundings[side])
                runs.setdefault((side, num_steps), []).append(measured)
                tell(
                    f"{task.precision} {side} {num_steps} steps: {measured.seconds:.1f} s, "
                    f"{measured.cpu_seconds:.1f} s CPU, "
                    f"{measured.peak_bytes / 2**20:.0f} MiB"
                )
    return runs


def _differences(runs: Runs, side: str, name: str, *, steps: Sequence[int]) -> list[float]:
    """Return what a step took in each pair of runs, by the name of a measurement."""
    few, many = steps
    return [
        (getattr(long, name) - getattr(short, name)) / (many - few)
        for short, long in zip(runs[side, few], runs[side, many], strict=True)
    ]


def _row(task: Task, runs: Runs, *, options: argparse.Namespace) -> dict[str, Any]:
    """Return the table's row of one task."""
    pace = {side: _differences(runs, side, "seconds", steps=options.steps) for side in SIDES}
    cpu = {side: _differences(runs, side, "cpu_seconds", steps=options.steps) for side in SIDES}
    long = {side: runs[side, options.steps[1]] for side in SIDES}
    peak = {side: middle([run.peak_bytes for run in long[side]]) for side in SIDES}
    largest = {side: middle([run.largest_bytes for run in long[side]]) for side in SIDES}
    ratios = [peer / ours for ours, peer in zip(pace["ours"], pace["peer"], strict=True)]
    return {
        "precision": task.precision,
        "text encoder": "trained" if task.train_text_encoder else "frozen",
        "compile": options.compile,
        "ours s/step": middle(pace["ours"]),
        "peer s/step": middle(pace["peer"]),
        "speed ratio": middle(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "ours CPU s/step": middle(cpu["ours"]),
        "CPU ratio": middle([p / o for o, p in zip(cpu["ours"], cpu["peer"], strict=True)]),
        "ours MiB": round(peak["ours"] / 2**20),
        "peer MiB": round(peak["peer"] / 2**20),
        "memory ratio": peak["ours"] / peak["peer"],
        "ours largest MiB": round(largest["ours"] / 2**20),
        "peer largest MiB": round(largest["peer"] / 2**20),
    }


if __name__ == "__main__":
    main()
