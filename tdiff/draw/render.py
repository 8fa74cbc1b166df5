"""Canvases as styled runs of text: pure functions, tested as strings.

A run is a pair (text, style); a line is a list of runs. Styles are those that rich and textual both read; a `Theme`
selects them. Nothing here depends on a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.canvas_layout import Piece
from tdiff.draw.overlay import MODES, NOTHING, Overlay
from tdiff.draw.palettes import Styles, Theme, styles
from tdiff.protocol.canvas import GIVEN, MASKED, Canvas
from tdiff.protocol.counters import counters
from tdiff.protocol.detail import TOP

Run = tuple[str, str]
Line = list[Run]

_FIXED_BLANK = "\u00a0"
DEFAULT_THEME = Theme()
"""256 colours on a dark background."""


def style_of(confidence: float, theme: Theme = DEFAULT_THEME, fresh: bool = False) -> str:
    """The style of an unmasked position; a `fresh` one, unmasked in this step, is emphasized as in `legend`."""
    if confidence >= GIVEN:
        return ""
    shades = styles(theme).fresh if fresh else styles(theme).shades
    return shades[min(int(confidence * len(shades)), len(shades) - 1)]


def drawn_texts(canvas: Canvas, theme: Theme = DEFAULT_THEME, overlay: Overlay = NOTHING) -> list[str]:
    """The text to draw at each position, for `lay_out`: its token, or its draft or the glyph of a mask."""
    # A mask that is a blank with a background may begin a row, unlike the blanks of words: it is fixed until drawn.
    mask, remask = (glyph.replace(" ", _FIXED_BLANK) for glyph in (styles(theme).mask[0], styles(theme).remask[0]))
    texts = [
        mask if confidence == MASKED else text for text, confidence in zip(canvas.texts, canvas.confidence, strict=True)
    ]
    for position in canvas.remasked:
        texts[position] = remask
    for position, draft in overlay.drafts.items():
        if canvas.confidence[position] == MASKED:
            texts[position] = draft
    return texts


def row_line(canvas: Canvas, row: Sequence[Piece], theme: Theme = DEFAULT_THEME, overlay: Overlay = NOTHING) -> Line:
    """One row of a layout with styles; neighbours with the same style are one run."""
    if overlay is not NOTHING:
        return _overlaid(canvas, row, theme, overlay)
    chosen = styles(theme)
    shades, new, bare, mask, remask = chosen.shades, chosen.fresh, chosen.bare, chosen.mask[1], chosen.remask[1]
    last = len(shades) - 1
    line: Line = []
    for position, text in row:
        confidence = canvas.confidence[position]
        if confidence == MASKED:
            style = remask if position in canvas.remasked else mask
            text = text.replace(_FIXED_BLANK, " ")
        elif confidence >= GIVEN:
            style = ""
        else:
            style = (new if position in canvas.fresh else shades)[min(int(confidence * (last + 1)), last)]
            if style in bare and text[0] == " ":
                rest = text.lstrip(" ")
                _add(line, text[: len(text) - len(rest)], "")
                text = rest
        _add(line, text, style)
    return line


def _overlaid(canvas: Canvas, row: Sequence[Piece], theme: Theme, overlay: Overlay) -> Line:
    """As `row_line`, with an overlay."""
    chosen = styles(theme)
    shades, new, mask, remask = chosen.shades, chosen.fresh, chosen.mask[1], chosen.remask[1]
    count, values, drafts, marked = len(shades), overlay.values, overlay.drafts, overlay.marked
    line: Line = []
    for position, text in row:
        confidence = canvas.confidence[position]
        value = confidence if values is None else values[position]
        shade = None if value is None or value == MASKED else min(int(value * count), count - 1)
        if confidence == MASKED:
            style = remask if position in canvas.remasked else mask
            text = text.replace(_FIXED_BLANK, " ")
            if position in drafts:
                style = chosen.draft if shade is None else chosen.drafts[shade]
            elif values is not None and shade is not None and position not in canvas.remasked:
                style = chosen.tinted[shade]
        elif confidence >= GIVEN and (values is None or shade is None):
            style = ""
        else:
            style = "" if shade is None else (new if position in canvas.fresh else shades)[shade]
            if style in chosen.bare and text[0] == " " and position not in marked:
                rest = text.lstrip(" ")
                _add(line, text[: len(text) - len(rest)], "")
                text = rest
        if position in marked:
            line.append((text, _marked(style, position, overlay, chosen)))
        else:
            _add(line, text, style)
    return line


def _marked(style: str, position: int, overlay: Overlay, chosen: Styles) -> str:
    """The style of a position with the cursor, in the selection, or that differs from the canvas beside it."""
    if position == overlay.cursor:
        return chosen.cursor
    if position in overlay.selected:
        return chosen.selected
    return f"{style} underline".strip()


def _add(line: Line, text: str, style: str) -> None:
    if line and line[-1][1] == style:
        line[-1] = (line[-1][0] + text, style)
    elif text:
        line.append((text, style))


def legend(theme: Theme = DEFAULT_THEME, width: int = 80, mode: str = MODES[0], steps: int = 0) -> Line:
    """The meaning of colours and marks, in the longest form that fits into `width` cells: at least 17.

    `mode` is what the colours mean: one of `overlay.MODES`; its name and its unit stay longest, and words are left out
    whole. `steps` is the number of steps, in which the colours of steps are measured; 0 where it is not known.
    """
    chosen = styles(theme)
    (low, high, unit), levels = _scale(mode, steps, len(chosen.shades))
    glyph, style = chosen.remask
    lines: list[Line] = []
    for ends, new, remasked in _WORDS:
        ramp = [(f" {level}", shade) for level, shade in zip(levels, chosen.shades, strict=True)]
        last = " ".join(word for word in ("", high if ends else "", unit) if word)
        line: Line = [(f"{mode} {low}".rstrip() if ends else mode, "dim"), *ramp]
        line += [(f" {last}", "dim")] * bool(last) + [(f"  {new}: ", "dim"), ("bold", chosen.new)]
        lines.append([*line, (f"  {remasked}: ", "dim"), (glyph, style)] if remasked else line)
    numbers = [(str(n + 1), shade) for n, shade in enumerate(chosen.shades)]
    new_alone: Line = [("  new: ", "dim"), ("bold", chosen.new)]
    lines += [[(f"{mode} ", "dim"), *numbers, *new_alone], [*numbers, *new_alone]]
    return next((line for line in lines if cell_len(plain([line])) <= width), lines[-1])


# From the longest to the shortest: whether the words for the ends are said, the words for new positions and for
# remasked ones.
_WORDS = (
    (True, "new this step", "remasked"),
    (True, "new", "remasked"),
    (False, "new", "remasked"),
    (False, "new", ""),
)


def _scale(mode: str, steps: int, count: int) -> tuple[tuple[str, str, str], list[str]]:
    """The words for low and for high and the unit, and what each of `count` levels stands for.

    A level is named by the value in its middle, a rank by the last one that it includes.
    """
    middles = [(n + 0.5) / count for n in range(count)]
    if mode == "entropy":  # shown as exp(-entropy)
        return ("", "", "nats"), [f"{-math.log(share):.1f}".removeprefix("0") for share in middles]
    if mode == "rank":
        return ("", "", f"of {TOP}"), [str(min(TOP, 1 + int(TOP * (1 - n / count)))) for n in range(count)]
    if mode == "step":
        if not steps:
            return ("late", "early", ""), [str(count - n) for n in range(count)]
        return ("", "", f"of {steps}"), [str(min(steps, max(1, round((1 - share) * (steps + 1))))) for share in middles]
    return ("low", "high", ""), [f"{share:.1f}"[1:] for share in middles]


def status(canvas: Canvas, rule: str, cap: int, seconds: float) -> str:
    """The counters of a generation; `cap` is the decoder's number of steps, 0 if it has none."""
    done = canvas.maskable - canvas.left
    speed = f"{done / seconds:,.0f} tok/s" if seconds > 0 and done else "… tok/s"
    return f"{rule} · {counters(canvas, cap)} · {speed}"


def plain(lines: Iterable[Line]) -> str:
    """The text of lines without their styles."""
    return "\n".join("".join(text for text, _ in line) for line in lines)


def in_ascii(line: Line, theme: Theme) -> Line:
    """The line as a terminal with this theme can show it: unchanged, or in ASCII."""
    return [(ascii_text(text, not theme.utf8), style) for text, style in line] if theme.ascii else line
