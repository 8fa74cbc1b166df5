"""The metrics of a training run: one row each, which readers, tables, figures and descriptions of a run share.

A metric's name is the same in all of them. To add a metric, add a row here, and the line that computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tdiff.formatting import NOT_FINITE


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

    def text(self, value: float | None) -> str:
        """A value as text, without its unit. None and NaN stand for a number that was not finite."""
        return NOT_FINITE if value is None or not math.isfinite(value) else f"{value:{self.format}}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("train/loss", "loss", "nats/token", ".4f", "lower", "loss"),
        Metric("eval/loss", "held-out loss", "nats/token", ".4f", "lower", "nats_per_token"),
        Metric("eval/nats_per_char", "held-out loss", "nats/character", ".4f", "lower", "nats_per_char"),
        Metric("eval/accuracy", "accuracy", "", ".1%", "higher"),
        Metric("train/lr", "lr", "", ".2e", None, "lr"),
        Metric("train/grad_norm", "grad", "", ".4f", None, "grad_norm"),
        Metric("train/tokens_per_second", "speed", "tokens/s", ",.0f", "higher", "tokens_per_second"),
        Metric("gpu/load", "GPU", "%", ".0f", None, "gpu_load"),
        Metric("gpu/memory", "mem", "GiB", ".1f", None, "gpu_memory"),
        Metric("gpu/temperature", "temp", "°C", ".0f", None, "gpu_temperature"),
        Metric("gpu/power", "power", "W", ".0f", None, "gpu_power"),
    )
}
