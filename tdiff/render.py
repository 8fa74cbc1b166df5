"""Records and canvases as styled runs of text: pure functions, tested as strings.

A run is a pair (text, style); a line is a list of runs. Styles are those that rich and textual both read. Colours are
exact entries of the 256-colour palette that stay apart under the common colour-vision deficiencies.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len

from tdiff.canvas import GIVEN, MASKED, Canvas

Run = tuple[str, str]
Line = list[Run]

BLOCK = "█"
PALETTES = {
    "dark": (166, 173, 208, 215, 223, 229),
    "light": (61, 241, 24, 238, 52, 234),
}
_MASK_STYLE = {"dark": "color(240) on color(240)", "light": "color(250) on color(250)"}
# Without colour five levels still differ.
_PLAIN = ("dim", "", "underline", "bold", "bold underline")


def style_of(confidence: float, fresh: bool = False, palette: str = "dark", colour: bool = True) -> str:
    """The style of a revealed place; what is new this step is bold."""
    if confidence >= GIVEN:
        return ""
    if not colour:
        return "reverse" if fresh else _PLAIN[min(int(confidence * len(_PLAIN)), len(_PLAIN) - 1)]
    shades = PALETTES[palette]
    shade = f"color({shades[min(int(confidence * len(shades)), len(shades) - 1)]})"
    return f"bold {shade}" if fresh else shade


def canvas_lines(canvas: Canvas, width: int, palette: str = "dark", colour: bool = True) -> list[Line]:
    """The canvas, broken at line feeds and at `width` columns; masks are blocks."""
    lines: list[Line] = [[]]
    column = 0

    def put(text: str, style: str) -> None:
        nonlocal column
        if column + cell_len(text) > width and column:
            lines.append([])
            column = 0
        if cell_len(text) > width and len(text) > 1:  # a token longer than a line
            for character in text:
                put(character, style)
            return
        line = lines[-1]
        if line and line[-1][1] == style:
            line[-1] = (line[-1][0] + text, style)
        else:
            line.append((text, style))
        column += cell_len(text)

    for place, (text, confidence) in enumerate(zip(canvas.texts, canvas.confidence, strict=True)):
        if confidence == MASKED:
            put(BLOCK, _MASK_STYLE[palette] if colour else "")
            continue
        style = style_of(confidence, place in canvas.fresh, palette, colour)
        for n, part in enumerate(text.split("\n")):
            if n:
                lines.append([])
                column = 0
            if part:
                put(part.replace("\t", "    "), style)
    return lines


def legend(palette: str = "dark", colour: bool = True) -> Line:
    """What the colours mean."""
    levels = len(PALETTES[palette]) if colour else len(_PLAIN)
    ramp = [
        (f" {(n + 0.5) / levels:.1f} ", style_of((n + 0.5) / levels, False, palette, colour)) for n in range(levels)
    ]
    new = "bold" if colour else "reverse"
    return [("confidence low", "dim"), *ramp, ("high", "dim"), ("   new this step: ", "dim"), (new, new)]


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


def duration(seconds: float) -> str:
    """A duration as a person says it: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
