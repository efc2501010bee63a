"""Plans the trials of a sweep from its grid and ranges."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boothline.config import RunConfig
from boothline.config.fields import settings_of
from boothline.config.sweep import SWEEPABLE, SearchRange, SweepConfig, Value
from boothline.errors import ConfigError
from boothline.trials import trial_configs, validated

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MAX_TRIALS = 100
_DRAWS_PER_TRIAL = 20
Trial = dict[str, Value]


def with_choices(config: RunConfig, choices: Mapping[str, tuple[Value, ...]]) -> RunConfig:
    """Return the configuration with further values for its grid.

    Raises:
        ConfigError: a setting may not differ between trials.
    """
    if not choices:
        return config
    sweep = config.sweep.model_dump(mode="json")
    sweep["grid"] = {**sweep["grid"], **choices}
    return validated(config.model_dump(mode="json") | {"sweep": sweep}, "sweep.grid")


def split_choices(overrides: list[str]) -> tuple[list[str], dict[str, tuple[Value, ...]]]:
    """Part overrides of one value from those of several, `training.learning_rate=1e-4,2e-4`.

    Returns:
        The overrides of one value, and the values of the others by setting.
    """
    single, several = [], {}
    lists = {setting.name for setting in settings_of(RunConfig) if "list" in setting.type_name}
    for override in overrides:
        name, _, text = override.partition("=")
        may_differ = name.startswith(SWEEPABLE[0]) or name in SWEEPABLE[1:]
        if may_differ and "," in text and name not in lists:
            values = [part.strip() for part in text.split(",") if part.strip()]
            several[name] = tuple(_plain(value) for value in values)
        else:
            single.append(override)
    return single, several


def planned(config: RunConfig) -> RunConfig:
    """Return the configuration with its trials listed, the same for the same settings and seed.

    Raises:
        ConfigError: there is nothing to try, there are too many trials, one of them is not a valid
            configuration, or ranges are given and Optuna is not installed.
    """
    sweep = config.sweep
    trials = [dict(trial) for trial in sweep.trials] or _from(sweep)
    if not trials or not any(trials):
        raise ConfigError(
            "The sweep has nothing to try.",
            remedy="Give several values: --set training.learning_rate=1e-4,2e-4, or sweep.grid or "
            "sweep.ranges in a file.",
        )
    if len(trials) > MAX_TRIALS:
        raise ConfigError(
            f"The grid has {len(trials)} combinations; {MAX_TRIALS} is the most.",
            remedy="Give fewer values, or draw some: sweep.ranges with sweep.num_trials.",
        )
    made = config.model_copy(update={"sweep": sweep.model_copy(update={"trials": tuple(trials)})})
    trial_configs(made)
    return made


def _from(sweep: SweepConfig) -> list[Trial]:
    """Return the trials of a grid, or those drawn where there are ranges."""
    if sweep.ranges:
        return _drawn(sweep)
    return [
        dict(zip(sweep.grid, values, strict=True))
        for values in itertools.product(*sweep.grid.values())
    ]


def _drawn(sweep: SweepConfig) -> list[Trial]:
    """Return different trials drawn by Optuna's random sampler.

    All are drawn before the first one is trained, so that they can run side by side and a resumed
    sweep tries the same ones.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError(
            "sweep.ranges needs Optuna, which is not installed.",
            remedy="pip install 'boothline[sweep]', or list values in sweep.grid.",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=sweep.seed))
    space = {name: _distribution(values) for name, values in sweep.ranges.items()}
    space |= {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in sweep.grid.items()
    }
    trials: list[Trial] = []
    for _ in range(_DRAWS_PER_TRIAL * sweep.num_trials):
        drawn = study.ask(space).params
        if drawn not in trials:
            trials.append(drawn)
        if len(trials) == sweep.num_trials:
            break
    return trials


def _distribution(values: SearchRange) -> "BaseDistribution":
    """Return a range as Optuna's distribution."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if values.integer:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _plain(text: str) -> Value:
    """Return a value of the command line: a number, true, false or null where it reads as one."""
    words: dict[str, Value] = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
