"""`make bench-sampling`: our sampling against the plain diffusers pipeline, in turns.

The peer is called as train_dreambooth.py calls it for class pictures: a StableDiffusionPipeline,
batches of 4, 50 steps unless told otherwise, every thread on one batch. Ours samples as the class
pictures of a run are sampled: shards side by side, each with its share of the threads. The first
row is ours in one process.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measuring import middle, print_table, tell
from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.sampling import SampleRequest, sample
from boothline.evaluation.encoders import DinoEncoder

MODELS = Path(__file__).resolve().parents[1] / "models"
PROMPT = "a photo of a bear on the beach"
PEER_BATCH = 4
GUIDANCE = 7.5
DEFAULT_STEPS = 20
PEER_STEPS = 50
Sampler = Callable[[int], Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=32, help="pictures of one repetition")
    parser.add_argument("--pairs", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shards", type=int, default=2, help="processes that share the threads")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="compare processor time, one process and one thread: for a machine with other work",
    )
    options = parser.parse_args(arguments)
    if options.processor_time:
        options.threads = options.shards = 1
    torch.set_num_threads(options.threads)
    workers = ProcessPoolExecutor(
        options.shards,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(max(1, options.threads // options.shards),),
    )
    with workers:
        sharded = _ours if options.shards == 1 else partial(_ours_sharded, workers, options.shards)
        ddim = _peer("DDIMScheduler", num_steps=PEER_STEPS)
        rows = [
            _row(
                "equal: DDIM, 50 steps, one process",
                ours=_ours(sampler="ddim", num_steps=PEER_STEPS),
                peer=ddim,
                options=options,
            ),
            *(
                [
                    _row(
                        f"equal: DDIM, 50 steps, {options.shards} shards",
                        ours=sharded(sampler="ddim", num_steps=PEER_STEPS),
                        peer=ddim,
                        options=options,
                    )
                ]
                if options.shards > 1
                else []
            ),
            _row(
                f"defaults: DPM-Solver++ 20, {options.shards} shards, against PNDM 50",
                ours=sharded(sampler="dpmpp_2m", num_steps=DEFAULT_STEPS),
                peer=_peer("PNDMScheduler", num_steps=PEER_STEPS),
                options=options,
            ),
        ]
    rows = [row | {"distance": "", "DINO": ""} for row in rows]
    rows[-1] |= _distance(num_pictures=options.pictures)
    print_table("Sampling, tiny base: ours against StableDiffusionPipeline", rows)


@cache
def _pipeline() -> DiffusionParts:
    """Return the tiny base, loaded once a process."""
    return load_pipeline(MODELS / "tiny-emoji-sd", for_sampling=True)


def _ours(*, sampler: SamplerName, num_steps: int) -> Sampler:
    """Return a function that samples n pictures in this process."""
    return lambda count: _sampled(range(count), sampler, num_steps)


def _ours_sharded(
    workers: ProcessPoolExecutor, num_shards: int, *, sampler: SamplerName, num_steps: int
) -> Sampler:
    """Return a function that samples n pictures as the prior does: batches in turn by shard."""

    def run(count: int) -> list[Image.Image]:
        size = SamplingConfig().batch_size
        starts = range(0, count, size)
        parts = [
            [i for start in starts[shard::num_shards] for i in range(start, start + size)]
            for shard in range(num_shards)
        ]
        made = workers.map(partial(_sampled, sampler=sampler, num_steps=num_steps), parts)
        return [image for images in made for image in images]

    return run


def _sampled(indices: Sequence[int], sampler: SamplerName, num_steps: int) -> list[Image.Image]:
    """Return pictures by their numbers."""
    sampling = SamplingConfig(guidance_scale=GUIDANCE, sampler=sampler, num_steps=num_steps)
    requests = [SampleRequest(prompt=PROMPT, seed=0, index=index) for index in indices]
    return list(sample(_pipeline(), requests, sampling=sampling))


def _peer(scheduler: str, *, num_steps: int) -> Sampler:
    """Return a function that samples n pictures with the plain pipeline."""
    import diffusers

    plain = diffusers.StableDiffusionPipeline.from_pretrained(MODELS / "tiny-emoji-sd")
    plain.scheduler = getattr(diffusers, scheduler).from_config(plain.scheduler.config)
    plain.set_progress_bar_config(disable=True)

    def run(count: int) -> list[Image.Image]:
        return [
            image
            for _ in range(0, count, PEER_BATCH)
            for image in plain(
                [PROMPT] * PEER_BATCH, guidance_scale=GUIDANCE, num_inference_steps=num_steps
            ).images
        ]

    return run


def _row(name: str, *, ours: Sampler, peer: Sampler, options: argparse.Namespace) -> dict[str, Any]:
    """Return the table's row of one comparison."""
    clock = time.process_time if options.processor_time else time.monotonic
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    sides = {"ours": ours, "peer": peer}
    for run in sides.values():
        run(SamplingConfig().batch_size * options.shards)  # loads and allocates, in every shard
    for pair in range(options.pairs):
        for side in ("ours", "peer") if pair % 2 == 0 else ("peer", "ours"):
            started = clock()
            sides[side](options.pictures)
            seconds[side].append(clock() - started)
            tell(f"{name}: {side} {seconds[side][-1]:.1f} s")
    ratios = [peer / ours for ours, peer in zip(seconds["ours"], seconds["peer"], strict=True)]
    return {
        "comparison": name,
        "ours pictures/s": options.pictures / middle(seconds["ours"]),
        "peer pictures/s": options.pictures / middle(seconds["peer"]),
        "ratio": middle(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def _distance(*, num_pictures: int) -> dict[str, float]:
    """Return how far the default's pictures are from those of 50 steps, same start noise.

    The distance is the mean absolute difference of levels (0 to 255); DINO is the mean cosine of
    each picture with its counterpart.
    """
    few = _ours(sampler="dpmpp_2m", num_steps=DEFAULT_STEPS)(num_pictures)
    many = _ours(sampler="dpmpp_2m", num_steps=PEER_STEPS)(num_pictures)
    levels = [np.stack([np.asarray(image, np.float64) for image in side]) for side in (few, many)]
    encoder = DinoEncoder(MODELS / "tiny-emoji-dino")
    cosine = (encoder.encode(few) * encoder.encode(many)).sum(axis=1).mean()
    return {"distance": float(np.abs(levels[0] - levels[1]).mean()), "DINO": float(cosine)}


if __name__ == "__main__":
    main()
