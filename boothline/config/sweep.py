"""`sweep`: which settings a sweep tries."""

from typing import Self

from pydantic import Field, model_validator

from boothline.config.section import Section

Value = bool | int | float | str | None
SWEEPABLE = ("training.", "prior.weight")
"""Settings that may differ between trials: dataset, class pictures and evaluation are shared."""


class SearchRange(Section):
    """Numbers that a sweep draws from."""

    low: float = Field(description="Smallest value.")
    high: float = Field(description="Largest value.")
    log: bool = Field(default=False, description="Draw the logarithm evenly; low must be above 0.")
    integer: bool = Field(default=False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"sweep.ranges: low ({self.low}) exceeds high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"sweep.ranges: low ({self.low}) must be above 0 where log is true")
        return self


class SweepConfig(Section):
    """Which settings `boothline sweep` tries; other commands ignore it."""

    grid: dict[str, tuple[Value, ...]] = Field(
        default_factory=dict,
        description="Setting to the values it is to take, e.g. `{training.learning_rate: [1.0e-4, "
        "2.0e-4]}`; every combination is a trial. Only training.* and prior.weight may differ, so "
        "that all trials share dataset and class pictures.",
    )
    ranges: dict[str, SearchRange] = Field(
        default_factory=dict,
        description="Setting to a range that Optuna draws from, e.g. `{training.learning_rate: "
        "{low: 1.0e-5, high: 1.0e-3, log: true}}`; needs the extra `sweep`. With ranges, values of "
        "grid are drawn too.",
    )
    num_trials: int = Field(
        default=8, ge=1, le=100, description="Trials drawn when there are ranges."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the draws.")
    trials: tuple[dict[str, Value], ...] = Field(
        default=(),
        max_length=100,
        description="The trials themselves, each setting to value; unset: made from grid and "
        "ranges when the sweep starts, and kept with the run.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [*self.grid, *self.ranges, *(name for trial in self.trials for name in trial)]
        for name in names:
            if not name.startswith(SWEEPABLE[0]) and name not in SWEEPABLE[1:]:
                raise ValueError(
                    f"sweep: {name} may not differ between trials; only training.* and "
                    "prior.weight may"
                )
        both = sorted(self.grid.keys() & self.ranges.keys())
        if both:
            raise ValueError(f"sweep: {both[0]} stands in both grid and ranges; keep one")
        empty = [name for name, values in self.grid.items() if not values]
        if empty:
            raise ValueError(f"sweep.grid: {empty[0]} has no value")
        return self
