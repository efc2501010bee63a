"""The loss: per-sample denoising errors of the instance and prior halves, and their sum.

With z the scaled latents, e the noise, a_t = sqrt(alpha_bar_t), s_t = sqrt(1 - alpha_bar_t) and
SNR_t = a_t^2 / s_t^2:

    noisy latents   z_t = a_t z + s_t e                  (Ho et al., "Denoising Diffusion
    target          epsilon: e   sample: z                Probabilistic Models", 2020)
                    v_prediction: a_t e - s_t z          (Salimans & Ho, "Progressive
                                                          Distillation", 2022)
    weight          1, or min-SNR (Hang et al., "Efficient Diffusion Training via Min-SNR
                    Weighting Strategy", 2023): min(SNR_t, gamma) for sample, over SNR_t for
                    epsilon, over SNR_t + 1 for v
    error d         d^2, or with Huber's delta (Huber, "Robust estimation of a location
                    parameter", 1964; twice it, so that small errors count alike):
                    d^2 where |d| <= delta, delta (2 |d| - delta) beyond
    loss of i       weight(t_i) x mean error of sample i, in float32
    masks           the mean is over what is learnt: sum of w d^2 / sum of w, so that a small
                    subject counts as much as a large one, and the class as much as without
                    masks (so in the training of Kumari et al., "Multi-concept customization of
                    text-to-image diffusion", 2023)
    flow matching   z_s = (1 - s) z + s e, target e - z  (Lipman et al., "Flow matching for
                                                          generative modeling", 2023)
    loss            mean over the instance half + prior.weight x mean over the prior half
                    (Ruiz et al., "DreamBooth", 2023, equation 2)
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from boothline.buckets import Size
from boothline.config.training import TrainingConfig
from boothline.diffusion import counters
from boothline.diffusion.counters import Index
from boothline.diffusion.families.flow import Density, FlowFamily
from boothline.diffusion.loading import DiffusionParts

FLOW_TIMESTEPS = 1000
# Below the weight of one latent with one pixel at 1 of 255.
_SMALLEST_WEIGHT = 1e-6


class Timesteps(Protocol):
    """Where the timesteps of a training come from."""

    def draw(self, *, seed: int, stream: str, index: Index) -> float:
        """Return the timestep of one sample; the draw is named as in `counters`."""


@dataclass(frozen=True, kw_only=True)
class UniformTimesteps:
    """Every number of a noise schedule alike.

    Attributes:
        count: timesteps of the schedule.
    """

    count: int

    def draw(self, *, seed: int, stream: str, index: Index) -> int:
        """Return a number in [0, count)."""
        if self.count == 1:
            return 0
        return int(counters.integers((), high=self.count, seed=seed, stream=stream, index=index))


@dataclass(frozen=True, kw_only=True)
class FlowTimesteps:
    """Noise levels of flow matching, times 1000.

    Flow matching has noise levels s in (0, 1), and 1000 s is the timestep that the network reads:

        uniform        s = u, uniform
        logit_normal   s = 1 / (1 + exp(-n)), n standard normal     (Esser et al., "Scaling
        shifted        a s / (1 + (a - 1) s) of a logit-normal s    rectified flow transformers",
                       a grows with the picture or is the model's   2024, sections 3.1 and 5.3.2)

    Attributes:
        density: how they are spread.
        shift: a, used by `shifted` alone.
    """

    density: Density
    shift: float = 1.0

    def draw(self, *, seed: int, stream: str, index: Index) -> float:
        """Return a timestep in [0, 1000]."""
        if self.density == "uniform":
            level = float(counters.uniform((), seed=seed, stream=stream, index=index))
            return level * FLOW_TIMESTEPS
        number = float(counters.normal((), seed=seed, stream=stream, index=index))
        level = 1 / (1 + math.exp(-number))
        if self.density == "shifted":
            level = self.shift * level / (1 + (self.shift - 1) * level)
        return level * FLOW_TIMESTEPS


PredictionType = Literal["epsilon", "v_prediction", "sample"]


class Objective(Protocol):
    """Noises latents, and scores predictions."""

    def to(self, device: torch.device) -> None:
        """Move what it holds to a device."""

    def timestep_at(self, fraction: float) -> float:
        """Return the timestep at a fraction in [0, 1) of all."""

    def noisy(
        self, latents_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, timesteps_B: torch.Tensor
    ) -> torch.Tensor:
        """Return the noisy latents: float32, (B, C, H, W)."""

    def losses(
        self,
        prediction_BCHW: torch.Tensor,
        *,
        latents_BCHW: torch.Tensor,
        noise_BCHW: torch.Tensor,
        timesteps_B: torch.Tensor,
        weights_BHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the weighted mean error of each sample: float32, (B,), at least 0."""


class FlowObjective:
    """Flow matching: the target is the velocity from the picture to the noise.

    Args:
        huber_delta: where the error turns from squared to linear; None: nowhere.
    """

    def __init__(self, *, huber_delta: float | None = None) -> None:
        self._huber_delta = huber_delta

    def to(self, device: torch.device) -> None:
        """Nothing is held."""

    def timestep_at(self, fraction: float) -> float:
        """Return the timestep at a fraction in [0, 1) of all."""
        return fraction * FLOW_TIMESTEPS

    def noisy(
        self, latents_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, timesteps_B: torch.Tensor
    ) -> torch.Tensor:
        """Return the noisy latents z_s: float32, (B, C, H, W)."""
        level = (timesteps_B.float() / FLOW_TIMESTEPS)[:, None, None, None]
        return (1 - level) * latents_BCHW + level * noise_BCHW

    def losses(
        self,
        prediction_BCHW: torch.Tensor,
        *,
        latents_BCHW: torch.Tensor,
        noise_BCHW: torch.Tensor,
        timesteps_B: torch.Tensor,
        weights_BHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean error of each sample: float32, (B,), at least 0."""
        difference = prediction_BCHW.float() - (noise_BCHW - latents_BCHW)
        return _mean_errors(difference, self._huber_delta, weights_BHW)


class ScheduleObjective:
    """Noises latents and scores predictions.

    Args:
        alphas_cumprod: alpha_bar_t of the noise schedule, (T,), in [0, 1].
        prediction_type: what the UNet predicts.
        min_snr_gamma: gamma of the min-SNR weights; None weighs every timestep alike.
        huber_delta: where the error turns from squared to linear; None: nowhere.
    """

    def __init__(
        self,
        alphas_cumprod: torch.Tensor,
        *,
        prediction_type: PredictionType,
        min_snr_gamma: float | None = None,
        huber_delta: float | None = None,
    ) -> None:
        self._huber_delta = huber_delta
        alpha_bar = alphas_cumprod.double().cpu()
        self._signal = alpha_bar.sqrt().float()
        self._sigma = (1 - alpha_bar).sqrt().float()
        self._prediction_type = prediction_type
        self._weights = _timestep_weights(alpha_bar, prediction_type, min_snr_gamma).float()

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps T of the noise schedule."""
        return self._signal.numel()

    def timestep_at(self, fraction: float) -> int:
        """Return the timestep at a fraction in [0, 1) of all."""
        return int(fraction * self.num_timesteps)

    def to(self, device: torch.device) -> None:
        """Move the schedule to a device."""
        self._signal, self._sigma, self._weights = (
            values.to(device) for values in (self._signal, self._sigma, self._weights)
        )

    def noisy(
        self, latents_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, timesteps_B: torch.Tensor
    ) -> torch.Tensor:
        """Return the noisy latents z_t: float32, (B, C, H, W)."""
        signal, sigma = self._levels(timesteps_B)
        return signal * latents_BCHW + sigma * noise_BCHW

    def losses(
        self,
        prediction_BCHW: torch.Tensor,
        *,
        latents_BCHW: torch.Tensor,
        noise_BCHW: torch.Tensor,
        timesteps_B: torch.Tensor,
        weights_BHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the weighted mean error of each sample: float32, (B,), at least 0."""
        target = self._target(latents_BCHW, noise_BCHW, timesteps_B)
        difference = prediction_BCHW.float() - target
        errors_B = _mean_errors(difference, self._huber_delta, weights_BHW)
        return errors_B * self._weights[timesteps_B]

    def _target(
        self, latents_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, timesteps_B: torch.Tensor
    ) -> torch.Tensor:
        """Return what a perfect UNet predicts: float32, (B, C, H, W)."""
        if self._prediction_type == "epsilon":
            return noise_BCHW
        if self._prediction_type == "sample":
            return latents_BCHW
        signal, sigma = self._levels(timesteps_B)
        return signal * noise_BCHW - sigma * latents_BCHW

    def _levels(self, timesteps_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a_t and s_t: float32, (B, 1, 1, 1) each."""
        return self._signal[timesteps_B][:, None, None, None], self._sigma[timesteps_B][
            :, None, None, None
        ]


def _mean_errors(
    difference_BCHW: torch.Tensor, huber_delta: float | None, weights_BHW: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean squared, or Huber's, error of each sample: (B,); 0 where nothing counts."""
    errors = difference_BCHW.square()
    if huber_delta is not None:
        size = difference_BCHW.abs()
        linear = huber_delta * (2 * size - huber_delta)
        errors = torch.where(size <= huber_delta, errors, linear)
    if weights_BHW is None:
        return errors.flatten(1).mean(1)
    weights = weights_BHW[:, None].expand_as(errors).flatten(1)
    return (errors.flatten(1) * weights).sum(1) / weights.sum(1).clamp(min=_SMALLEST_WEIGHT)


def _timestep_weights(
    alpha_bar: torch.Tensor, prediction_type: PredictionType, gamma: float | None
) -> torch.Tensor:
    """Return the loss weight of each timestep, (T,)."""
    if gamma is None:
        return torch.ones_like(alpha_bar)
    snr = alpha_bar / (1 - alpha_bar)
    if prediction_type == "sample":
        return snr.clamp(max=gamma)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) / (snr + 1)


def total_loss(
    losses_B: torch.Tensor,
    *,
    num_instance: int,
    half_size: int,
    prior_weight: float,
    scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss to differentiate and the detached sums of both halves.

    Args:
        losses_B: per-sample losses of a micro-batch, instance half first.
        num_instance: size of its instance half.
        half_size: size of one half of the global batch; both means divide by it.
        prior_weight: weight of the prior half.
        scale: factor of the loss; the world size, where gradients are averaged over ranks.

    Returns:
        The loss, and float64 (2,): the sums over the instance and the prior half.
    """
    instance, prior = losses_B[:num_instance].sum(), losses_B[num_instance:].sum()
    loss = (instance + prior_weight * prior) * (scale / half_size)
    return loss, torch.stack([instance, prior]).detach().double()


def objective_of(pipeline: DiffusionParts, training: TrainingConfig) -> Objective:
    """Return the loss of a family."""
    if pipeline.family.is_flow:
        return FlowObjective(huber_delta=training.huber_delta)
    schedule = pipeline.scheduler
    return ScheduleObjective(
        schedule.alphas_cumprod,
        prediction_type=schedule.config.prediction_type,
        min_snr_gamma=training.min_snr_gamma,
        huber_delta=training.huber_delta,
    )


def timesteps_of(pipeline: DiffusionParts, training: TrainingConfig, *, size: Size) -> Timesteps:
    """Return what draws the timesteps of pictures of a size, (width, height) in pixels."""
    family = pipeline.family
    if not isinstance(family, FlowFamily):
        return UniformTimesteps(count=len(pipeline.scheduler.alphas_cumprod))
    width, height = (side // pipeline.vae_scale for side in size)
    num_tokens = family.num_tokens(pipeline, height=height, width=width)
    return FlowTimesteps(
        density=training.timestep_density or family.density,
        shift=family.shift(pipeline.scheduler, num_tokens=num_tokens),
    )
