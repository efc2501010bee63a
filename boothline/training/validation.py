"""Validation in the loop: losses at fixed draws, scores of the sample sheet, and their history.

Every rank measures its share, and all end with the same numbers. Nothing here touches what the
training draws: a training with validation takes the same steps as one without.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from boothline.config import RunConfig
from boothline.config.section import SUBJECT_FIELD
from boothline.diffusion import counters
from boothline.diffusion.families import LatentScale
from boothline.evaluation import metrics
from boothline.training.batches import MicroBatch, stacked_weights
from boothline.training.denoiser import Denoiser
from boothline.training.encoding import CaptionSource, MomentSource, share
from boothline.training.masks import MaskSource
from boothline.training.objective import Objective
from boothline.training.pictures import Picture
from boothline.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boothline.evaluation.encoders import Features, ImageEncoder, TextImageEncoder

SCORE = "score"
Row = dict[str, float]
Draw = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Pictures of one size on which the denoising loss is measured.

    Attributes:
        name: `instance` or `held_out`, of which the loss has its name; sets of one name share it.
        stream: ends the names of its random streams, of which no other set has the same.
        pictures: the pictures.
        moments: their posterior moments, of which the mean is taken.
        masks: which parts of them are learnt, and so measured; None: all.
    """

    name: str
    stream: str
    pictures: Sequence[Picture]
    moments: MomentSource
    masks: MaskSource | None = None


@dataclass(frozen=True, kw_only=True)
class FixedDraws:
    """Measures the denoising loss of pictures at (timestep, noise) draws that never change.

    Attributes:
        sets: what to measure on.
        captions: captions of all pictures.
        objective: the loss.
        num_draws: draws of a picture, one in each of as many equal stretches of the timesteps.
        seed: seed of the training.
        scale: of the VAE's latents.
        batch_size: pairs in one forward pass.
        ranks: who shares the work.
    """

    sets: Sequence[ValidationSet]
    captions: CaptionSource
    objective: Objective
    num_draws: int
    seed: int
    scale: LatentScale
    batch_size: int
    ranks: Ranks

    def losses(self, denoiser: Denoiser) -> Row:
        """Return the mean loss of each name as `<name>_loss`; every rank must call it."""
        sums: Row = {}
        counts: dict[str, int] = {}
        with _evaluating(denoiser), torch.no_grad():
            for part in self.sets:
                draws = [(i, d) for i in range(len(part.pictures)) for d in range(self.num_draws)]
                mine = draws[self.ranks.rank :: self.ranks.world_size]
                total = torch.zeros(1, dtype=torch.float64)
                for first in range(0, len(mine), self.batch_size):
                    chunk = mine[first : first + self.batch_size]
                    total += self._loss(denoiser, part, chunk).double().sum().cpu()
                name = f"{part.name}_loss"
                sums[name] = sums.get(name, 0.0) + float(self.ranks.sum(total))
                counts[name] = counts.get(name, 0) + len(draws)
        return {name: sums[name] / counts[name] for name in sums}

    def _loss(self, denoiser: Denoiser, part: ValidationSet, draws: Sequence[Draw]) -> torch.Tensor:
        """Return the loss of each draw, (B,)."""
        batch = self._batch(part, draws).to(self.ranks.device)
        noisy = self.objective.noisy(batch.latents_BCHW, batch.noise_BCHW, batch.timesteps_B)
        prediction = denoiser(noisy, batch.timesteps_B, batch.captions, batch.caption_rows_B)
        return self.objective.losses(
            prediction,
            latents_BCHW=batch.latents_BCHW,
            noise_BCHW=batch.noise_BCHW,
            timesteps_B=batch.timesteps_B,
            weights_BHW=batch.weights_BHW,
        )

    def _batch(self, part: ValidationSet, draws: Sequence[Draw]) -> MicroBatch:
        rows = [self.captions.row(part.pictures[index].caption) for index, _ in draws]
        distinct = sorted(set(rows))
        means = [part.moments.moments(index, flip=False).chunk(2)[0] for index, _ in draws]
        shape = (means[0].shape[-2], means[0].shape[-1])
        weights = [part.masks.weights(i, shape=shape) if part.masks else None for i, _ in draws]
        return MicroBatch(
            latents_BCHW=self.scale.scaled(torch.stack(means)),
            noise_BCHW=torch.stack(
                [
                    counters.normal(
                        tuple(means[0].shape),
                        seed=self.seed,
                        stream=f"validation/{part.stream}/noise",
                        index=draw,
                    )
                    for draw in draws
                ]
            ),
            timesteps_B=torch.tensor([self._timestep(part, draw) for draw in draws]),
            captions=self.captions.encoded(distinct),
            caption_rows_B=torch.tensor([distinct.index(row) for row in rows]),
            num_instance=len(draws),
            weights_BHW=stacked_weights(weights, like_BCHW=means),
        )

    def _timestep(self, part: ValidationSet, draw: Draw) -> float:
        """Return a timestep in the draw's stretch of the timesteps."""
        place = counters.uniform(
            (), seed=self.seed, stream=f"validation/{part.stream}/timestep", index=draw
        )
        return self.objective.timestep_at((draw[1] + float(place)) / self.num_draws)


class SheetJudge:
    """Scores the pictures of a sample sheet: subject fidelity, prompt fidelity, and their blend.

    Args:
        config: prompts and the blend. CLIP does not know the identifier: its texts name the class.
        real: RGB pictures of each subject.
        num_prompts: prompts on the sheet, one picture each; as many of each subject.
        dino: encoder of subject fidelity.
        clip: encoder of prompt fidelity.
        ranks: who shares the work.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        real: Sequence[Sequence[Image.Image]],
        num_prompts: int,
        dino: "ImageEncoder",
        clip: "TextImageEncoder",
        ranks: Ranks,
    ) -> None:
        self._subject_weight = config.evaluation.subject_weight
        self._ranks = ranks
        self._dino, self._clip = dino, clip
        nouns = [one.subject.class_noun for one in config.by_subject.values()]
        self._each = num_prompts // len(nouns)
        templates = config.evaluation.prompts[: self._each]
        self._texts = clip.encode_texts(
            [template.replace(SUBJECT_FIELD, noun) for noun in nouns for template in templates]
        )
        self._real = [self._encoded(pictures) for pictures in real]

    def _encoded(self, pictures: Sequence[Image.Image]) -> "Features":
        """Return (N, D) features, the work shared over the ranks."""
        return share(
            len(pictures),
            lambda index: torch.from_numpy(self._dino.encode([pictures[index]])[0]),
            ranks=self._ranks,
        ).numpy()

    def scores(self, pictures: Sequence[Image.Image]) -> Row:
        """Return the means of `subject`, `prompt` and `score`; every rank must call it.

        Args:
            pictures: RGB, one a prompt, the same on every rank.
        """
        mine = range(self._ranks.rank, len(pictures), self._ranks.world_size)
        sums = torch.zeros(2, dtype=torch.float64)
        for index in mine:
            picture, text = pictures[index], self._texts[index : index + 1]
            real = self._real[index // self._each]
            subject = metrics.subject_fidelity(self._dino.encode([picture]), real)
            prompt = metrics.prompt_fidelity(self._clip.encode([picture]), text)
            sums += torch.tensor([float(subject[0]), float(prompt[0])], dtype=torch.float64)
        subject_mean, prompt_mean = (self._ranks.sum(sums) / len(pictures)).tolist()
        weight = self._subject_weight
        return {
            "subject": subject_mean,
            "prompt": prompt_mean,
            SCORE: weight * subject_mean + (1 - weight) * prompt_mean,
        }


class History:
    """The validations so far: which state is best, and whether it is time to stop.

    Args:
        patience: validations in a row without a better score that end the training; 0: never.
    """

    def __init__(self, *, patience: int) -> None:
        self._patience = patience
        self.rows: list[Row] = []

    def add(self, step: int, values: Mapping[str, float]) -> bool:
        """Take in a validation after `step` steps; return whether its score is the best so far."""
        self.rows.append({"step": step, **values})
        return self.best_step == step

    def take_over(self, rows: Iterable[Row]) -> None:
        """Continue the validations of a training state."""
        self.rows = list(rows)

    @property
    def best_step(self) -> int | None:
        """Steps behind the validation with the best score, the first of equals; None: no one."""
        if not self.rows:
            return None
        return int(max(self.rows, key=lambda row: (row[SCORE], -row["step"]))["step"])

    @property
    def is_exhausted(self) -> bool:
        """Whether the last `patience` validations brought no better score."""
        if not self._patience or self.best_step is None:
            return False
        return sum(row["step"] > self.best_step for row in self.rows) >= self._patience


@dataclass(frozen=True, kw_only=True)
class Validator:
    """One validation: the losses, the scores, and what follows from them.

    Attributes:
        draws: measures the losses.
        judge: scores the sheet.
        history: what was found.
    """

    draws: FixedDraws
    judge: SheetJudge
    history: History

    def measure(self, step: int, denoiser: Denoiser, pictures: Sequence[Image.Image]) -> bool:
        """Validate after `step` steps; return whether the score is the best so far.

        Every rank must call it.

        Args:
            step: optimizer steps taken.
            denoiser: the trained networks, without DDP.
            pictures: those of the sample sheet.
        """
        return self.history.add(
            step, {**self.draws.losses(denoiser), **self.judge.scores(pictures)}
        )


@contextmanager
def _evaluating(denoiser: Denoiser) -> "Iterator[None]":
    """Put the trained networks into evaluation mode inside the block."""
    denoiser.eval()
    try:
        yield
    finally:
        denoiser.train()
