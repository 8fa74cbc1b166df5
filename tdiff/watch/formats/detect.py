"""Detects the format of a source from its content, never from its name."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from tdiff.watch.formats.base import Candidate, Decision, Format, Parser, Sink

if TYPE_CHECKING:
    from tdiff.watch.formats.choice import Choice, Names
    from tdiff.watch.formats.guesses import Guesses
    from tdiff.watch.formats.survey import Survey
    from tdiff.watch.formats.text import LineReader


def in_module(name: str) -> Callable[[Candidate], Parser | Decision]:
    """`recognize` of the module of that name in this package, which is imported when it is first asked."""

    def recognize(candidate: Candidate) -> Parser | Decision:
        answer: Parser | Decision = importlib.import_module(f"tdiff.watch.formats.{name}").recognize(candidate)
        return answer

    return recognize


ORDER: tuple[Format, ...] = (
    Format("csv", in_module("csv_table")),
    Format("trace", in_module("trace")),
    Format("tdiff", in_module("events")),
    Format("json", in_module("jsonl")),
    Format("document", in_module("document")),
    Format("text", in_module("text_log")),
)
"""The formats in the order in which they are asked about each line."""
_BY_PATTERN = (Format("pattern", in_module("pattern")),)
_FIXED = ("trace", "tdiff")
"""Formats whose numbers have fixed names. They are not asked where the user names a number; elsewhere they alone are
asked about a record of tdiff, so that its logs are read without the modules of the others."""
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
        self._sink, self._choice = sink, choice
        self._order, self._of_records = ORDER, tuple(row for row in ORDER if row.name in _FIXED)
        if choice:
            named = tuple(row for row in ORDER if row.name not in _FIXED)
            self._order = self._of_records = _BY_PATTERN if choice.pattern else named
        self._parser: Parser | None = None  # the fallback until the format is detected; None before the first line
        self._detected = False
        self._number = 0
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._held: tuple[Candidate, Format] | None = None

    @cached_property
    def names(self) -> Names:
        """What the names of this log mean."""
        from tdiff.watch.formats.choice import Names

        return Names(self._choice)

    @property
    def trouble(self) -> str:
        """See `Names.trouble`; names that no line has asked for have none."""
        return self.names.trouble if "names" in vars(self) else ""

    @cached_property
    def survey(self) -> Survey:
        """What unrecognized lines held."""
        from tdiff.watch.formats.survey import Survey

        return Survey()

    @cached_property
    def _guesses(self) -> Guesses:
        """What numbers without known names may be."""
        from tdiff.watch.formats.guesses import Guesses

        return Guesses(self.names)

    @cached_property
    def reader(self) -> LineReader:
        """See `Shared.reader`."""
        from tdiff.watch.formats.text import LineReader

        return LineReader(self.names)

    @cached_property
    def fallback(self) -> Parser:
        """See `Shared.fallback`."""
        from tdiff.watch.formats.text_log import TextLog

        return TextLog(self._sink, self.reader, muted=True)

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        n = 0
        while not self._detected and n < len(lines):
            self._examine(lines[n])
            n += 1
        if n < len(lines) and self._parser is not None:
            self._parser.feed(lines[n:] if n else lines)

    def settle(self, over: bool) -> bool:
        """Report what waits for the next line; with `over` (nothing will come), also a line that was held back."""
        if over and self._held is not None:
            self._release()
            return True
        return self._parser is not None and self._parser.settle()

    def _examine(self, line: str) -> None:
        before = self._held[0] if self._held is not None else None
        candidate = Candidate(line, self._number + 1, before, self._sink, self._recent, self)
        self._number += bool(candidate.text)
        order = self._order if before is not None or candidate.record is None else self._of_records
        for row in order if candidate.text else ():
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
        self._parser = self.fallback
        self._parser.feed([candidate.line])
        if not self.names.choice.pattern and self._guesses.take(candidate.fields):
            from tdiff.watch.formats.text_log import TextLog

            self._sink.format, self._detected = "text", True
            self._parser = TextLog(self._sink, self.reader, self._recent)
