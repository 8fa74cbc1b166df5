"""A generation with an ending (`--until`), cut where its text ends: the positions after that stay masked for good."""

from __future__ import annotations

import dataclasses

from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.visible import visible
from tdiff.watch.generation.recording import Recording


def up_to_end(recording: Recording) -> Recording:
    """The recording with the positions alone that hold its text, and with the same steps; without predictions.

    It is the recording itself where the text fills the canvas, and while it is in progress.
    """
    cells = _text_cells(recording)
    if cells == recording.header.cells:
        return recording
    excess = _excess(recording, cells)
    cut: Recording | None = None
    for line in recording.lines():
        if isinstance(line, TraceHeader):
            cut = Recording(dataclasses.replace(line, cells=cells, given=[g for g in line.given if g[0] < cells]))
            continue
        if isinstance(line, TraceStep):
            kept = [
                (n, text.removesuffix(excess) if n == cells - 1 else text, token, confidence, event)
                for n, text, token, confidence, event in line.cells
                if n < cells
            ]
            line = dataclasses.replace(line, cells=kept, detail=None, tokens=None)
        assert cut is not None, "a trace begins with its header"
        cut.take(line)
    assert cut is not None, "a trace begins with its header"
    return cut


def _text_cells(recording: Recording) -> int:
    """The number of positions that hold the text."""
    header, ended = recording.header, recording.ended
    if ended is None or not header.settings.get("until") or ended.tokens < 1:
        return header.cells
    given = {position for position, _, _ in header.given}
    generated = (n for n in range(header.cells) if n not in given)
    last = next((n for count, n in enumerate(generated, 1) if count == ended.tokens), header.cells - 1)
    return last + 1


def _excess(recording: Recording, cells: int) -> str:
    """What the last token of the text has after its end, such as a line break."""
    assert recording.ended is not None, "only a complete text is cut"
    written, text = "".join(recording.canvas(recording.steps).texts[:cells]), visible(recording.ended.text)
    return written[len(text) :] if written.startswith(text) else ""
