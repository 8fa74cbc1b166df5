"""How things are drawn: colours of confidence, marks of a mask, and the `Look` that chooses among them.

It knows no terminal; `tdiff.terminal.detect` finds out what one can do. Styles are those that rich and textual
both read. With 256 colours, palettes are exact entries of the xterm palette; `dark` and `light` stay apart under the
common colour-vision deficiencies, `traffic` (red for low, green for high) does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

DEPTHS = ("truecolor", "256", "16", "none")
"""How many colours may be written."""
GLYPHS = ("block", "space", "ascii")
"""What a mask is drawn with: █, a space with a coloured ground, or # where nothing but ASCII can be shown."""
GROUNDS = ("dark", "light")
PALETTES = ("dark", "light", "traffic")

BLOCK = "█"

# From low confidence to high. Among 16 colours every step differs, by lightness where it can.
_SHADES = {
    ("dark", "dark"): ((166, 173, 208, 215, 223, 229), (1, 9, 3, 11, 7, 15)),
    ("light", "light"): ((61, 241, 24, 238, 52, 234), (8, 5, 12, 1, 4, 0)),
    ("traffic", "dark"): ((196, 202, 214, 226, 154, 46), (1, 9, 3, 11, 10, 2)),
    ("traffic", "light"): ((160, 166, 130, 100, 64, 22), (9, 1, 5, 3, 6, 2)),
}
_ATTRIBUTES = ("dim", "", "bold", "underline", "reverse")
# (a mask, a place masked again), as entries of the palette: a quiet grey, and a blue that no shade of confidence has.
_MASKS = {"dark": ((240, 75), (8, 12)), "light": ((250, 33), (8, 12))}
# A single character such as # covers less than a block, so its grey is nearer to that of text.
_MASKS_OF_ASCII = {"dark": ((244, 75), (8, 12)), "light": ((245, 26), (8, 12))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """What a drawing function may use."""

    palette: str = "dark"
    """Colours of confidence: one of PALETTES."""
    ground: str = "dark"
    """What is behind the text: dark or light."""
    colour: str = "256"
    """One of DEPTHS."""
    glyphs: str = "block"
    """One of GLYPHS."""
    utf8: bool = True
    """False: not one character beyond ASCII may be written."""

    @property
    def ascii(self) -> bool:
        """Whether frames, bars, blocks and curves must be ASCII."""
        return self.glyphs == "ascii"


@dataclass(frozen=True, slots=True)
class Styles:
    """The styles of a look."""

    shades: tuple[str, ...]
    """From low confidence to high."""
    fresh: tuple[str, ...]
    """The same for what is new this step."""
    new: str
    """What `fresh` has that `shades` has not."""
    mask: tuple[str, str]
    """(text, style) of a masked place."""
    remask: tuple[str, str]
    """(text, style) of a place that this step masked again."""
    bare: frozenset[str]
    """Those of the shades that leave blanks out: one in reverse would look like a mask, a line under one like a gap."""


@lru_cache(maxsize=64)
def styles(look: Theme) -> Styles:
    """The styles of a look.

    New is bold. Where that could be taken for a level of confidence (without colour bold is one, and consoles of 16
    colours brighten what is bold), new is underlined too.
    """
    if look.colour == "none":
        new = "bold underline"
        fresh: tuple[str, ...] = (f"{new} dim", new, new, new, f"{new} reverse")
        masks = _mask_without_colour(look.glyphs), _remask_without_colour(look.glyphs)
        return Styles(_ATTRIBUTES, fresh, new, *masks, frozenset({"underline", "reverse", *fresh}))
    ground = look.ground if look.palette == "traffic" else look.palette
    depth = 1 if look.colour == "16" else 0
    new = "bold underline" if depth else "bold"
    shades = tuple(f"color({n})" for n in _SHADES[look.palette, ground][depth])
    fresh = tuple(f"{new} {shade}" for shade in shades)
    mask, remask = (_MASKS_OF_ASCII if look.ascii else _MASKS)[ground][depth]
    masks = _mask(look.glyphs, mask), _remask(look.glyphs, remask)
    return Styles(shades, fresh, new, *masks, frozenset(fresh if depth else ()))


def _mask(glyphs: str, colour: int) -> tuple[str, str]:
    # The ground of a block is as its face, so that gaps that a font leaves between blocks do not show.
    return {
        "block": (BLOCK, f"color({colour}) on color({colour})"),
        "space": (" ", f"on color({colour})"),
        "ascii": ("#", f"color({colour})"),
    }[glyphs]


def _remask(glyphs: str, colour: int) -> tuple[str, str]:
    # Another glyph too: a copied screen has no colours.
    return {
        "block": ("▒", f"color({colour})"),
        "space": (" ", f"on color({colour})"),
        "ascii": ("%", f"color({colour})"),
    }[glyphs]


def _mask_without_colour(glyphs: str) -> tuple[str, str]:
    return {"block": (BLOCK, "dim"), "space": (" ", "dim reverse"), "ascii": ("#", "dim")}[glyphs]


def _remask_without_colour(glyphs: str) -> tuple[str, str]:
    return {"block": ("▒", ""), "space": (" ", "underline"), "ascii": ("%", "")}[glyphs]
