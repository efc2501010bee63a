"""Scales and ticks of the charts, and how numbers are written."""

import math
from dataclasses import dataclass

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """Maps values linearly from [low, high] to [start, end], in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value, in pixels, to one decimal."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def tick_step(low: float, high: float, *, count: int = 5) -> float:
    """Return the round distance (1, 2, 2.5 or 5 x a power of ten) for about `count` ticks."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in _NICE if nice * power >= rough * 0.999)


def padded_range(
    values: list[float], *, padding: float = 0.08, floor: float | None = None
) -> tuple[float, float]:
    """Return a range around the values that is never empty.

    Args:
        values: finite numbers, at least one.
        padding: share of the span that is added on both sides.
        floor: the range never goes below it (values that do are kept inside).
    """
    low, high = min(values), max(values)
    span = (high - low) or max(abs(high), 1.0) * 0.1
    padded_low, padded_high = low - padding * span, high + padding * span
    if floor is not None and low >= floor:
        padded_low = max(floor, padded_low)
    return padded_low, padded_high


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return the round values inside a range, lowest first."""
    step = tick_step(low, high, count=count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """Return a tick's text with the decimals that its distance needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**decimals, 6) != round(step * 10**decimals):
        decimals += 1
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def number(value: float, decimals: int = 3) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, decimals: int = 3) -> str:
    """Return a number that always carries its sign."""
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Return a duration for people: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: int) -> str:
    """Return a size for people, in decimal units: `814 B`, `12.4 kB`, `3.1 MB`."""
    if num_bytes < 1000:
        return f"{num_bytes} B"
    value, unit = num_bytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def energy(joules: float) -> str:
    """Return an energy for people: `0.4 J`, `350 J`, `1.25 Wh`, `2.10 kWh`."""
    if joules < 9.95:
        return f"{joules:.1f} J"
    if joules < 3600:
        return f"{joules:.0f} J"
    hours = joules / 3600
    return f"{hours:.2f} Wh" if hours < 999.5 else f"{hours / 1000:.2f} kWh"


def processor_time(seconds: float) -> str:
    """Return processor time of one unit: `0.035 s`, `1.25 s`, `42 s`."""
    decimals = 3 if seconds < 1 else 2 if seconds < 10 else 0
    return f"{seconds:.{decimals}f} s"
