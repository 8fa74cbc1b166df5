"""Numbers for people."""

import math

import pytest

from tdiff import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45.2, "45 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (599, "9 min 59 s"),
        (600, "10 min"),
        (3540, "59 min"),
        (3599, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_duration_uses_the_largest_fitting_units(seconds, text):
    assert formatting.duration(seconds) == text


def test_age_counts_days_from_48_hours():
    assert formatting.age(48 * 3600 - 60) == "47 h 59 min"
    assert formatting.age(48 * 3600) == "2 days"
    assert formatting.age(4e8) == "4,630 days"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1400, "1.4 kB"), (438_000_000, "438 MB"), (2.5e12, "2,500 GB")],
)
def test_size_uses_decimal_units(count, text):
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.48, "0.48"), (2.7e-5, "2.7e-05"), (8192, "8,192"), (-20_100_000, "-20.1M"), (3e9, "3.0G"),
        (2e12, "2e+12"), (None, "not finite"), (math.nan, "not finite"),
    ],
)  # fmt: skip
def test_short_keeps_three_digits_or_uses_a_unit(value, text):
    assert formatting.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"), (1.66701, "1.6670"), (0.000412345, "0.0004123"), (-3.0, "-3.0000"), (123456.7, "1.235e+05"),
        (None, "not finite"), (math.inf, "not finite"),
    ],
)  # fmt: skip
def test_loss_keeps_four_decimals_or_four_digits(value, text):
    assert formatting.loss(value) == text


def test_percent_and_probability_name_a_missing_value():
    assert (formatting.percent(0.8521), formatting.percent(math.nan)) == ("85.2%", "not finite")
    assert (formatting.probability(0.8521), formatting.probability(None)) == ("0.852", "-")
