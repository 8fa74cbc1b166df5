"""Detects the format of a source from its content, never from its name."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tdiff.watch.formats import csv_table, document, events, jsonl, pattern, text_log, trace
from tdiff.watch.formats.base import Candidate, Decision, Format, Parser, Sink
from tdiff.watch.formats.choice import Choice, Names
from tdiff.watch.formats.guesses import Guesses
from tdiff.watch.formats.survey import Survey
from tdiff.watch.formats.text import LineReader

ORDER: tuple[Format, ...] = (
    Format("csv", csv_table.recognize),
    Format("trace", trace.recognize),
    Format("tdiff", events.recognize),
    Format("json", jsonl.recognize),
    Format("document", document.recognize),
    Format("text", text_log.recognize),
)
"""The formats in the order in which they are asked about each line."""
_BY_PATTERN = (Format("pattern", pattern.recognize),)
_FIXED = ("trace", "tdiff")
"""Formats whose numbers have fixed names: they are not asked where the user names a number."""
_RECENT = 50
"""Unrecognized lines that may hold the heading of a first record."""
UNRECOGNIZED = "log"
"""The format of a source with text that no row recognizes."""


class Detected(Sink, Protocol):
    """A sink that also stores the name of its format."""

    format: str


class Detector:
    """Detects the format, then passes lines to its parser. An unrecognized log is examined line by line to its end."""

    def __init__(self, sink: Detected, choice: Choice | None = None) -> None:
        """`choice`: what the user says about the numbers of this log."""
        self._sink = sink
        self.names = Names(choice)
        """What the names of this log mean."""
        self.survey = Survey()
        """What unrecognized lines held."""
        self._guesses = Guesses(self.names)
        self._reader = LineReader(self.names)
        self._order = ORDER
        if self.names.choice:
            named = tuple(row for row in ORDER if row.name not in _FIXED)
            self._order = _BY_PATTERN if self.names.choice.pattern else named
        self._fallback: Parser = text_log.TextLog(sink, self._reader, muted=True)
        self._parser: Parser = self._fallback
        self._detected = False
        self._number = 0
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._held: tuple[Candidate, Format] | None = None

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        n = 0
        while not self._detected and n < len(lines):
            self._examine(lines[n])
            n += 1
        if n < len(lines):
            self._parser.feed(lines[n:] if n else lines)

    def settle(self, over: bool) -> bool:
        """Report what waits for the next line; with `over` (nothing will come), also a line that was held back."""
        if over and self._held is not None:
            self._release()
            return True
        return self._parser.settle()

    def _examine(self, line: str) -> None:
        before = self._held[0] if self._held is not None else None
        candidate = Candidate(line, self._number + 1, before, self._sink, self._recent, self._fallback, self._reader)
        self._number += bool(candidate.text)
        for row in self._order if candidate.text else ():
            answer = row.recognize(candidate)
            if answer is Decision.NO:
                continue
            if self._held is not None and self._held[1] is row and not isinstance(answer, Decision):
                self._held = None  # the parser has read it
            self._release()
            if isinstance(answer, Decision):
                self._held = (candidate, row) if answer is Decision.WAIT else None
                return
            self._sink.format, self._parser, self._detected = row.name, answer, True
            answer.feed([line])
            return
        self._release()
        if candidate.text:
            self._unrecognized(candidate)

    def _release(self) -> None:
        """Read a held line as text: the line after it did not confirm its format."""
        held, self._held = self._held, None
        if held is not None:
            self._unrecognized(held[0])

    def _unrecognized(self, candidate: Candidate) -> None:
        self._sink.format = UNRECOGNIZED
        self._recent.append(candidate.line)
        self.survey.take(candidate.fields)
        self._fallback.feed([candidate.line])
        if not self.names.choice.pattern and self._guesses.take(candidate.fields):
            self._sink.format, self._detected = "text", True
            self._parser = text_log.TextLog(self._sink, self._reader, self._recent)
