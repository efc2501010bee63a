"""The formulas of a DreamBooth training, written from the papers, in float64.

No line here comes from the product. References:

    DDPM       Ho et al., "Denoising diffusion probabilistic models", 2020
    LDM        Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022
    v          Salimans and Ho, "Progressive distillation", 2022, appendix D
    min-SNR    Hang et al., "Efficient diffusion training via min-SNR weighting strategy", 2023
    Huber      Huber, "Robust estimation of a location parameter", 1964
    masks      Kumari et al., "Multi-concept customization of text-to-image diffusion", 2023: the
               mean error of the pixels that count
    prior      Ruiz et al., "DreamBooth", 2023, equation 2
    clipping   Pascanu et al., "On the difficulty of training recurrent neural networks", 2013
    Adam       Kingma and Ba, "Adam", 2015, algorithm 1
    AdamW      Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2
    cosine     Loshchilov and Hutter, "SGDR", 2017, equation 5
    average    Polyak and Juditsky, 1992, with the warm-up (1 + n) / (10 + n) of TensorFlow's
               ExponentialMovingAverage
    Lion       Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

Tensors = dict[str, torch.Tensor]
ADAM_EPSILON = 1e-8  # Kingma and Ba's, which every library has as its default
NORM_EPSILON = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm it divides by


def draw_latents(moments: torch.Tensor, draw: torch.Tensor, *, scale: float) -> torch.Tensor:
    """LDM: a sample of the encoder's diagonal Gaussian, brought to unit variance."""
    mean, log_variance = moments.split(moments.shape[0] // 2)
    deviation = torch.sqrt(torch.exp(log_variance))
    return scale * (mean + deviation * draw)


def diffuse(latents: torch.Tensor, noise: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """DDPM, equation 4: q(x_t | x_0) has the mean sqrt(ab) x_0 and the variance 1 - ab."""
    return math.sqrt(alpha_bar) * latents + math.sqrt(1 - alpha_bar) * noise


def target_of(
    kind: str, latents: torch.Tensor, noise: torch.Tensor, alpha_bar: float
) -> torch.Tensor:
    """What the network is asked for: the noise, the picture, or v = alpha e - sigma x."""
    velocity = math.sqrt(alpha_bar) * noise - math.sqrt(1 - alpha_bar) * latents
    return {"epsilon": noise, "sample": latents, "v_prediction": velocity}[kind]


def min_snr_weight(kind: str, alpha_bar: float, gamma: float | None) -> float:
    """min-SNR, section 3.4: min(SNR, gamma) as a weight of the error of the picture.

    A network that predicts the noise errs SNR times as much (in squares) as in the picture, one
    that predicts v SNR + 1 times; so its weight is divided by that. Without any signal SNR is 0,
    and min(SNR, gamma) / SNR is 1 in the limit.
    """
    if gamma is None:
        return 1.0
    signal, noise = alpha_bar, 1 - alpha_bar
    if kind == "epsilon":
        return min(signal, gamma * noise) / signal if signal else 1.0
    snr = signal / noise
    return min(snr, gamma) / (1.0 if kind == "sample" else snr + 1.0)


def error_of(difference: torch.Tensor, delta: float | None) -> torch.Tensor:
    """Squared error, or twice Huber's rho, which continues it with its tangent beyond delta."""
    if delta is None:
        return difference**2
    inside = difference.clamp(-delta, delta)
    return inside**2 + 2 * delta * (difference - inside).abs()


def masked_mean(error: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The mean over channels and places, a place counting as much as it weighs."""
    if weights is None:
        return error.mean()
    weighed = (error.mean(0) * weights).sum()
    return weighed / weights.sum() if weights.any() else 0 * weighed


def preservation_loss(
    instance: torch.Tensor, prior: torch.Tensor | None = None, *, weight: float
) -> torch.Tensor:
    """DreamBooth: the mean over the subject's samples, plus lambda times that over the class's."""
    return instance.mean() if prior is None else instance.mean() + weight * prior.mean()


def clip(gradients: Tensors, threshold: float) -> Tensors:
    """Pascanu et al., algorithm 1: rescale the whole gradient to the threshold when it is longer.

    As in torch, the norm that is divided by is larger by 1e-6.
    """
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    if norm + NORM_EPSILON <= threshold:
        return gradients
    return {name: g * threshold / (norm + NORM_EPSILON) for name, g in gradients.items()}


@dataclass
class AdamW:
    """Adam with decoupled decay: theta <- theta - lr (m' / (sqrt(v') + eps) + decay theta)."""

    beta1: float
    beta2: float
    decay: float
    first: Tensors = field(default_factory=dict)
    second: Tensors = field(default_factory=dict)
    time: int = 0

    def step(self, weights: Tensors, gradients: Tensors, rates: Mapping[str, float]) -> Tensors:
        self.time += 1
        new = {}
        for name, gradient in gradients.items():
            m = self.first.get(name, torch.zeros_like(gradient))
            v = self.second.get(name, torch.zeros_like(gradient))
            m = self.first[name] = self.beta1 * m + (1 - self.beta1) * gradient
            v = self.second[name] = self.beta2 * v + (1 - self.beta2) * gradient**2
            unbiased_m = m / (1 - self.beta1**self.time)
            unbiased_v = v / (1 - self.beta2**self.time)
            update = unbiased_m / (torch.sqrt(unbiased_v) + ADAM_EPSILON)
            new[name] = weights[name] - rates[name] * (update + self.decay * weights[name])
        return new


@dataclass
class Lion:
    """The sign of an interpolated momentum, with decoupled decay."""

    beta1: float
    beta2: float
    decay: float
    momentum: Tensors = field(default_factory=dict)

    def step(self, weights: Tensors, gradients: Tensors, rates: Mapping[str, float]) -> Tensors:
        new = {}
        for name, gradient in gradients.items():
            m = self.momentum.get(name, torch.zeros_like(gradient))
            update = torch.sign(self.beta1 * m + (1 - self.beta1) * gradient)
            self.momentum[name] = self.beta2 * m + (1 - self.beta2) * gradient
            new[name] = weights[name] - rates[name] * (update + self.decay * weights[name])
        return new


def rate_at(step: int, *, peak: float, warmup: int, total: int, schedule: str) -> float:
    """The learning rate of a step, counted from 0.

    It rises on a line through 0 one step before the first and through the peak at step `warmup`,
    then falls over the remaining steps, to 0 one step after the last.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    left = (total - step) / (total - warmup) if total > warmup else 1.0
    return (
        peak
        * {
            "constant": 1.0,
            "linear": left,
            "polynomial": left * left,
            "cosine": (1 - math.cos(math.pi * left)) / 2,
        }[schedule]
    )


def averaged(average: Tensors, weights: Tensors, *, decay: float, update: int) -> Tensors:
    """The moving average after update n, counted from 0."""
    kept = min(decay, (1 + update) / (10 + update))
    return {name: kept * a + (1 - kept) * weights[name] for name, a in average.items()}
