"""Logs of text: numbers with names on a line, bars with a loss, JSON behind a logger's prefix, blocks of lines.

A log is recognized by its first line with a loss; see `text` for what a line says, and `assemble` for what lines mean
together.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdiff.watch.formats import boxes
from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.plan import holds_loss, planned
from tdiff.watch.formats.text import LineReader


class TextLog(Parser):
    """Reads every line of a log for records and progress; all lines go to the log."""

    def __init__(self, sink: Sink, reader: LineReader, earlier: Sequence[str] = (), *, muted: bool = False) -> None:
        """`earlier` lines are in the log already; they may hold the heading of the first record.

        With `muted` no line is a record: those of an unrecognized log, and those between the records of another format.
        """
        self._sink, self._reader = sink, reader
        self._curves = Curves(sink, muted=muted)
        self._assembler = Assembler(self._curves, reader.names)
        self._boxes = boxes.Boxes()
        self._finished_label = ""
        for line in earlier:
            if not self._is_boxed(line):
                self._assembler.take(reader.read(line))

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        read, take, write = self._reader.read, self._assembler.take, self._sink.write
        for line in lines:
            if (self._boxes.open or line[:1] in boxes.STARTS) and self._is_boxed(line):
                write(line)
                continue
            fields = read(line)
            recorded = take(fields)
            if fields.bar is not None and not fields.structured:
                self._log_bar(fields)
            elif recorded:
                write(fields.text)
            elif fields.text and not fields.text.isspace():
                self._curves.flush()
                self._sink.output(fields.text)
        self._curves.flush()

    def settle(self) -> bool:
        """Report the dictionary that waits for a bar. Returns whether one waited."""
        record = self._boxes.settle()
        waited = self._assembler.release()
        if record is not None:
            waited = self._assembler.take(record) or waited
        self._curves.flush()
        return waited

    def _is_boxed(self, line: str) -> bool:
        """Whether a line is a row of a box, whose record is taken in once it is whole."""
        record, inside = self._boxes.take(line)
        if record is not None:
            self._assembler.take(record)
        return inside

    def _log_bar(self, fields: Fields) -> None:
        """Log a bar with a label once it is full: it is drawn again and again."""
        assert fields.bar is not None
        full = fields.bar.n == fields.bar.total and fields.bar.label != ""
        if full and fields.bar.label != self._finished_label:
            self._sink.write(fields.text)
        self._finished_label = fields.bar.label if full else ""


def recognize(candidate: Candidate) -> Parser | Decision:
    """A line with a loss is the first record of a log of text, and so is a box with the terms of one."""
    meaning, fields = candidate.reader.names.meaning, candidate.fields
    if not fields.values or not holds_loss(fields, meaning):
        boxed = _box_before(candidate)
        if boxed is None or not planned(tuple(boxed.values), "", meaning).has_loss:
            return Decision.NO
    return TextLog(candidate.sink, candidate.reader, candidate.recent)


def _box_before(candidate: Candidate) -> Fields | None:
    """The record of the box that a line closes."""
    if candidate.line[:1] not in boxes.STARTS or not candidate.recent or candidate.recent[-1][:1] not in boxes.STARTS:
        return None
    collected = boxes.Boxes()
    for line in (*candidate.recent, candidate.line):
        collected.take(line)
    return collected.closed
