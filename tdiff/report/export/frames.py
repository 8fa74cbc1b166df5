"""The frames of an animation as lines of styled text, all of the same size in cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from tdiff.draw import render
from tdiff.draw.canvas_layout import CanvasLayout, lay_out
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.protocol.canvas import MASKED, Canvas
from tdiff.protocol.counters import counters
from tdiff.report.export.timeline import Moment, footer
from tdiff.watch.generation.ending import up_to_end
from tdiff.watch.generation.recording import Recording

LEAST = (24, 8)
"""Smallest width and height in cells."""
WIDTH, MAX_HEIGHT = 80, 24
"""The size where none is named; the height is at most what the text needs."""
_FRAME_ROWS = 4
"""Title, blank, blank and legend."""
_FOOTER_ROWS = 2
"""Rows of the footer, at most."""
_DOT = " · "
_GAP = 3
"""Blank cells between two recordings."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows of exactly the same width and number, and how long they are shown."""

    lines: list[Line]
    seconds: float


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height of a frame in cells."""

    width: int
    height: int


def parse_size(text: str) -> Size:
    """A size such as 80x24. Raises TdiffError for another text or a size that is too small."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise TdiffError(f"--size takes COLUMNSxROWS, such as 80x24; got {text!r}")
    size = Size(int(width), int(height))
    if size.width < LEAST[0] or size.height < LEAST[1] or size.width > 400 or size.height > 200:
        raise TdiffError(f"--size is at least {LEAST[0]}x{LEAST[1]} and at most 400x200; got {text}")
    return size


def default_size(recorded: Sequence[Recording], theme: Theme) -> Size:
    """80 columns, and as many rows as the finished texts need, at most 24."""
    width = _panel_width(WIDTH, len(recorded))
    rest = _FRAME_ROWS + max(len(_footer_rows(recording, width)) for recording in recorded)
    recorded = [up_to_end(recording) for recording in recorded]
    rows = max(len(lay_out(render.drawn_texts(r.canvas(r.steps), theme), width).rows) for r in recorded)
    masked = max(0 if r.ended else -(-r.header.cells // width) for r in recorded)
    return Size(WIDTH, min(max(rows, masked, LEAST[1] - rest) + rest, MAX_HEIGHT))


def frames(
    recorded: Sequence[Recording],
    timeline: Sequence[Moment],
    size: Size,
    theme: Theme,
    name: str = "",
    legend: bool = True,
) -> Iterator[Frame]:
    """A frame for each moment; `name` stands before the counters. Without colours, leave out the `legend`."""
    width = _panel_width(size.width, len(recorded))
    footers = [_footer_rows(recording, width) for recording in recorded]
    below = max(map(len, footers))
    footers = [[*rows, *[""] * (below - len(rows))] for rows in footers]
    room = size.height - _FRAME_ROWS - below + (not legend)
    starts = [0] * len(recorded)
    recorded = [up_to_end(recording) for recording in recorded]
    for moment in timeline:
        panels = []
        for n, (recording, step) in enumerate(zip(recorded, moment.steps, strict=True)):
            lines, starts[n] = _panel(recording, step, width, room, theme, name, starts[n])
            panels.append([*lines, *([(text, "dim")] for text in footers[n])])
        rows = [_join(row, width) for row in zip(*panels, strict=True)]
        if legend:
            rows.insert(len(rows) - below, render.legend(theme, size.width))
        yield Frame([fit(render.in_ascii(row, theme), size.width) for row in rows], moment.seconds)


def _panel_width(width: int, panels: int) -> int:
    return (width - _GAP * (panels - 1)) // panels


def _panel(
    recording: Recording, step: int, width: int, room: int, theme: Theme, name: str, start: int
) -> tuple[list[Line], int]:
    """The rows of one recording above the legend, and the first row of its text that they show."""
    canvas = recording.canvas(step)
    layout = _layout(canvas, recording, width, theme)
    start = _start(canvas, layout.row, len(layout.rows), room, start)
    text = [render.row_line(canvas, row, theme) for row in layout.rows[start : start + room]]
    text += [[] for _ in range(room - len(text))]
    return [[(_title(canvas, recording.header.steps, name, width), "bold")], [], *text, []], start


def _layout(canvas: Canvas, recording: Recording, width: int, theme: Theme) -> CanvasLayout:
    """The layout of a canvas in which masks have the cells of their final tokens, so that the text stays in place."""
    texts = render.drawn_texts(canvas, theme)
    if recording.ended is None:
        return lay_out(texts, width)
    masks = {n: texts[n] for n, confidence in enumerate(canvas.confidence) if confidence == MASKED}
    final = recording.canvas(recording.steps).texts
    layout = lay_out([final[n] or text if n in masks else text for n, text in enumerate(texts)], width)
    for position, glyph in masks.items():
        row, column = layout.rows[layout.row[position]], layout.column[position]
        if final[position].startswith("\n") and column < width:  # a line feed itself has no cell
            row.append((position, glyph))
    for row in layout.rows:
        row[:] = [(n, masks[n] * cell_len(text) if n in masks and text != masks[n] else text) for n, text in row]
    return layout


def _title(canvas: Canvas, cap: int, name: str, width: int) -> str:
    """The name and the counters: as many as have room, since half a number would be a wrong number."""
    parts = counters(canvas, cap).split(_DOT)
    for dropped in ((), (2,), (2, 3), (1, 2, 3)):  # positions left, which the share says too; confidence; the share
        title = _DOT.join([name] * bool(name) + [part for n, part in enumerate(parts) if n not in dropped])
        if cell_len(title) <= width:
            return title
    return shortened(name, width) if name else shortened(title, width)


def _footer_rows(recording: Recording, width: int) -> list[str]:
    """The footer on at most two rows, broken between its parts; of what has no room there, nothing is shown."""
    rows: list[str] = []
    for part in footer(recording).split(_DOT):
        longer = _DOT.join([*rows[-1:], part])
        if rows and cell_len(longer) <= width:
            rows[-1] = longer
        elif len(rows) < _FOOTER_ROWS:
            rows.append(shortened(part, width))
    return rows or [""]


def shortened(text: str, width: int) -> str:
    """The text in at most `width` cells: without its last words, which an ellipsis replaces."""
    if cell_len(text) <= width:
        return text
    words = text.split(" ")
    while len(words) > 1 and cell_len(" ".join(words)) > width - 2:
        words.pop()
    kept = " ".join(words)
    return f"{kept} …" if cell_len(kept) <= width - 2 else f"{set_cell_size(kept, width - 1)}…"


def _start(canvas: Canvas, row_of: Sequence[int], rows: int, room: int, start: int) -> int:
    """The first row to show where not all fit: it moves only if the first masked position would be out of view."""
    if rows <= room:
        return 0
    first = row_of[canvas.confidence.index(MASKED)] if canvas.left else 0
    if not start <= first < start + room:
        start = first - room // 3
    return max(0, min(start, rows - room))


def _join(lines: Sequence[Line], width: int) -> Line:
    joined: Line = []
    for n, line in enumerate(lines):
        joined += [(" " * _GAP, "")] * (n > 0)
        joined += fit(line, width)
    return joined


def fit(line: Line, width: int) -> Line:
    """The line in exactly `width` cells: cut, or filled with blanks."""
    fitted: Line = []
    for text, style in line:
        size = cell_len(text)
        if size > width:
            text, size = set_cell_size(text, width), width
        if text:
            fitted.append((text, style))
        width -= size
    if width:
        fitted.append((" " * width, ""))
    return fitted
