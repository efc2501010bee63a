import pytest

from boothline.report.drawing import (
    Scale,
    duration,
    number,
    padded_range,
    signed,
    size,
    tick_label,
    tick_step,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.22, [0.0, 0.05, 0.1, 0.15, 0.2]),
        (-0.1, 0.1, [-0.1, -0.05, 0.0, 0.05, 0.1]),
        (1.0, 120.0, [25.0, 50.0, 75.0, 100.0]),
    ],
)
def test_ticks_of_a_range_are_round_and_inside(low, high, expected) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [(0.25, 0.25, "0.25"), (0.2, 0.1, "0.2"), (40, 20, "40"), (-0.5, 0.5, "\N{MINUS SIGN}0.5")],
)
def test_tick_label_has_the_decimals_of_its_step(value, step, expected) -> None:
    assert tick_label(value, step) == expected


def test_padded_range_of_equal_values_is_not_empty() -> None:
    low, high = padded_range([0.4, 0.4])

    assert low < 0.4 < high
    assert tick_step(low, high) > 0


def test_padded_range_with_floor_stays_above_it() -> None:
    assert padded_range([0.001, 1.0], floor=0.0)[0] == 0.0


def test_scale_maps_ends_to_ends() -> None:
    scale = Scale(low=0, high=10, start=100, end=0)

    assert [scale(0), scale(5), scale(10)] == [100, 50, 0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (7199.9, "2 h 0 min"),
    ],
)
def test_duration_for_people_rounds_to_two_units(seconds, expected) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [(814, "814 B"), (12_400, "12.4 kB"), (999_990, "1.0 MB"), (3_100_000_000, "3.1 GB")],
)
def test_size_for_people_uses_decimal_units(num_bytes, expected) -> None:
    assert size(num_bytes) == expected


def test_numbers_have_true_signs() -> None:
    assert number(-0.1234) == "\N{MINUS SIGN}0.123"
    assert signed(0.5) == "+0.500"
