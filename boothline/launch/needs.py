"""What a configuration needs of the machine that runs it: optional libraries, CUDA, keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from boothline.catalogue import TRAINING_PIPELINES
from boothline.config import RunConfig
from boothline.config.fields import named_in
from boothline.doctor.libraries import Need, missing, refuse
from boothline.settings import Settings

_SAMPLING: Final = ("prior", "evaluation", "inference")
_ON_CUDA: Final = {
    ("training.optimizer", "adamw8bit"): "Set it to adamw, or to adafactor to save memory.",
    ("training.frozen_precision", "nf4"): "Set it to bf16.",
    **{
        (f"{place}.precision", "fp16"): "Set it to fp32, or to bf16 where the processor has it."
        for place in ("training", *(f"{step}.sampling" for step in _SAMPLING))
    },
}
"""Settings that take CUDA, each with what to do without."""


def lacking(
    config: RunConfig, settings: Settings, *, pipeline: str = TRAINING_PIPELINES[0]
) -> list[Need]:
    """Return what a run of this configuration would miss on this machine."""
    unsigned = _unsigned(settings) if pipeline in TRAINING_PIPELINES else ()
    return [*missing(config, settings), *_cuda(config), *_keys(settings), *unsigned]


def check_needs(config: RunConfig, settings: Settings, *, pipeline: str) -> None:
    """Refuse a run that this machine cannot end.

    Raises:
        ConfigError: something is missing; the first is named.
    """
    refuse(lacking(config, settings, pipeline=pipeline))


def _cuda(config: RunConfig) -> Iterator[Need]:
    """Yield the settings that take a CUDA device where there is none."""
    found = named_in(config, [name for name, _ in _ON_CUDA])
    asking = [(name, value) for name, value in _ON_CUDA if found.get(name) == value]
    if not asking:
        return
    import torch

    if torch.cuda.is_available():
        return
    for name, value in asking:
        yield Need(
            setting=f"{name} {value}",
            message="needs a CUDA device, and there is none here",
            remedy=_ON_CUDA[name, value],
        )


def _keys(settings: Settings) -> Iterator[Need]:
    """Yield the keys that cannot be read."""
    keys: dict[str, Path | None] = {
        "BOOTHLINE_SIGNING_KEY": settings.signing_key,
        "BOOTHLINE_VERIFICATION_KEY": settings.verification_key,
    }
    for setting, key in keys.items():
        if key is None:
            continue
        try:
            key.read_bytes()
        except OSError as error:
            yield Need(
                setting=setting,
                message=f"names {key}, which cannot be read: {error.strerror}",
                remedy="Correct the path or its permissions, or unset it.",
            )


def _unsigned(settings: Settings) -> Iterator[Need]:
    """Yield that the model of this run would be published unsigned, and then be refused."""
    if settings.verification_key and not settings.signing_key:
        yield Need(
            setting="BOOTHLINE_VERIFICATION_KEY",
            message="asks for signed models, and this run would publish one without a signature",
            remedy="Set BOOTHLINE_SIGNING_KEY to the private half of that key, or unset it.",
        )
