"""Palettes: their shades are in order, and readable on their backgrounds."""

from itertools import pairwise

import pytest

from tdiff.draw.palettes import Theme, styles
from tdiff.draw.render import legend
from tdiff.report.export.colours import RGB, THEMES, colours

BOTH = pytest.mark.parametrize("palette", ["dark", "light"])


def luminance(colour: RGB) -> float:
    """The relative luminance Y of an sRGB colour, 0..1 (IEC 61966-2-1)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def lightness(colour: RGB) -> float:
    """CIE L*, 0..100, against the white of sRGB."""
    y = luminance(colour)
    return 116 * y ** (1 / 3) - 16 if y > (6 / 29) ** 3 else (29 / 3) ** 3 * y


def contrast(colour: RGB, other: RGB) -> float:
    """The contrast ratio of two colours, 1..21 (WCAG 2)."""
    low, high = sorted((luminance(colour), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def shades(palette: str) -> list[RGB]:
    return [colours(style, palette).text for style in styles(Theme(palette=palette, background=palette)).shades]


def test_lightness_of_known_colours():
    assert [round(lightness(colour), 1) for colour in ((0, 0, 0), (119, 119, 119), (255, 255, 255))] == [0, 50.0, 100]
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


@BOTH
def test_shades_move_steadily_away_from_the_background(palette):
    away = [lightness(colour) * (1 if palette == "dark" else -1) for colour in shades(palette)]
    assert all(b - a >= 5 for a, b in pairwise(away)), away


@BOTH
def test_each_shade_is_readable_on_its_background(palette):
    background = tuple(THEMES[palette].background_color)
    assert all(contrast(colour, background) >= 3 for colour in shades(palette))


def test_shades_of_16_colours_are_in_order_on_dark():
    away = [lightness(colours(style, "dark").text) for style in styles(Theme(colour="16")).shades]
    assert all(b > a for a, b in pairwise(away)), away


@BOTH
def test_legend_shows_the_shades_in_order(palette):
    theme = Theme(palette=palette, background=palette)
    shown = [style for text, style in legend(theme) if text.startswith(" .")]
    assert tuple(shown) == styles(theme).shades
