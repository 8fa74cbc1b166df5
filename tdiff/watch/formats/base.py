"""The contract between log formats and what they fill: a `Parser` reads lines, a `Sink` receives what they mean.

Parsers import this module, never the run state. To add a format, write one module with a parser and a `recognize`
function, and add one row to `detect.ORDER`.

What a parser reports, and how:

- Curves: `Sink.points`, by metric name and step. Metrics that every format shares have shared names (`train/loss`,
  `eval/loss`, `train/lr`, `train/grad_norm`, `train/tokens_per_second`, `gpu/load`, `mask/0.05`); any other metric,
  such as the epoch, keeps the name that the source gives it.
- Ranks: report rank 0 under the plain names and any other rank as `rank3/train/loss`. Two ranks under one name would
  look like a restart whenever one is behind the other.
- Progress: `advance` for a counter with a total (a progress bar), `set_progress` for a share of the work.
- Restarts: `points` detects them when the steps of the training loss fall; a format that records them explicitly calls
  `restart`. An evaluation of an earlier step is no restart.
- Text: `write` for lines that only belong in the log, `output` for program output that may say why the program died.

Sources hand over decoded text lines. A binary format needs a splitter (`sources.local.Splitter`) that turns its bytes
into lines, for example one JSON object for each record, which the parser for JSON Lines then reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # the event log of a tdiff run is read without the readers of text
    from tdiff.protocol.events import Event, Record
    from tdiff.protocol.trace import TraceLine
    from tdiff.watch.formats.fields import Fields
    from tdiff.watch.formats.text import LineReader

MAX_STEP = 2.0**53
"""Steps and token counts at or beyond this are invalid: doubles no longer represent every integer."""
MAX_TIME = 1e11
"""Times at or beyond this many seconds since the epoch are invalid."""


class Sink(Protocol):
    """What a parser reports. `RunState` implements it."""

    @property
    def step(self) -> int:
        """The newest step reported."""
        ...

    def points(
        self,
        steps: Sequence[float],
        values: Mapping[str, Sequence[float]],
        times: Sequence[float] | None = None,
        tokens: Sequence[float] | None = None,
        since: Sequence[float] | None = None,
        *,
        training: bool = True,
    ) -> None:
        """Values of some metrics at ascending steps. Training below its newest step means a restart.

        `times` are seconds since the epoch, `since` seconds since the start by a progress bar, `tokens` the tokens seen
        so far. Values, times and tokens may be non-finite; steps may not. Without `training` the values judge an
        earlier step: they restart nothing, and the run is no further than before.
        """
        ...

    def extra_points(self, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        """Values of one metric that neither restarts anything nor raises a notice."""
        ...

    def step_of(self, name: str, value: float) -> int | None:
        """The step at which a rising metric first reached `value`; None while its newest value is not greater."""
        ...

    def rename(self, metric: str, name: str) -> None:
        """Call a metric by another name from now on, with the points that it has."""
        ...

    def restart(self, step: float) -> None:
        """The run continues from `step`: everything later belongs to an earlier attempt."""
        ...

    def record(self, event: Event) -> None:
        """An event of a tdiff run, except `Train`, whose values come through `points`."""
        ...

    def trace_line(self, line: TraceLine) -> None:
        """A line of a generation's trace."""
        ...

    def advance(self, step: int, total: int, left: float | None, elapsed: float | None) -> None:
        """Progress: step, total, and the seconds left and elapsed, where they are known."""
        ...

    def set_progress(self, share: float | None, left: float | None) -> None:
        """The share of the work done (0..1) and the seconds left, where they are known and finite."""
        ...

    def elapsed(self, seconds: float) -> None:
        """Seconds since the start of the program, by its own clock, as of the next points."""
        ...

    def finish(self) -> None:
        """The program reported that it is done."""
        ...

    def write(self, text: str) -> None:
        """A raw line for the log."""
        ...

    def write_later(
        self, render: Callable[[tuple[Any, ...]], str], rows: Iterable[tuple[Any, ...]], count: int
    ) -> None:
        """`count` lines for the log, rendered from their rows only when the log is read."""
        ...

    def output(self, text: str) -> None:
        """A raw line of program output: it goes to the log, and may say that the program died."""
        ...


class Parser(Protocol):
    """Reads one format. Parsers inherit from this class for the default of `settle`."""

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next complete lines, without their line ends."""
        ...

    def settle(self) -> bool:
        """No line has come for a while: report what waits for the next line. Returns whether anything did."""
        return False


class Decision(Enum):
    """A format's answer to a line, where that is not a parser."""

    NO = auto()
    """Nothing shows that the source has this format."""
    WAIT = auto()
    """The next line decides: hold this line back until then."""
    SKIP = auto()
    """The line has this format but is useless without its beginning."""


class Shared(Protocol):
    """What all formats of one source share; it is made when it is first asked for."""

    @property
    def fallback(self) -> Parser:
        """Reads the lines of unrecognized logs; a parser may hand it the lines that do not belong to its own format."""

    @property
    def reader(self) -> LineReader:
        """Reads lines of text, and knows what their names mean."""


@dataclass(frozen=True)
class Candidate:
    """A line of a source whose format is unknown. What several formats need from it is computed once."""

    line: str
    number: int
    """Non-blank lines so far, this one included."""
    before: Candidate | None
    """The previous line, if a format held it back."""
    sink: Sink
    """What a parser fills."""
    recent: Sequence[str]
    """The newest unrecognized lines before this one."""
    shared: Shared
    """The fallback and the reader of the source."""

    @property
    def fallback(self) -> Parser:
        """See `Shared.fallback`."""
        return self.shared.fallback

    @property
    def reader(self) -> LineReader:
        """See `Shared.reader`."""
        return self.shared.reader

    @cached_property
    def text(self) -> str:
        """The line without surrounding blanks and byte-order marks."""
        return self.line.strip("\ufeff \t\r")

    @cached_property
    def pairs(self) -> dict[str, Any]:
        """The JSON object on the line; empty if there is none."""
        return json_object(self.text) if self.text.startswith("{") else {}

    @cached_property
    def fields(self) -> Fields:
        """The named numbers on the line."""
        return self.reader.read(self.text)

    @cached_property
    def record(self) -> Record | None:
        """The tdiff record on the line."""
        from tdiff.protocol.events import parse

        return parse(self.text) if "kind" in self.pairs else None


class Format(NamedTuple):
    """A row of `detect.ORDER`."""

    name: str
    """Shown to the user, and a value of `RunState.format`."""
    recognize: Callable[[Candidate], Parser | Decision]
    """The parser for the source, if this line and the one that the format held back show the format. The parser is fed
    this line and all later ones; the line that was held back counts as read."""


def json_object(text: str) -> dict[str, Any]:
    """The JSON object on a line; empty if there is none."""
    try:
        pairs = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return pairs if isinstance(pairs, dict) else {}
