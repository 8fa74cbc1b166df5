"""The output of a training program: dictionaries between the bars of tqdm, as a Hugging Face Trainer prints them.

Lines have been split at carriage returns, as tqdm writes those. What is neither a bar nor a dictionary is for the log.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tdiff.watch.formats.columns import FARTHEST, RowReader

if TYPE_CHECKING:
    from tdiff.watch.run_state import RunState

_LONGEST_BAR, _LONGEST_ROW = 500, 20_000
# Colours, and tqdm's going up and down between its bars.
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-KmJ]")
_BAR = re.compile(
    r"(?P<what>.*?)(?:\d+%\|[^|]*\|)?\s*(?P<n>\d{1,15})/(?P<total>\d{1,15})\s\[(?P<spent>[\d:]+)<(?P<left>[\d:]+|\?)[^\]]*\]?",
    re.ASCII,
)
# A value may be quoted, or wrapped as numpy and torch print theirs; NaN and infinities are bare words.
_PAIR = re.compile(
    r"""\s*(?:'(?P<key>[^'\\]*)'|"[^"\\]*")\s*:\s*
    (?:(?P<call>[\w.]+\()?(?P<quote>'?)(?P<value>[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|inf|infinity))
    (?P=quote)(?(call)[^()]*\))
    |'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\w+|\[[^\[\]]*\]|\([^()]*\))\s*(?P<end>[,}])""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_TELLING = {"epoch", "step", "global_step", "train_runtime"}


class Bar(NamedTuple):
    """What a bar of tqdm says."""

    what: str
    """Its description; that of a Trainer has none."""
    n: int
    total: int
    spent: float
    """Seconds."""
    left: float | None
    """Seconds."""


class Console:
    """Dictionaries become points, bars progress, the rest the log.

    The count that tqdm shows before a dictionary may be some steps old, since it is not drawn at each; it is drawn
    anew just after, so a dictionary waits for that, or for whatever else comes.
    """

    def __init__(self, story: RunState) -> None:
        self._story = story
        self._rows = RowReader(story)
        self._count = 0  # dictionaries of training, where nothing tells the step
        self._total: int | None = None  # of the bar that counts training
        self._waiting: dict[str, float] | None = None
        self._before = 0.0  # seconds of the jobs before this one
        self._spent = 0.0
        self._finished_bar = ""

    def feed(self, lines: Sequence[str]) -> None:
        """The next lines."""
        for line in lines:
            self.text(line)

    def text(self, line: str) -> None:
        """The next line."""
        bar = read_bar(line)
        if bar is not None:
            self._bar(bar, line)
        at = line.find("{'")
        row = read_row(line[at:]) if at >= 0 else {}
        if row:
            self._settle()
            self._row(row)
        plain = _ESCAPES.sub("", line)
        if (bar is not None and not row) or not plain.strip():
            return
        if row:
            self._story.write(plain)
            return
        self._settle()
        self._story.remark(plain)

    def settle(self) -> bool:
        """Take in the dictionary that waits: nothing has come after it. Whether there was one."""
        waited = self._waiting is not None
        self._settle()
        return waited

    def _bar(self, bar: Bar, line: str) -> None:
        if bar.what:  # of some preparation: only what became of it is worth a line
            plain = _ESCAPES.sub("", line)
            if bar.n == bar.total and bar.what != self._finished_bar:
                self._story.write(plain)
            self._finished_bar = bar.what if bar.n == bar.total else ""
            return
        # An evaluation has a bar too, but when a loss of training is printed it is closed, and cannot be the next.
        if self._total is None or (self._waiting and "loss" in self._waiting):
            self._total = bar.total
        if bar.total == self._total:
            self._advance(bar)
            self._settle()

    def _advance(self, bar: Bar) -> None:
        if bar.spent < self._spent:
            self._before += self._spent
        self._spent = bar.spent
        self._story.advance(bar.n, bar.total, bar.left, self._before + bar.spent)

    def _row(self, row: dict[str, float]) -> None:
        story = self._story
        if story.format in ("", "log"):
            story.format = "huggingface"
        if "train_runtime" in row:
            story.finish()
            return
        if "loss" in row:
            self._count += 1
        self._waiting = row
        if self._total is None:
            self._settle()

    def _settle(self) -> None:
        """Give the dictionary that waits its step: its own, that of tqdm, or its number."""
        row, self._waiting = self._waiting, None
        if row is None:
            return
        steps = [name for name in self._rows.plan(tuple(row)).steps if name.lower() != "epoch"]
        if not any(abs(row[name]) < FARTHEST for name in steps):
            row["step"] = float(self._counted(row) if self._total is None else self._story.step)
        self._rows.take(row)

    def _counted(self, row: dict[str, float]) -> int:
        """The number of a dictionary; where its epoch was there before, the number it had then."""
        epochs, epoch = self._story.metrics.get("epoch"), row.get("epoch", math.nan)
        if "loss" in row and epochs is not None and epochs.last is not None and epoch < epochs.last[1]:
            at = bisect_left(epochs.mean, epoch)
            self._count = int(epochs.steps[min(at, len(epochs.steps) - 1)])
        return max(1, self._count)


def read_bar(line: str) -> Bar | None:
    """The last bar of tqdm on a line, or None where there is none."""
    if "<" not in line or "/" not in line or len(line) > _LONGEST_BAR:
        return None
    plain = _ESCAPES.sub("", line)
    bars = list(_BAR.finditer(plain))
    if not bars:
        return None
    found = bars[-1]
    spent, left = _seconds(found["spent"]), _seconds(found["left"])
    if spent is None:
        return None
    return Bar(found["what"].strip(), int(found["n"]), int(found["total"]), spent, left)


def _seconds(text: str) -> float | None:
    """The seconds in 37, 20:11 or 1:20:11."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        return None
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds


def read_row(text: str) -> dict[str, float]:
    """The numbers of a dictionary of Python that `text` begins with; empty where it is none, or none of training."""
    row = dict(_pairs(text[:_LONGEST_ROW]))
    return row if any(name in _TELLING or name.endswith("loss") for name in row) else {}


def _pairs(text: str) -> Iterator[tuple[str, float]]:
    """(name, number) of a dictionary up to its end, or to what is not flat. Nothing is evaluated."""
    at = 1
    while (pair := _PAIR.match(text, at)) is not None:
        if pair["value"] is not None and pair["key"]:
            yield pair["key"], float(pair["value"])
        at = pair.end()
        if pair["end"] == "}":
            return
