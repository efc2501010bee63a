"""The command line of the recipe."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.build.recipe import STAGES, Recipe, quick_recipe

_ACTIONS = (
    *("all", *STAGES, "export", "evaluate", "subjects"),
    *("adopt", "continue", "pack", "unpack"),
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m models.build`."""
    parser = argparse.ArgumentParser(
        prog="python -m models.build",
        description="Train the tiny base model. Every stage continues from its last state.",
        epilog="example: python -m models.build --quick --output quick-models --threads 2",
    )
    parser.add_argument(
        "action", nargs="?", default="all", choices=_ACTIONS, help="what to do (default: all)"
    )
    parser.add_argument("--stage", choices=STAGES, help="train this stage only")
    parser.add_argument(
        "--begin-from",
        type=Path,
        metavar="MODELS",
        help="exported models from which stages without a state begin; `adopt` makes states of "
        "them, at the steps that they had reached",
    )
    parser.add_argument("--quick", action="store_true", help="all stages in minutes, for tests")
    parser.add_argument("--output", type=Path, default=Path("models"), help="exported models")
    parser.add_argument(
        "--state", type=Path, default=Path(".boothline-base"), help="training states and scenes"
    )
    parser.add_argument(
        "--emoji-art",
        type=Path,
        default=os.environ.get("BOOTHLINE_EMOJI_ART"),
        help="folder of the unpacked emoji packages (default: $BOOTHLINE_EMOJI_ART, else fetched)",
    )
    _add_effort(parser)
    return parser


def _add_effort(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how much is trained, how and where."""
    parser.add_argument(
        "--steps",
        action="append",
        default=[],
        metavar="STAGE=N",
        help="train a stage for N steps in all instead of the recipe's number; repeatable",
    )
    parser.add_argument(
        "--batch-size",
        action="append",
        default=[],
        metavar="STAGE=N",
        help="other batch size of a stage, as on a GPU; repeatable",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="train no longer than this")
    parser.add_argument(
        "--parcel",
        type=Path,
        metavar="FOLDER",
        help="files of at most 15 MiB that carry states to another machine and back: "
        "`pack` writes them, `continue` resumes from them and writes them, `unpack` reads them",
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="that draw scenes at once (default: 1)"
    )
    parser.add_argument("--pictures", type=int, help="judge so many generated pictures")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet or the decoder for its training: faster after minutes; "
        "needs a C++ compiler",
    )
    parser.add_argument(
        "--float32", action="store_true", help="train without bfloat16, where it is not faster"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")


def parse_steps(assignments: Sequence[str], *, option: str = "--steps") -> dict[str, int]:
    """Return `["unet=9000"]` as `{"unet": 9000}`.

    Raises:
        SystemExit: an assignment names no stage or no number.
    """
    steps: dict[str, int] = {}
    for assignment in assignments:
        stage, _, number = assignment.partition("=")
        if stage not in STAGES or not number.isdigit():
            raise SystemExit(f"{option} {assignment}: expected STAGE=N with STAGE in {STAGES}")
        steps[stage] = int(number)
    return steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for noisy in ("httpx", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    recipe = quick_recipe() if options.quick else Recipe()
    recipe = recipe.with_steps(parse_steps(options.steps))
    recipe = recipe.with_batch_sizes(parse_steps(options.batch_size, option="--batch-size"))
    recipe = replace(recipe, compiled=options.compile, bfloat16=not options.float32)
    if options.pictures:
        recipe = replace(recipe, num_generated=options.pictures)

    import torch

    from models.build.grading import grade
    from models.build.workshop import Workshop

    if options.threads:
        torch.set_num_threads(options.threads)
    state = options.state / "quick" if options.quick else options.state
    art = options.emoji_art or options.state / "emoji-art"
    workshop = Workshop(
        recipe,
        state=state,
        emoji_art=Path(art),
        output=options.output,
        begin_from=options.begin_from,
        parcel=options.parcel,
        minutes=options.minutes,
        num_processes=options.processes,
    )
    action = options.stage or options.action
    workshop.run(action)
    if action in ("all", "evaluate"):
        grade(workshop)
