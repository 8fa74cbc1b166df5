"""The output of a training program: dictionaries between tqdm's progress bars, as a Hugging Face Trainer prints them.

Lines have been split at carriage returns, which tqdm writes. Lines that are neither a bar nor a dictionary go to the
log, so this parser also reads logs of unrecognized formats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tdiff.watch.formats.base import MAX_STEP, Candidate, Decision, Parser, Sink
from tdiff.watch.formats.columns import RowReader
from tdiff.watch.formats.text import without_rank

_MAX_BAR, _MAX_ROW = 500, 20_000
"""Characters of a line that may hold a bar, and of a dictionary."""
# Colours, and the cursor movements of tqdm between several bars.
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-KmJ]")
_BAR = re.compile(
    r"(?P<label>.*?)(?:\d+%\|[^|]*\|)?\s*(?P<n>\d{1,15})/(?P<total>\d{1,15})\s\[(?P<spent>[\d:]+)<(?P<left>[\d:]+|\?)[^\]]*\]?",
    re.ASCII,
)
# A value may be quoted, or wrapped as numpy and torch print their scalars; NaN and infinities are bare words.
_PAIR = re.compile(
    r"""\s*(?:'(?P<key>[^'\\]*)'|"[^"\\]*")\s*:\s*
    (?:(?P<call>[\w.]+\()?(?P<quote>'?)(?P<value>[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|inf|infinity))
    (?P=quote)(?(call)[^()]*\))
    |'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\w+|\[[^\[\]]*\]|\([^()]*\))\s*(?P<end>[,}])""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_TRAINING_KEYS = {"epoch", "step", "global_step", "train_runtime"}
"""Keys by which a dictionary is one of a training, besides those that end in `loss`."""


class Bar(NamedTuple):
    """What a tqdm progress bar shows."""

    label: str
    """Its description; a Trainer's bar has none."""
    n: int
    total: int
    spent: float
    """Seconds."""
    left: float | None
    """Seconds."""


class Console(Parser):
    """Dictionaries become points, bars become progress, and everything else goes to the log.

    The count of the bar before a dictionary may be some steps old, since tqdm does not redraw at each step. tqdm
    redraws the bar right after the dictionary, so the dictionary waits for that bar, or for any other line.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rows = RowReader(sink)
        self._count = 0  # training dictionaries, where nothing shows the step
        self._total: int | None = None  # of the bar that counts training steps
        self._waiting: dict[str, float] | None = None
        self._before = 0.0  # seconds of earlier jobs in the same log
        self._spent = 0.0
        self._finished_label = ""
        self._whole_epochs = True

    def feed(self, lines: Sequence[str]) -> None:
        """Read the next lines."""
        for line in lines:
            self._line(line)

    def settle(self) -> bool:
        """Report the dictionary that waits: no line has come after it. Returns whether one waited."""
        waited = self._waiting is not None
        self._report_waiting()
        return waited

    def _line(self, line: str) -> None:
        rank, line = without_rank(line)
        if rank:  # another process says the same
            self._sink.write(line)
            return
        bar, row = read_bar(line), row_in(line)
        if bar is not None:
            self._bar(bar, line)
        if row:
            self._report_waiting()
            self._row(row)
        plain = _ESCAPES.sub("", line)
        if (bar is not None and not row) or not plain.strip():
            return
        if row:
            self._sink.write(plain)
            return
        self._report_waiting()
        self._sink.output(plain)

    def _bar(self, bar: Bar, line: str) -> None:
        if bar.label:  # of some preparation: only its completion is logged
            if bar.n == bar.total and bar.label != self._finished_label:
                self._sink.write(_ESCAPES.sub("", line))
            self._finished_label = bar.label if bar.n == bar.total else ""
            return
        # An evaluation has a bar too, but it is closed before a training loss is printed, so it cannot be the next bar.
        if self._total is None or (self._waiting and "loss" in self._waiting):
            self._total = bar.total
        if bar.total == self._total:
            self._advance(bar)
            self._report_waiting()

    def _advance(self, bar: Bar) -> None:
        if bar.spent < self._spent:
            self._before += self._spent
        self._spent = bar.spent
        self._sink.advance(bar.n, bar.total, bar.left, self._before + bar.spent)

    def _row(self, row: dict[str, float]) -> None:
        if "train_runtime" in row:
            self._sink.finish()
            return
        if "loss" in row:
            self._count += 1
        self._waiting = row
        if self._total is None:
            self._report_waiting()

    def _report_waiting(self) -> None:
        """Report the dictionary that waits, at its own step, at the step of the bar, or at its number."""
        row, self._waiting = self._waiting, None
        if row is None:
            return
        steps = [name for name in self._rows.plan(tuple(row)).steps if name.lower() != "epoch"]
        epoch = row.get("epoch", math.nan)
        self._whole_epochs = self._whole_epochs and epoch.is_integer()
        if self._whole_epochs and self._total is None and "step" not in row:
            row["step"] = epoch  # one dictionary an epoch
        elif not any(abs(row[name]) < MAX_STEP for name in steps):
            row["step"] = float(self._number(row) if self._total is None else self._sink.step)
        self._rows.take(row)

    def _number(self, row: dict[str, float]) -> int:
        """The number of a dictionary. If its epoch has been reached before, it is the number that it had then."""
        if "loss" in row and (number := self._sink.step_of("epoch", row.get("epoch", math.nan))) is not None:
            self._count = number
        return max(1, self._count)


def recognize(candidate: Candidate) -> Parser | Decision:
    """A Trainer prints a dictionary of training."""
    return candidate.fallback if row_in(without_rank(candidate.line)[1]) else Decision.NO


def read_bar(line: str) -> Bar | None:
    """The last tqdm bar on a line; None if there is none."""
    if "<" not in line or "/" not in line or len(line) > _MAX_BAR:
        return None
    plain = _ESCAPES.sub("", line)
    bars = list(_BAR.finditer(plain))
    if not bars:
        return None
    last = bars[-1]
    spent, left = _seconds(last["spent"]), _seconds(last["left"])
    if spent is None:
        return None
    return Bar(last["label"].strip(), int(last["n"]), int(last["total"]), spent, left)


def _seconds(text: str) -> float | None:
    """The seconds in 37, 20:11 or 1:20:11."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        return None
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds


def row_in(line: str) -> dict[str, float]:
    """The numbers of the training dictionary on a line; empty if there is none."""
    begin = line.find("{'")
    return read_row(line[begin:]) if begin >= 0 else {}


def read_row(text: str) -> dict[str, float]:
    """The numbers of the Python dictionary at the beginning of `text`; empty if there is none, or none of training."""
    row = dict(_pairs(text[:_MAX_ROW]))
    return row if any(name in _TRAINING_KEYS or name.endswith("loss") for name in row) else {}


def _pairs(text: str) -> Iterator[tuple[str, float]]:
    """(name, number) of a dictionary, up to its end or to a nested value. Nothing is evaluated."""
    at = 1
    while (pair := _PAIR.match(text, at)) is not None:
        if pair["value"] is not None and pair["key"]:
            yield pair["key"], float(pair["value"])
        at = pair.end()
        if pair["end"] == "}":
            return
