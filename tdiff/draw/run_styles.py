"""The colours of the curves of several runs."""

from __future__ import annotations

from tdiff.draw.palettes import Theme

_STYLES = {
    "dark": (
        ("color(215)", "color(229)"),
        ("color(80)", "color(123)"),
        ("color(176)", "color(225)"),
        ("color(150)", "color(193)"),
    ),
    "light": (
        ("color(166)", "color(94)"),
        ("color(25)", "color(24)"),
        ("color(90)", "color(54)"),
        ("color(28)", "color(22)"),
    ),
    "16": (("color(3)", "color(11)"), ("color(6)", "color(14)"), ("color(5)", "color(13)"), ("color(2)", "color(10)")),
}
"""Styles of each run: its training curve, and its held-out curve."""


def run_styles(number: int, theme: Theme) -> tuple[str, str]:
    """The styles of the training curve and of the held-out curve of a run; both are empty without colour."""
    if theme.colour == "none":
        return "", ""
    return _STYLES["16" if theme.colour == "16" else theme.background][number % 4]
