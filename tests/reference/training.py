"""A DreamBooth training in plain torch and float64: from pictures to weights, sample by sample."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from reference.formulas import (
    AdamW,
    Lion,
    averaged,
    clip,
    diffuse,
    draw_latents,
    error_of,
    masked_mean,
    min_snr_weight,
    preservation_loss,
    rate_at,
    target_of,
)
from reference.inputs import (
    Base,
    Shot,
    Tensors,
    effective_weights,
    moments_of,
    random_crop,
    read_shots,
    start_row,
    start_weights,
    weights_of,
)

from boothline.diffusion import counters

Pictures = list[tuple[Path, Path | None]]
OPTIMIZERS = {"adamw": AdamW, "lion": Lion}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights before and after, and the moving average after, by network and name."""

    start: Tensors
    weights: Tensors
    average: Tensors


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One place of a batch."""

    latents: torch.Tensor
    noise: torch.Tensor
    timestep: int
    caption: str
    weights: torch.Tensor | None = None


class ReferenceTraining:
    """One training.

    Args:
        base: folder of the base model.
        pictures: of each subject, the folder of its pictures and that of its class's; None: no
            prior preservation.
        settings: `training`, with every setting named, `phrases` of the subjects, `sizes` (the one
            picture size, or those of the buckets, width by height) and `prior_weight`.
    """

    def __init__(self, *, base: Path, pictures: Pictures, settings: dict[str, Any]) -> None:
        self._base = Base.read(base)
        self._training = settings["training"]
        self._phrases = settings["phrases"]
        self._sizes = settings["sizes"]
        self._prior_weight = settings["prior_weight"]
        self._own = settings["tokens"]
        self._instance = [read_shots(own) for own, _ in pictures]
        self._prior = [read_shots(prior) for _, prior in pictures if prior is not None]

    def run(self) -> Trained:
        """Take every step."""
        t = self._training
        start = start_weights(self._base, t)
        if self._own:
            rows = [start_row(self._base.tokenizer, self._table, w) for w in self._own.values()]
            start = {**start, "token_embedding.text_encoder": torch.stack(rows)}
        weights = average = start
        optimizer = OPTIMIZERS[t["optimizer"]](t["beta1"], t["beta2"], t["weight_decay"])
        for step in range(t["num_steps"]):
            gradients = clip(self._gradients(step, weights), t["max_grad_norm"])
            rates = {name: self._rate(name, step) for name in weights}
            weights = optimizer.step(weights, gradients, rates)
            if t["ema_decay"] is not None:
                average = averaged(average, weights, decay=t["ema_decay"], update=step)
        return Trained(start=start, weights=weights, average=average)

    @property
    def _table(self) -> torch.Tensor:
        return self._base.text_encoder.get_input_embeddings().weight

    def _rate(self, name: str, step: int) -> float:
        t = self._training
        peak = t["learning_rate"]
        if name.startswith("token_embedding"):
            peak = t["token_embedding"]["learning_rate"]
        if name.startswith("text_encoder") and t["text_encoder_learning_rate"] is not None:
            peak = t["text_encoder_learning_rate"]
        if t["scale_learning_rate"]:
            peak *= t["batch_size"]
        total, warmup = t["num_steps"], t["warmup_steps"]
        return rate_at(step, peak=peak, warmup=warmup, total=total, schedule=t["schedule"])

    def _gradients(self, step: int, weights: Tensors) -> Tensors:
        """The gradient of the loss of the whole global batch, whatever pieces it is cut into."""
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        slots = range(self._training["batch_size"])
        halves = []
        for half in ("instance", "prior") if self._prior else ("instance",):
            samples = [self._sample(half, step, slot) for slot in slots]
            halves.append(self._losses(samples, leaves))
        loss = preservation_loss(*halves, weight=self._prior_weight)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True))

    def _losses(self, samples: list[Sample], weights: Tensors) -> torch.Tensor:
        """The weighted mean error of each sample."""
        base, t = self._base, self._training
        alpha_bars = [base.alpha_bar[sample.timestep] for sample in samples]
        noisy = torch.stack(
            [diffuse(s.latents, s.noise, ab) for s, ab in zip(samples, alpha_bars, strict=True)]
        )
        timesteps = torch.tensor([sample.timestep for sample in samples])
        text = effective_weights(base.text_encoder, "text_encoder", weights, t["lora"])
        if self._own:
            whole = torch.cat([self._table, weights["token_embedding.text_encoder"]])
            text["embeddings.token_embedding.weight"] = whole
        tokens = torch.cat([base.tokens(sample.caption, [*self._own]) for sample in samples])
        hidden = torch.func.functional_call(base.text_encoder, text, (tokens,))[0]
        predictions = torch.func.functional_call(
            base.unet,
            effective_weights(base.unet, "unet", weights, t["lora"]),
            (noisy, timesteps),
            {"encoder_hidden_states": hidden, "return_dict": False},
        )[0]
        losses = []
        for sample, prediction, ab in zip(samples, predictions, alpha_bars, strict=True):
            target = target_of(base.kind, sample.latents, sample.noise, ab)
            error = error_of(prediction - target, t["huber_delta"])
            mean = masked_mean(error, sample.weights)
            losses.append(min_snr_weight(base.kind, ab, t["min_snr_gamma"]) * mean)
        return torch.stack(losses)

    def _sample(self, half: str, step: int, slot: int) -> Sample:
        """Draw everything that is random about one place of a batch."""
        t = self._training
        groups, size, turn = self._shots(half, step)
        own = half == "instance"
        # One subject after the other: each has every so-manieth place, and an order of its own.
        nth, who = divmod(turn * t["batch_size"] + slot, len(groups))
        shots = groups[who]
        copies = len(shots) * (t["repeats"] if own else 1)
        epoch, place = divmod(nth, copies)
        stream = f"{half}/order" if who == 0 else f"{half}/{who}/order"
        order = counters.permutation(copies, seed=t["seed"], stream=stream, index=epoch)
        number = order[place] % len(shots)
        image, mask, at = shots[number].image, shots[number].mask, (step, slot)
        if own and t["random_crops"]:
            crop = 0 if t["random_crops"] == 1 else self._pick(half, "crop", t["random_crops"], at)
            overall = number + sum(len(group) for group in groups[:who])
            image = random_crop(image, (overall, crop), t)
            soft = {**t, "interpolation": "bilinear"}
            mask = None if mask is None else random_crop(mask, (overall, crop), soft)
        flip = own and t["horizontal_flip"] and self._pick(half, "flip", 2, at) == 1
        moments = moments_of(self._base, image, size=size, flip=flip)
        channels, *sides = moments.shape
        shape = (channels // 2, *sides)
        draw = self._normal(half, "posterior", shape, at)
        noise = self._normal(half, "noise", shape, at)
        # Guttenberg, "Diffusion with offset noise", 2023: one number for each channel.
        offset = self._normal(half, "offset", (channels // 2, 1, 1), at)
        captions = self._captions(shots[number], self._phrases[who], own=own)
        caption = 0 if len(captions) == 1 else self._pick(half, "caption", len(captions), at)
        share = counters.uniform((), seed=t["seed"], stream=f"{half}/dropout", index=at)
        dropped = float(share) < t["caption_dropout"]
        return Sample(
            latents=draw_latents(moments, draw, scale=self._base.vae.config.scaling_factor),
            noise=noise + t["noise_offset"] * offset,
            timestep=self._pick(half, "timestep", len(self._base.alpha_bar), at),
            caption="" if dropped else captions[caption],
            weights=None
            if mask is None
            else weights_of(mask, shape=(shape[1], shape[2]), flip=flip),
        )

    def _captions(self, shot: Shot, phrase: str, *, own: bool) -> list[str]:
        templates = self._training["caption_templates"] if own else ()
        return [
            text.replace("{subject}", phrase).replace("{caption}", shot.caption)
            for text in templates or ("{caption}",)
        ]

    def _shots(self, half: str, step: int) -> tuple[list[list[Shot]], tuple[int, int], int]:
        """The pictures of a step by subject, their size, and how many steps took them before.

        With buckets a shuffled epoch has as many steps as there are subject pictures, and gives
        each bucket as many of them as it has pictures. Class pictures belong to no bucket: they
        come in one order whatever the bucket, and are cut to it.
        """
        if len(self._sizes) == 1:
            return (self._instance if half == "instance" else self._prior), self._sizes[0], step
        members = [[s for s in self._instance[0] if s.image.size == size] for size in self._sizes]
        owners = [bucket for bucket, shots in enumerate(members) for _ in shots]
        taken = []
        for epoch in range(step // len(owners) + 1):
            order = counters.permutation(
                len(owners), seed=self._training["seed"], stream="buckets", index=epoch
            )
            taken += [owners[number] for number in order]
        bucket = taken[step]
        if half == "prior":
            return self._prior, self._sizes[bucket], step
        return [members[bucket]], self._sizes[bucket], taken[:step].count(bucket)

    def _pick(self, half: str, what: str, count: int, at: tuple[int, int]) -> int:
        stream, seed = f"{half}/{what}", self._training["seed"]
        return int(counters.integers((), high=count, seed=seed, stream=stream, index=at))

    def _normal(self, half: str, what: str, shape: tuple[int, ...], at: tuple[int, int]) -> Any:
        stream, seed = f"{half}/{what}", self._training["seed"]
        return counters.normal(shape, seed=seed, stream=stream, index=at).double()
