"""A training on pictures of several shapes: batches of one shape, and the same bits on resume."""

from collections.abc import Callable
from typing import Any

import pytest
from stopping import StopAfter

from boothline.errors import InterruptedRunError
from boothline.training.job import SAMPLES_FOLDER, TrainingJob

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]
Digests = Callable[[str], dict[str, str]]


@pytest.mark.proves("F25")
def test_training_on_buckets_takes_batches_of_one_shape_and_resumes_to_the_same_bits(
    make_job: JobMaker, run_here: Runner, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch
    from PIL import Image

    from boothline.training.denoiser import Denoiser

    def job(states: str) -> TrainingJob:
        made = make_job(states, num_steps=6)
        subject = made.config.subject.model_copy(update={"aspect_buckets": ("32x32", "64x32")})
        prompts = {"prompts": ("a {subject}", "the {subject}", "one {subject}")}
        evaluation = made.config.evaluation.model_copy(update=prompts)
        config = made.config.model_copy(update={"subject": subject, "evaluation": evaluation})
        return made.model_copy(update={"config": config})

    whole = job("training/whole")
    wide = whole.pictures[0].instance / "images/001.png"
    Image.open(wide).resize((64, 32)).save(wide)
    shapes = []
    forward = Denoiser.forward

    def seen(self: Denoiser, noisy: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(noisy.shape[2:]))
        return forward(self, noisy, *others)

    monkeypatch.setattr(Denoiser, "forward", seen)
    expected = run_here(whole)
    (sheet,) = (whole.folder / SAMPLES_FOLDER).glob("*.png")
    assert Image.open(sheet).size == (3 * 64, 32)
    assert (np.array(Image.open(sheet))[:, 32:64] == 255).all()  # the first two are squares
    assert (np.array(Image.open(sheet))[:, 128 + 32 :] != 255).any()
    assert len(set(shapes)) == 2
    # Of three pictures one is wide: so is one step of every three.
    widths = [width for _, width in shapes]
    assert [sum(width > min(widths) for width in widths[n : n + 3]) for n in (0, 3)] == [1, 1]
    with pytest.raises(InterruptedRunError):
        run_here(job("training/cut"), StopAfter(3))
    resumed = run_here(job("training/cut"))
    assert digests(resumed["final_state"]) == digests(expected["final_state"])
