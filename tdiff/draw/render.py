"""Records and canvases as styled runs of text: pure functions, tested as strings.

A run is a pair (text, style); a line is a list of runs. Styles are those that rich and textual both read; which ones
are used is the choice of a `Look`. Nothing here knows a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.layout import Piece
from tdiff.draw.palettes import Theme, styles
from tdiff.protocol.canvas import GIVEN, MASKED, Canvas

Run = tuple[str, str]
Line = list[Run]

PLAIN_LOOK = Theme()
"""256 colours on a dark ground."""


def style_of(confidence: float, look: Theme = PLAIN_LOOK, fresh: bool = False) -> str:
    """The style of a revealed place; what is new this step stands out, as `legend` says."""
    if confidence >= GIVEN:
        return ""
    shades = styles(look).fresh if fresh else styles(look).shades
    return shades[min(int(confidence * len(shades)), len(shades) - 1)]


def drawn_texts(canvas: Canvas, look: Theme = PLAIN_LOOK) -> list[str]:
    """What is drawn in each place, for `layout`: its text, or the glyph of a mask."""
    mask, remask = styles(look).mask[0], styles(look).remask[0]
    texts = [
        mask if confidence == MASKED else text for text, confidence in zip(canvas.texts, canvas.confidence, strict=True)
    ]
    for place in canvas.remasked:
        texts[place] = remask
    return texts


def row_line(canvas: Canvas, row: Sequence[Piece], look: Theme = PLAIN_LOOK) -> Line:
    """One row of a layout, with styles; neighbours of one style are one run."""
    chosen = styles(look)
    shades, new, bare, mask, remask = chosen.shades, chosen.fresh, chosen.bare, chosen.mask[1], chosen.remask[1]
    last = len(shades) - 1
    line: Line = []
    for place, text in row:
        confidence = canvas.confidence[place]
        if confidence == MASKED:
            style = remask if place in canvas.remasked else mask
        elif confidence >= GIVEN:
            style = ""
        else:
            style = (new if place in canvas.fresh else shades)[min(int(confidence * (last + 1)), last)]
            if style in bare and text[0] == " ":
                rest = text.lstrip(" ")
                _add(line, text[: len(text) - len(rest)], "")
                text = rest
        _add(line, text, style)
    return line


def _add(line: Line, text: str, style: str) -> None:
    if line and line[-1][1] == style:
        line[-1] = (line[-1][0] + text, style)
    elif text:
        line.append((text, style))


def legend(look: Theme = PLAIN_LOOK, width: int = 80) -> Line:
    """What the colours and marks mean, in at most `width` cells where that is at least 17; the whole takes 75."""
    chosen = styles(look)
    shades = chosen.shades
    glyph, style = chosen.remask
    lines = []
    for low, high, new, again, whole in _WORDS:
        labels = (f"{(n + 0.5) / len(shades):.1f}" for n in range(len(shades)))
        ramp = [
            (f" {label[1:]}" if whole else str(n + 1), shade)
            for n, (label, shade) in enumerate(zip(labels, shades, strict=True))
        ]
        line = [(low, "dim"), *ramp, (high, "dim"), (f"  {new}: ", "dim"), ("bold", chosen.new)]
        lines.append([*line, (f"  {again}: ", "dim"), (glyph, style)] if again else line)
    return next((line for line in lines if cell_len(plain([line])) <= width), lines[-1])


# From the longest to the shortest: what is said of low, of high, of what is new, and of what is masked again; and
# whether levels are told by their confidence or by a number.
_WORDS = (
    ("confidence low", " high", "new this step", "masked again", True),
    ("low", " high", "new this step", "masked again", True),
    ("low", " high", "new", "again", True),
    ("low ", " high", "new", "again", False),
    ("", "", "new", "again", False),
    ("", "", "new", "", False),
)


def status(canvas: Canvas, rule: str, cap: int, seconds: float) -> str:
    """The counters of a generation; `cap` is the decoder's number of steps, 0 where it has none."""
    step = f"step {canvas.index}/{cap}" if cap else f"step {canvas.index}"
    done = canvas.maskable - canvas.left
    speed = f"{done / seconds:,.0f} tok/s" if seconds > 0 and done else "… tok/s"
    return (
        f"{rule} · {step} · {canvas.revealed:.0%} · {canvas.left} left · "
        f"mean confidence {canvas.mean_confidence:.2f} · {speed}"
    )


def plain(lines: Iterable[Line]) -> str:
    """The text of lines without their styles."""
    return "\n".join("".join(text for text, _ in line) for line in lines)


def in_ascii(line: Line, look: Theme) -> Line:
    """The line as a terminal of this look can show it: unchanged, or in ASCII."""
    return [(ascii_text(text, not look.utf8), style) for text, style in line] if look.ascii else line
