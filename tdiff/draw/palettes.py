"""Colours of confidence, glyphs of masks, and the `Theme` that selects them.

Nothing here depends on a terminal; `tdiff.terminal.detect` finds out what a terminal supports. Styles are those that
rich and textual both read. With 256 colours, palettes are exact entries of the xterm palette; the shades of `dark` and
`light` become steadily lighter and steadily darker, so that they stay distinct and in order under the common
colour-vision deficiencies; those of `traffic` (red for low, green for high) do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

DEPTHS = ("truecolor", "256", "16", "none")
"""The numbers of colours that a terminal may support."""
GLYPHS = ("block", "space", "ascii")
"""The glyph of a mask: █, a space on a coloured background, or # where only ASCII can be shown."""
BACKGROUNDS = ("dark", "light")
PALETTES = ("dark", "light", "traffic")

BLOCK = "█"

# From low confidence to high. Among 16 colours every step differs, by lightness where possible.
_SHADES = {
    ("dark", "dark"): ((131, 166, 208, 214, 221, 230), (1, 9, 3, 7, 11, 15)),
    ("light", "light"): ((166, 160, 125, 89, 53, 17), (8, 5, 12, 1, 4, 0)),
    ("traffic", "dark"): ((196, 202, 214, 226, 154, 46), (1, 9, 3, 11, 10, 2)),
    ("traffic", "light"): ((160, 166, 130, 100, 64, 22), (9, 1, 5, 3, 6, 2)),
}
_ATTRIBUTES = ("dim", "", "bold", "underline", "reverse")
# The same for drafts, darker than any token that is unmasked. Among 16 colours all drafts are grey.
_FAINT = {
    ("dark", "dark"): ((238, 240, 241, 243, 245, 247), (8,) * 6),
    ("light", "light"): ((252, 250, 249, 247, 246, 244), (7,) * 6),
    ("traffic", "dark"): ((52, 88, 94, 100, 64, 28), (8,) * 6),
    ("traffic", "light"): ((217, 216, 223, 229, 193, 157), (7,) * 6),
}
# (the cursor, the selection): no shade of confidence, and readable without colour by being reversed.
_MARKS = {
    "dark": (("bold color(16) on color(231)", "color(16) on color(110)"), ("bold reverse", "reverse underline")),
    "light": (("bold color(231) on color(16)", "color(231) on color(67)"), ("bold reverse", "reverse underline")),
}
# The frame of the text that wins a race, by the background: an entry of the palette, and one of 16 colours.
_WINNERS = {"dark": (71, 2), "light": (28, 2)}
WINNERS = tuple(sorted({f"color({n})" for entries in _WINNERS.values() for n in entries}))
"""Every style, but none, that `winner_style` returns."""
# (a mask, a remasked position), as entries of the palette: a muted grey, and a blue that is no shade of confidence.
_MASKS = {"dark": ((240, 75), (8, 12)), "light": ((250, 33), (8, 12))}
# A character such as # covers less than a block, so its grey is closer to that of text.
_MASKS_OF_ASCII = {"dark": ((244, 75), (8, 12)), "light": ((245, 26), (8, 12))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """The colours and glyphs that a drawing function may use."""

    palette: str = "dark"
    """The colours of confidence: one of PALETTES."""
    background: str = "dark"
    """The background of the text: dark or light."""
    colour: str = "256"
    """One of DEPTHS."""
    glyphs: str = "block"
    """One of GLYPHS."""
    utf8: bool = True
    """False: no character beyond ASCII may be written."""

    @property
    def ascii(self) -> bool:
        """Whether frames, bars, blocks and curves must be ASCII."""
        return self.glyphs == "ascii"


@dataclass(frozen=True, slots=True)
class Styles:
    """The styles of a theme."""

    shades: tuple[str, ...]
    """From low confidence to high."""
    fresh: tuple[str, ...]
    """The same for positions unmasked in this step."""
    new: str
    """The attributes that `fresh` adds to `shades`."""
    mask: tuple[str, str]
    """(text, style) of a masked position."""
    remask: tuple[str, str]
    """(text, style) of a position that this step remasked."""
    draft: str
    """The draft at a masked position, without a colour."""
    drafts: tuple[str, ...]
    """The same, from low to high."""
    tinted: tuple[str, ...]
    """A mask whose colour shows a value, from low to high."""
    cursor: str
    """The position of the cursor."""
    selected: str
    """A selected position."""
    bare: frozenset[str]
    """Shades that do not apply to blanks: a reversed blank would resemble a mask, an underlined one like a gap."""


@lru_cache(maxsize=64)
def styles(theme: Theme) -> Styles:
    """The styles of a theme.

    New positions are bold. Where bold could be mistaken for a level of confidence (without colour it is one, and
    consoles with 16 colours brighten bold text), they are underlined too.
    """
    if theme.colour == "none":
        new = "bold underline"
        fresh: tuple[str, ...] = (f"{new} dim", new, new, new, f"{new} reverse")
        masks = _mask_without_colour(theme.glyphs), _remask_without_colour(theme.glyphs)
        return Styles(
            shades=_ATTRIBUTES,
            fresh=fresh,
            new=new,
            mask=masks[0],
            remask=masks[1],
            draft="dim underline",
            drafts=("dim underline",) * len(_ATTRIBUTES),
            tinted=tuple(f"dim {style}".strip() for style in _ATTRIBUTES),
            cursor="bold reverse",
            selected="reverse underline",
            bare=frozenset({"underline", "reverse", *fresh}),
        )
    background = theme.background if theme.palette == "traffic" else theme.palette
    depth = 1 if theme.colour == "16" else 0
    new = "bold underline" if depth else "bold"
    shades = tuple(f"color({n})" for n in _SHADES[theme.palette, background][depth])
    fresh = tuple(f"{new} {shade}" for shade in shades)
    mask, remask = (_MASKS_OF_ASCII if theme.ascii else _MASKS)[background][depth]
    masks = _mask(theme.glyphs, mask), _remask(theme.glyphs, remask)
    faint = tuple(f"color({n})" for n in _FAINT[theme.palette, background][depth])
    cursor, selected = _MARKS[background][depth]
    return Styles(
        shades=shades,
        fresh=fresh,
        new=new,
        mask=masks[0],
        remask=masks[1],
        draft=f"dim color({mask})",
        drafts=faint,
        tinted=tuple(_mask(theme.glyphs, n)[1] for n in _FAINT[theme.palette, background][depth]),
        cursor=cursor,
        selected=selected,
        bare=frozenset(fresh if depth else ()),
    )


def winner_style(theme: Theme) -> str:
    """The style of the frame of the text that wins a race; "" without colours."""
    return "" if theme.colour == "none" else f"color({_WINNERS[theme.background][theme.colour == '16']})"


def _mask(glyphs: str, colour: int) -> tuple[str, str]:
    # The background of a block has the same colour, so that gaps that a font leaves between blocks do not show.
    return {
        "block": (BLOCK, f"color({colour}) on color({colour})"),
        "space": (" ", f"on color({colour})"),
        "ascii": ("#", f"color({colour})"),
    }[glyphs]


def _remask(glyphs: str, colour: int) -> tuple[str, str]:
    # Another glyph as well as another colour: text copied from a screen has no colours.
    return {
        "block": ("▒", f"color({colour})"),
        "space": (" ", f"on color({colour})"),
        "ascii": ("%", f"color({colour})"),
    }[glyphs]


def _mask_without_colour(glyphs: str) -> tuple[str, str]:
    return {"block": (BLOCK, "dim"), "space": (" ", "dim reverse"), "ascii": ("#", "dim")}[glyphs]


def _remask_without_colour(glyphs: str) -> tuple[str, str]:
    return {"block": ("▒", ""), "space": (" ", "underline"), "ascii": ("%", "")}[glyphs]
