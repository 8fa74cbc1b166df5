"""Styles as colours in RGB, for pictures that no terminal draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rich.style import Style
from rich.terminal_theme import TerminalTheme

RGB = tuple[int, int, int]

_ANSI = [
    *((12, 12, 12), (205, 49, 49), (13, 160, 90), (190, 150, 30), (40, 110, 200), (170, 70, 170), (20, 150, 180)),
    (204, 204, 204),
]
_BRIGHT = [
    *((102, 102, 102), (241, 76, 76), (35, 209, 139), (245, 220, 70), (80, 150, 240), (214, 112, 214), (41, 184, 219)),
    (240, 240, 240),
]
THEMES = {
    "dark": TerminalTheme((22, 24, 29), (222, 224, 228), _ANSI, _BRIGHT),
    "light": TerminalTheme((253, 253, 251), (36, 38, 43), _ANSI, _BRIGHT),
}
"""Background, text and the 16 colours for each background of a `Theme`."""
_DIM = 0.45
"""How far dim text is moved towards its background."""


@dataclass(frozen=True, slots=True)
class Colours:
    """How a cell is drawn."""

    text: RGB
    background: RGB
    bold: bool = False
    underline: bool = False


@lru_cache(maxsize=1024)
def colours(style: str, background: str) -> Colours:
    """The colours of a style such as "bold color(215)" on a dark or light background."""
    theme, parsed = THEMES[background], Style.parse(style)
    back = tuple(parsed.bgcolor.get_truecolor(theme, foreground=False)) if parsed.bgcolor else theme.background_color
    front = tuple(parsed.color.get_truecolor(theme)) if parsed.color else theme.foreground_color
    if parsed.reverse:
        front, back = back, front
    if parsed.dim:
        front = blend(_rgb(front), _rgb(back), _DIM)
    return Colours(_rgb(front), _rgb(back), bool(parsed.bold), bool(parsed.underline))


def blend(colour: RGB, other: RGB, share: float) -> RGB:
    """`colour` moved towards `other` by a share of 0..1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def hexadecimal(colour: RGB) -> str:
    """A colour such as #16181d."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _rgb(colour: tuple[int, ...]) -> RGB:
    red, green, blue = colour
    return red, green, blue
