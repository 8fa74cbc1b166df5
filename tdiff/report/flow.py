"""Labelled parts of text on as many lines as they need."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len

_LABEL_WIDTH = 12


def flow(label: str, parts: list[str], width: int) -> Iterator[str]:
    """The parts of a line, on as many lines as they need."""
    line = f"{label:<{_LABEL_WIDTH}}{parts[0]}"
    for part in parts[1:]:
        if cell_len(line) + cell_len(part) + 3 > width:
            yield line
            line = f"{'':<{_LABEL_WIDTH}}{part}"
        else:
            line += f" · {part}"
    yield line
