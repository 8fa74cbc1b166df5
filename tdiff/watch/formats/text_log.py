"""Logs of text: numbers with names on a line, bars with a loss, JSON behind a logger's prefix, blocks of lines.

A log is recognized by its first line with a loss; see `text` for what a line says, and `assemble` for what lines mean
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.base import Candidate, Decision, Parser, Sink
from tdiff.watch.formats.names import PART, Role, meaning
from tdiff.watch.formats.text import Fields, read


class Curves:
    """Passes what an assembler reports to a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def points(
        self,
        steps: list[float],
        values: Mapping[str, list[float]],
        times: list[float] | None,
        tokens: list[float] | None,
        *,
        training: bool,
    ) -> None:
        """Report the points. Those that judge an earlier step are no restart, however far the training has gone."""
        if training:
            self._sink.points(steps, values, times, tokens)
        else:
            for name, numbers in values.items():
                self._sink.extra_points(name, steps, numbers)

    def advance(self, step: float, total: float | None, left: float | None, elapsed: float | None) -> None:
        """Report progress, where the total is known."""
        if total is not None and 0 < total < 2**53:
            self._sink.advance(int(step), int(total), left, elapsed)

    def elapse(self, seconds: float) -> None:
        """Report the seconds since the run began."""
        self._sink.elapsed(seconds)

    def rename(self, metric: str, name: str) -> None:
        """Rename a metric."""
        self._sink.rename(metric, name)


class TextLog(Parser):
    """Reads every line of a log for records and progress; all lines go to the log."""

    def __init__(self, sink: Sink, earlier: Sequence[str] = ()) -> None:
        """`earlier` lines are in the log already; they may hold the heading of the first record."""
        self._sink = sink
        self._assembler = Assembler(Curves(sink))
        self._finished_label = ""
        for line in earlier:
            self._assembler.take(read(line))

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            fields = read(line)
            recorded = self._assembler.take(fields)
            if not fields.text.strip():
                continue
            if fields.bar is not None:
                self._log_bar(fields)
            elif recorded:
                self._sink.write(fields.text)
            else:
                self._sink.output(fields.text)

    def _log_bar(self, fields: Fields) -> None:
        """Log a bar once it is full: it is drawn again and again."""
        assert fields.bar is not None
        full = fields.bar.n == fields.bar.total
        if full and fields.bar.label != self._finished_label:
            self._sink.write(fields.text)
        self._finished_label = fields.bar.label if full else ""


def recognize(candidate: Candidate) -> Parser | Decision:
    """A line with a loss is the first record of a log of text."""
    fields = read(candidate.line)
    names = map(meaning, fields.values)
    if not any(name.role is Role.LOSS and name.precedence < PART for name in names):
        return Decision.NO
    return TextLog(candidate.sink, candidate.recent)
