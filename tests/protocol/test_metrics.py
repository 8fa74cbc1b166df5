"""The table of metrics."""

import dataclasses
import math

import pytest

from tdiff.protocol.events import Eval, Train
from tdiff.protocol.metrics import METRICS


def test_every_field_is_one_of_the_records():
    names = {field.name for kind in (Train, Eval) for field in dataclasses.fields(kind)}
    assert {metric.field for metric in METRICS.values() if metric.field} <= names


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("train/loss", 1.23456, "1.2346"),
        ("train/loss", None, "not finite"),
        ("train/loss", math.nan, "not finite"),
        ("train/lr", 0.002, "2.00e-03"),
        ("train/tokens_per_second", 12345.6, "12,346"),
        ("eval/accuracy", 0.852, "85.2%"),
    ],
)
def test_a_value_is_formatted_by_its_row(name, value, text):
    assert METRICS[name].text(value) == text
