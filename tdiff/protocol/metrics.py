"""The metrics of a training run: one row each, which readers, tables, figures and descriptions of a run share.

A metric's name is the same in all of them. To add a metric, add a row here, and the line that computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tdiff import formatting

_LOSS = ".4f"
"""The format of losses and norms, which `formatting.loss` replaces where a value is very small or very large."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What there is to know about a metric besides its values."""

    name: str
    """Such as "train/loss"."""
    label: str
    """A short name for lines and figures."""
    unit: str
    """Empty for a number without a unit."""
    format: str
    """The format specification of a value, such as ".4f"."""
    better: Literal["lower", "higher"] | None = None
    """Which values are better; None for a metric that has no goal."""
    field: str = ""
    """The field of `events.Train` or `events.Eval` that contains it; empty for none."""
    curve: str = ""
    """What its curve is called beside another one; empty for the label."""

    def text(self, value: float | None) -> str:
        """A value as text, without its unit. None and NaN stand for a number that was not finite."""
        if value is None or not math.isfinite(value):
            return formatting.NOT_FINITE
        return formatting.loss(value) if self.format == _LOSS else f"{value:{self.format}}"

    def full_text(self, value: float | None) -> str:
        """A value as text, with its unit."""
        text = self.text(value)
        return (
            text if not self.unit or text == formatting.NOT_FINITE else f"{text}{' ' * (self.unit != '%')}{self.unit}"
        )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("train/loss", "loss", "nats/token", _LOSS, "lower", "loss", "train"),
        Metric("eval/loss", "held-out loss", "nats/token", _LOSS, "lower", "nats_per_token", "val"),
        Metric("eval/nats_per_char", "held-out loss", "nats/character", _LOSS, "lower", "nats_per_char"),
        Metric("eval/accuracy", "accuracy", "", ".1%", "higher"),
        Metric("train/lr", "lr", "", ".2e", None, "lr"),
        Metric("train/grad_norm", "grad", "", _LOSS, None, "grad_norm"),
        Metric("train/tokens_per_second", "speed", "tokens/s", ",.0f", "higher", "tokens_per_second"),
        Metric("gpu/load", "GPU", "%", ".0f", None, "gpu_load"),
        Metric("gpu/memory", "mem", "GiB", ".1f", None, "gpu_memory"),
        Metric("gpu/temperature", "temp", "°C", ".0f", None, "gpu_temperature"),
        Metric("gpu/power", "power", "W", ".0f", None, "gpu_power"),
    )
}


def value_text(name: str, value: float | None) -> str:
    """A value of a metric as text, also of one that is not in the table."""
    if (metric := METRICS.get(name)) is not None:
        return metric.text(value)
    return formatting.loss(value) if "loss" in name else formatting.short(value)


def curve_name(name: str) -> str:
    """What the curve of a metric is called beside others; the name itself for one that is not in the table."""
    metric = METRICS.get(name)
    return name if metric is None else metric.curve or metric.label
