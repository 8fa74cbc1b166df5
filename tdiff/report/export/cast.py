"""Recordings of a terminal (asciicast v2, https://docs.asciinema.org/manual/asciicast/v2/), which asciinema plays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rich.color import ColorSystem
from rich.style import Style

from tdiff.draw.render import Line
from tdiff.report.export.frames import Frame, Size


def lines(frames: Iterable[Frame], size: Size, title: str) -> Iterator[str]:
    """The lines of the file: a header, and for each frame the rows that changed."""
    header = {
        "version": 2,
        "width": size.width,
        "height": size.height,
        "title": title,
        "env": {"TERM": "xterm-256color"},
    }
    yield json.dumps(header) + "\n"
    now = 0.0
    shown: list[str | None] = [None] * size.height
    for frame in frames:
        text = "\x1b[?25l\x1b[2J" if shown[0] is None else ""
        rows = [_ansi(line) for line in frame.lines]
        text += "".join(f"\x1b[{n + 1};1H{row}" for n, row in enumerate(rows) if row != shown[n])
        shown = list(rows)
        yield json.dumps([round(now, 3), "o", text], ensure_ascii=False) + "\n"
        now += frame.seconds
    yield json.dumps([round(now, 3), "o", f"\x1b[{size.height};1H\x1b[?25h\r\n"]) + "\n"


def _ansi(line: Line) -> str:
    return "".join(
        Style.parse(style).render(text, color_system=ColorSystem.EIGHT_BIT) if style else text for text, style in line
    )
