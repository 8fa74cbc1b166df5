"""SVG: a still, or an animation without scripts, in which each row of text is shown for as long as it stays."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.cells import cell_len

from tdiff.draw.palettes import BLOCK
from tdiff.draw.render import Line
from tdiff.report.export.colours import THEMES, colours, hexadecimal
from tdiff.report.export.frames import Frame, Size
from tdiff.report.export.measures import BASELINE, FONT, MARGIN, ROW

_CELL = 8.4
"""Width of a cell in pixels."""
FAMILY = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace"


def document(frames: Sequence[Frame], size: Size, background: str, title: str) -> str:
    """The SVG of one frame, or of several with their times, in an endless loop."""
    width, height = round(size.width * _CELL + 2 * MARGIN), size.height * ROW + 2 * MARGIN
    theme = THEMES[background]
    total = sum(frame.seconds for frame in frames)
    styles, body = [], []
    for number, (line, row, start, end) in enumerate(_spans(frames)):
        content = _row(line, row, background)
        if not content:
            continue
        if len(frames) > 1 and (start > 0 or end < total):
            styles.append(_shown(number, start / total, end / total, total))
            body.append(f'<g class="r{number}">{content}</g>')
        else:
            body.append(content)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{escape(title)}</title>"
        f"<style>text{{font:{FONT}px {FAMILY};white-space:pre}}.b{{font-weight:bold}}{''.join(styles)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{hexadecimal(theme.background_color)}"/>'
        f'<g transform="translate({MARGIN},{MARGIN})" xml:space="preserve">{"".join(body)}</g></svg>\n'
    )


def _spans(frames: Sequence[Frame]) -> list[tuple[Line, int, float, float]]:
    """(line, row, start, end): each row of text with the time for which it stays, in seconds."""
    found, open_rows = [], dict[int, tuple[Line, float]]()
    now = 0.0
    for frame in frames:
        for row, line in enumerate(frame.lines):
            if row not in open_rows or open_rows[row][0] != line:
                if row in open_rows:
                    found.append((open_rows[row][0], row, open_rows[row][1], now))
                open_rows[row] = line, now
        now += frame.seconds
    return found + [(line, row, start, now) for row, (line, start) in open_rows.items()]


def _shown(number: int, start: float, end: float, total: float) -> str:
    """The style that shows a row from `start` to `end`, as shares of the `total` seconds."""
    steps = [(0.0, start <= 0), (start, True), (end, False)]
    keys = "".join(
        f"{100 * at:.4g}%{{visibility:{'visible' if seen else 'hidden'}}}" for at, seen in dict(steps).items() if at < 1
    )
    return f"@keyframes k{number}{{{keys}}}.r{number}{{animation:k{number} {total:.3g}s step-end infinite}}"


def _row(line: Line, row: int, background: str) -> str:
    """The elements of one row; empty for blanks on the picture's background."""
    plain = colours("", background).background
    parts, cell = [], 0
    for text, style in line:
        size, look = cell_len(text), colours(style, background)
        x, y, width = f"{cell * _CELL:.4g}", row * ROW, f"{size * _CELL:.4g}"
        box = f'x="{x}" y="{y}" width="{width}" height="{ROW}"'
        cell += size
        if set(text) == {BLOCK} and size:
            parts.append(f'<rect {box} fill="{hexadecimal(look.text)}"/>')
            continue
        if look.background != plain:
            parts.append(f'<rect {box} fill="{hexadecimal(look.background)}"/>')
        if text.strip():
            bold = ' class="b"' if look.bold else ""
            line_below = ' text-decoration="underline"' if look.underline else ""
            # textLength keeps the cells apart by the same distance in every font.
            parts.append(
                f'<text x="{x}" y="{y + BASELINE}" textLength="{width}" lengthAdjust="spacingAndGlyphs" '
                f'fill="{hexadecimal(look.text)}"{bold}{line_below}>{escape(text)}</text>'
            )
    return "".join(parts)
