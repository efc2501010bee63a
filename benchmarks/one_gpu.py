"""`make bench-gpu`: ours against diffusers on one GPU, within a number of minutes.

Models of the published sizes with random weights: Stable Diffusion 1.5 trained whole, SDXL and
FLUX.1 dev by adapters, each next to diffusers' script (PEER), then sampling next to the plain
pipeline. Each program is one of its own: what one cannot do, the others still can, and the table
says why it is missing. `--size toy` runs the same on a CPU with tiny models.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import psutil
import torch

from benchmarks.contest import OURS, PEER, Contest, Findings, Windows, hold
from benchmarks.gpu_cases import CASES, NUM_PRIOR, Case, cases
from benchmarks.gpu_sides import GpuTask
from benchmarks.measuring import as_kept, print_table, tell
from benchmarks.random_models import Size
from benchmarks.training_task import draw_pictures, environment
from benchmarks.turns import ROOT, NotMeasuredError, Side
from boothline.processes import available_cores
from boothline.training.job import EVENTS_FILE

MINUTES: Final = 8.0
NO_GPU: Final = (
    "make bench-gpu needs a CUDA device, and torch finds none. Run it on a machine with a GPU and "
    'its driver, or try the same with tiny models on this CPU: make bench-gpu BENCH="--size toy".\n'
)
_SHARES: Final[Mapping[str, float]] = {
    "prepare": 3,
    "make sd15": 3,
    "train sd15": 12,
    "sample sd15": 9,
    "make sdxl": 5,
    "train sdxl": 15,
    "sample sdxl": 12,
    "make flux": 13,
    "train flux": 28,
}
_SLACK: Final = 1.5
_PART_SECONDS: Final = 60.0
_LEAST_SECONDS: Final = 5.0
_FLOAT32_BYTES: Final = 4
_WINDOW_SECONDS: Final[Mapping[str, float]] = {"full": 4.0, "toy": 0.1}
_GIB: Final = 2**30
_TABLE_WIDTH: Final = 150
_SMALLER: Final = "memory ran out, so that it took smaller passes, which are slower"
_NO_CHECKOUT: Final = "no checkout of diffusers was named (PEER=path/to/diffusers)"


class Budget:
    """Gives each part its share of the time that is left; what one leaves, later ones have.

    A part may take half as much again as its share, and a minute in any case, since programs start
    slowly on a machine that has not loaded the libraries before.

    Args:
        seconds: all that there is.
        shares: of each part, in any unit.
        clock: seconds.
    """

    def __init__(
        self,
        seconds: float,
        shares: Mapping[str, float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._shares = dict(shares)

    def until(self, part: str) -> float:
        """Return until when a part may take.

        Raises:
            NotMeasuredError: nothing is left.
        """
        left = self._end - self._clock()
        rest = sum(self._shares.values())
        share = self._shares.pop(part)
        if left < _LEAST_SECONDS:
            raise NotMeasuredError("out of time")
        return self._clock() + min(left, max(_PART_SECONDS, _SLACK * left * share / rest))


class Report:
    """The rows so far, written into a file after each.

    Args:
        output: the file; None: none.
    """

    def __init__(self, output: Path | None) -> None:
        self._output = output
        self.rows: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {"turns": {}}

    @property
    def title(self) -> str:
        """What was measured on what."""
        device = self.more.get("device", "unknown device")
        teraflops = self.more.get("flops_per_second", 0.0) / 1e12
        return (
            f"Ours against diffusers on one {device}; % of {teraflops:.3g} TFLOP/s, what it does "
            "with square matrices in bf16"
        )

    def add(self, case: Case, what: str, contest: Contest) -> None:
        """Take in what was found."""
        unit = "steps/s" if what.startswith("train") else "pictures/s"
        self.rows.append(
            {
                "model": case.key,
                "what": what,
                "unit": unit,
                **row_of(contest, ceiling=self.more.get("flops_per_second")),
            }
        )
        kept = {name: side.as_kept() for name, side in contest.sides.items()}
        self.more["turns"][f"{case.key}: {what}"] = {**kept, "ratios": list(contest.ratios)}
        tell(str(self.rows[-1]))
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        if self._output is None:
            return
        self._output.parent.mkdir(parents=True, exist_ok=True)
        partial_file = self._output.with_name(f"{self._output.name}.partial")
        kept = as_kept(self.title, self.rows, more=self.more)
        partial_file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        partial_file.replace(self._output)


def row_of(contest: Contest, *, ceiling: float | None) -> dict[str, Any]:
    """Return a contest as the end of a row.

    Args:
        contest: what was found.
        ceiling: floating-point operations a second that the device can do; None: unknown.
    """
    ours, peer = (contest.sides.get(name, Findings()) for name in (OURS, PEER))
    gib = [None if s.peak_bytes is None else s.peak_bytes / _GIB for s in (ours, peer)]
    return {
        "ours": ours.rate,
        "peer": peer.rate,
        "ratio": contest.ratio,
        "lowest": min(contest.ratios, default=None),
        "highest": max(contest.ratios, default=None),
        "ours GiB": gib[0],
        "peer GiB": gib[1],
        "ours %": _share(ours, ceiling),
        "peer %": _share(peer, ceiling),
        "not measured": contest.reasons,
    }


def _share(side: Findings, ceiling: float | None) -> float | None:
    """Return the percentage of the ceiling that a side reached."""
    if side.rate is None or not ceiling or not side.flops:
        return None
    return 100 * side.rate * side.flops / ceiling


class Bench:
    """Measures one part after the other.

    Args:
        options: of the command.
        scratch: folder for models and logs.
        report: takes the rows.
    """

    def __init__(self, options: argparse.Namespace, *, scratch: Path, report: Report) -> None:
        self._options, self._scratch, self._report = options, scratch, report
        age = time.time() - psutil.Process().create_time()  # the libraries took some of it
        self._budget = Budget(60 * options.minutes - age, shares_of(options.models))
        self._workshop: Side | None = None

    def run(self) -> None:
        """Measure all that time and device allow."""
        try:
            self._open_workshop(self._budget.until("prepare"))
        except NotMeasuredError as reason:
            tell(f"the device: {reason}")
        for case in cases(self._options.size):
            if case.key in self._options.models:
                self._measure(case)
        self._close_workshop()

    def _measure(self, case: Case) -> None:
        """Make a model, train it and sample with it; it is deleted at the end."""
        task = GpuTask(
            size=self._options.size,
            key=case.key,
            scratch=self._scratch,
            checkout=self._options.peer,
        )
        sampling = task.sampling if case.samples else None
        try:
            missing = ""
            self._make(task)
        except NotMeasuredError as reason:
            missing = f"the model was not made: {reason}"
        self._part(task, "train", case.training, missing=missing)
        if sampling is not None:
            what = (
                f"sample {sampling.batch_size} x {case.side_px} px, {sampling.num_steps} steps, "
                f"{sampling.precision}"
            )
            self._part(task, "sample", what, missing=missing)
        for folder in self._scratch.glob(f"*-{case.key}"):
            shutil.rmtree(folder)

    def _part(self, task: GpuTask, kind: str, what: str, *, missing: str) -> None:
        """Measure one thing and report it, or why it was not measured."""
        has_peer = kind == "sample" or task.checkout is not None
        sides = {
            name: partial(self._start, f"{kind}-{name}", task)
            for name in ((OURS, PEER) if has_peer else (OURS,))
        }
        try:
            until = self._budget.until(f"{kind} {task.key}")
            if missing:
                raise NotMeasuredError(missing)
            windows = Windows(
                seconds=_WINDOW_SECONDS[task.size], pairs=self._options.pairs, until=until
            )
            total = self._report.more.get("total_bytes", 0)
            contest = hold(sides, windows=windows, total_bytes=total)
            if took_smaller_passes(task.job):
                ours = contest.sides[OURS]
                ours.reason = ", ".join(filter(None, (ours.reason, _SMALLER)))
        except NotMeasuredError as reason:
            contest = Contest(sides={name: Findings(reason=str(reason)) for name in sides})
        if not has_peer:
            contest = Contest(sides={**contest.sides, PEER: Findings(reason=_NO_CHECKOUT)})
        self._report.add(task.case, what, contest)

    def _make(self, task: GpuTask) -> None:
        """Make the model and the pictures of a case.

        Raises:
            NotMeasuredError: it cannot be made, or not be loaded by this machine.
        """
        until = self._budget.until(f"make {task.key}")
        if self._workshop is None:
            self._open_workshop(until)
        assert self._workshop is not None  # noqa: S101 - a fact for the type checker
        began = time.monotonic()
        try:
            num_weights = cast(int, self._workshop.request(task.key, until=until))
        except NotMeasuredError:
            self._close_workshop()
            raise
        tell(f"{task.key}: {num_weights / 1e9:.3g} billion weights in {_since(began)}")
        needed, free = _FLOAT32_BYTES * num_weights, psutil.virtual_memory().available
        if needed > free:
            raise NotMeasuredError(
                f"it is loaded in float32, which takes {needed / _GIB:.0f} GiB of the machine's "
                f"memory; {free / _GIB:.0f} are free"
            )
        side_px = task.case.side_px
        # Ours are PNG, as validate_data writes them; photographs are mostly JPEG.
        for side, suffix in ((OURS, ".png"), (PEER, ".jpg")):
            folder = task.pictures(side)
            draw_pictures(folder, side_px=side_px, num_prior=NUM_PRIOR, suffix=suffix)

    def _open_workshop(self, until: float) -> None:
        """Start what measures the device and makes the models."""
        task = GpuTask(size=self._options.size, scratch=self._scratch)
        self._workshop = self._start("prepare", task)
        try:
            found = cast(dict[str, Any], self._workshop.receive(until=until))
        except NotMeasuredError:
            self._close_workshop()
            raise
        self._report.more.update(found)
        tell(str(found))
        self._report.write()

    def _close_workshop(self) -> None:
        if self._workshop is not None:
            self._workshop.close()
            self._workshop = None

    def _start(self, role: str, task: GpuTask) -> Side:
        """Start a program; the peer's alone sees torchvision."""
        paths = [str(ROOT)]
        if role == f"train-{PEER}" and self._options.torchvision:
            paths.append(str(Path(self._options.torchvision).resolve()))
        more = {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "benchmarks.gpu_sides", role, task.model_dump_json()]
        return Side(
            command,
            environment=environment(threads=self._options.threads, more=more),
            log=self._scratch / f"{role}{'-' * bool(task.key)}{task.key}.log",
        )


def took_smaller_passes(job: Path) -> bool:
    """Return whether a training of ours made its passes smaller because memory ran out.

    Args:
        job: its folder; one that is not there made none.
    """
    events = job / EVENTS_FILE
    lines = events.read_text(encoding="utf-8").splitlines() if events.is_file() else []
    return any(json.loads(line)["event"] == "smaller" for line in lines)


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def shares_of(models: Sequence[str]) -> dict[str, float]:
    """Return the shares of the parts of some models."""
    return {
        part: share
        for part, share in _SHARES.items()
        if part == "prepare" or part.split()[1] in models
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.size == "full" and not torch.cuda.is_available():
        parser.exit(2, NO_GPU)
    report = Report(options.output)
    with tempfile.TemporaryDirectory(prefix="boothline-bench-", dir=options.scratch) as scratch:
        Bench(options, scratch=Path(scratch), report=report).run()
    print_table(report.title, report.rows, more=report.more, width=_TABLE_WIDTH)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    keys = [case.key for case in CASES]
    sizes: tuple[Size, ...] = ("full", "toy")
    parser.add_argument("--peer", type=_folder, help="checkout of diffusers; none: ours alone")
    parser.add_argument("--torchvision", default="", help="folder that holds torchvision")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it")
    parser.add_argument("--models", nargs="+", default=keys, choices=keys)
    parser.add_argument("--size", default="full", choices=sizes, help="toy: tiny, on a CPU too")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each side")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of each side")
    parser.add_argument("--output", type=Path, help="file for the JSON, written after each part")
    parser.add_argument("--scratch", type=Path, help="folder for the models: 35 GiB for FLUX")
    return parser


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder")
    return path


if __name__ == "__main__":
    main()
