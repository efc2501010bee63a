"""Checks that a configuration asks of a model's family only what it can do; without torch."""

from boothline.config import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.diffusion.families import Family
from boothline.errors import ConfigError


def check_config(family: Family, config: RunConfig) -> None:
    """Check the settings of a run against the family of its base model.

    Raises:
        ConfigError: a setting does not fit; the message names it and what to set.
    """
    training = config.training
    if training.method not in family.methods:
        raise ConfigError(
            f"training.method {training.method} does not work for {family.name}.",
            remedy=f"Set training.method to {' or '.join(family.methods)}.",
        )
    if training.trains_text_encoder and not family.trains_text_encoders:
        raise ConfigError(
            f"The text encoders of {family.name} stay frozen, and training.train_text_encoder "
            "asks to train them.",
            remedy="Set training.train_text_encoder to false.",
        )
    if family.is_flow and training.min_snr_gamma is not None:
        raise ConfigError(
            f"training.min_snr_gamma weighs a noise schedule, and {family.name} is trained by flow "
            "matching.",
            remedy="Leave training.min_snr_gamma unset.",
        )
    if not family.is_flow and training.timestep_density is not None:
        raise ConfigError(
            f"training.timestep_density is for flow matching; the timesteps of {family.name} are "
            "uniform.",
            remedy="Leave training.timestep_density unset.",
        )
    sections = {
        "evaluation.sampling": config.evaluation.sampling,
        "inference.sampling": config.inference.sampling,
        **({"prior.sampling": config.prior.sampling} if config.prior.enabled else {}),
    }
    for name, sampling in sections.items():
        check_sampler(family, sampling, name=name)


def check_sampler(family: Family, sampling: SamplingConfig, *, name: str) -> None:
    """Check that a sampler and its settings fit a family.

    Args:
        family: of the model.
        sampling: the settings.
        name: of their section, for the message.

    Raises:
        ConfigError: they do not fit.
    """
    if sampling.sampler not in family.samplers:
        raise ConfigError(
            f"{name}.sampler {sampling.sampler} does not fit {family.name}.",
            remedy=f"Set {name}.sampler to {' or '.join(family.samplers)}.",
        )
    if family.guidance == "embedded" and sampling.negative_prompt:
        raise ConfigError(
            f"{family.name} has no negative prompts: its guidance is an input of the network.",
            remedy=f"Leave {name}.negative_prompt empty.",
        )
