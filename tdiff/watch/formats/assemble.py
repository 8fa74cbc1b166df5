"""Named numbers, line by line, become the curves of a run: which is the loss, at which step, of how many.

A record may be one line, one line among bars, or a block of lines under a heading; a step may be a count of its own, the
position of a bar, or the epoch. What decides is the same for every format, so it stands here once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from tdiff.visible import visible_line
from tdiff.watch.formats.names import PART, Meaning, Role, meaning
from tdiff.watch.formats.text import Bar, Fields

FARTHEST = 2.0**53
"""Steps at or beyond this are no counts."""
_EARLIEST, _LATEST = 1e8, 1e11
_EPOCHS = 10_000


class Sink(Protocol):
    """What takes the points."""

    def points(self, steps: list[float], values: Mapping[str, list[float]], times: list[float] | None,
               tokens: list[float] | None, *, training: bool) -> None: ...  # fmt: skip
    def advance(self, step: float, total: float | None, left: float | None, elapsed: float | None) -> None: ...
    def elapse(self, seconds: float) -> None: ...
    def rename(self, metric: str, name: str) -> None: ...


class Counter:
    """Steps that begin anew with each epoch, counted through."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._epoch = -1.0
        self._offsets: dict[float, float] = {}

    def place(self, step: float, epoch: float | None, total: float | None = None) -> float:
        """The step since the beginning of the run; `total` is the number of steps of an epoch, where it is known."""
        if epoch is None or not abs(epoch) < FARTHEST:
            return step
        epoch = float(math.floor(epoch))
        if epoch not in self._offsets:
            offset = self._offsets.get(self._epoch, 0.0) if epoch > self._epoch else 0.0
            if len(self._offsets) >= _EPOCHS:
                self._offsets.clear()
            anew = epoch > self._epoch and step + offset <= self._last
            if anew:
                offset = self._last + (step == 0) if total is None else max(self._last, offset + total)
            self._offsets[epoch] = offset
        self._epoch = epoch
        self._last = max(self._last, step + self._offsets[epoch])
        return step + self._offsets[epoch]


class Assembler:
    """Turns `Fields` into points of a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._counter = Counter()
        self._rank: int | None = None
        self._heading: tuple[float, float | None] | None = None  # (step, total) of a line without values
        self._epoch: float | None = None
        self._epochs: float | None = None
        self._split = ""  # of the block under a heading
        self._step: float | None = None  # the newest step
        self._step_name, self._step_names = "", set[str]()  # what counts it, and the names beside it
        self._count = 0
        self._names: dict[str, str] = {}  # `train/loss` or `eval/loss` -> the name that stands for it
        self._beside_eval = False  # every row of that name has had a validation loss beside it
        self._bar_total: int | None = None
        self._bar_offset = 0.0
        self._bar_last: tuple[int, float] | None = None  # (n, seconds) of the newest bar
        self._before = 0.0  # seconds of earlier bars
        self._structured = False  # records come as objects or dictionaries
        self._point: tuple[float, dict[str, float]] | None = None

    def take(self, fields: Fields) -> bool:
        """Take in a line. Whether it was a record, rather than a bar or text."""
        if not self._is_ours(fields):
            return False
        if fields.bar is not None:
            self._advance(fields.bar, fields)
        known = {name: meaning(name) for name in fields.values}
        split = fields.split
        has_loss = any(kind.role is Role.LOSS for kind in known.values())
        has_step = any(kind.role is Role.STEP for kind in known.values())
        self._note_epoch(fields, known)
        if fields.bar is not None and (self._structured or not has_loss):
            return False
        if not has_loss and not self._is_record(fields, known, has_step):
            if has_step or split:
                self._head(fields, known)
            return False
        if fields.progress is not None and fields.progress[0] < fields.progress[1]:
            return False  # a bar that is still filling
        self._structured = self._structured or (fields.structured and has_loss)
        self._record(fields, known, split or (self._split if not has_step else ""))
        return True

    def _is_ours(self, fields: Fields) -> bool:
        """Whether the line is of the one process whose records are drawn."""
        rank = fields.rank
        for name, value in fields.values.items():
            if meaning(name).role is Role.RANK and math.isfinite(value):
                rank = int(value)
        if rank is None:
            return True
        if self._rank is None:
            self._rank = rank
        return rank == self._rank

    def _note_epoch(self, fields: Fields, known: Mapping[str, Meaning]) -> None:
        for name, kind in known.items():
            if kind.role is Role.EPOCH and abs(fields.values[name]) < FARTHEST:
                self._epoch = fields.values[name]
                self._epochs = fields.totals.get(name, self._epochs)
            elif kind.role is Role.EPOCHS:
                self._epochs = fields.values[name]

    def _is_record(self, fields: Fields, known: Mapping[str, Meaning], has_step: bool) -> bool:
        """Whether a line without a loss holds metrics of a step."""
        metrics = any(kind.role in (Role.OTHER, Role.LEARNING_RATE, Role.GRAD_NORM, Role.SPEED) for kind in known.values())
        return metrics and (has_step or (self._heading is not None and len(known) == 1))

    def _head(self, fields: Fields, known: Mapping[str, Meaning]) -> None:
        """A line that opens a block: a step without values, or the name of a split."""
        step = self._own_step(fields, known)
        if step is not None and known[step].split != "eval":
            value = fields.values[step]
            self._heading = (value, fields.totals.get(step))
            self._split = ""
            self._sink.advance(value, fields.totals.get(step), None, None)
            self._step = value
        else:
            self._split = fields.split or (known[step].split if step is not None else "")

    def _own_step(self, fields: Fields, known: Mapping[str, Meaning]) -> str | None:
        """The name of the step among a line's values: the best known, of training where there is one."""
        names = [n for n, kind in known.items() if kind.role is Role.STEP and abs(fields.values[n]) < FARTHEST]
        return min(names, key=lambda n: (known[n].split == "eval", known[n].precedence), default=None)

    def _record(self, fields: Fields, known: Mapping[str, Meaning], split: str) -> None:
        values: dict[str, float] = {}
        losses: dict[str, dict[str, int]] = {"train": {}, "eval": {}}
        time, tokens, left, total, elapsed = fields.time, None, None, None, None
        step_name = self._own_step(fields, known)
        for name, kind in known.items():
            value = fields.values[name]
            match kind.role:
                case Role.LOSS if kind.precedence < PART:
                    losses[kind.split or split or "train"][name] = kind.precedence
                case Role.LOSS | Role.OTHER:
                    values[self._named(name, kind, split)] = value
                case Role.LEARNING_RATE:
                    values["train/lr" if "train/lr" not in values else visible_line(name[:100])] = value
                case Role.GRAD_NORM:
                    values["train/grad_norm" if "train/grad_norm" not in values else visible_line(name[:100])] = value
                case Role.SPEED:
                    values["train/tokens_per_second"] = value
                case Role.TOKENS:
                    tokens = value if abs(value) < FARTHEST else None
                case Role.TIME:
                    moment = when(value)
                    if moment is None:
                        values[visible_line(name[:100])] = value
                    else:
                        time = moment
                case Role.ELAPSED:
                    elapsed = value
                case Role.REMAINING:
                    left = value
                case Role.TOTAL:
                    total = value
                case Role.STEP if name != step_name:
                    values[visible_line(name[:100])] = value
                case Role.EPOCH:
                    values["epoch"] = value
                case _:
                    pass
        parts = any(kind.role is Role.LOSS and (kind.split or split) != "eval" for kind in known.values())
        training = parts or not (self._names or losses["eval"])
        for of, names in losses.items():
            self._choose(of, names, fields, values, beside_eval=bool(losses["eval"]))
        step = self._step_of(fields, step_name, training=training)
        if total is None and step_name is not None and (total := fields.totals.get(step_name)) is not None:
            done = step - fields.values[step_name]  # of the epochs before
            total = max(total * self._epochs, done + total) if self._epochs and (done or self._epoch) else done + total
        if total is None and step_name is None and self._epochs and step == self._epoch and fields.bar is None:
            total = self._epochs  # the step is the epoch
        if elapsed is not None:
            self._sink.elapse(elapsed)
        if total is not None or left is not None:
            self._sink.advance(step, total, left, elapsed)
        if not values:
            return
        if fields.bar is not None and self._point == (step, values):
            return  # the same bar, drawn again
        self._point = (step, values)
        self._sink.points(
            [step], {n: [v] for n, v in values.items()}, None if time is None else [time],
            None if tokens is None else [tokens], training=training,
        )  # fmt: skip

    def _named(self, name: str, kind: Meaning, split: str) -> str:
        shown = visible_line(name[:100]).strip()
        return f"eval/{shown}" if split == "eval" and not kind.split else shown

    def _choose(self, of: str, names: Mapping[str, int], fields: Fields, values: dict[str, float], *, beside_eval: bool) -> None:
        """Put the losses of a split into `values`: one as the curve, the others under their own names."""
        if not names:
            return
        metric = f"{of}/loss"
        best = min(names, key=lambda name: names[name])
        spelled = " ".join(best.lower().split())
        chosen = self._names.setdefault(metric, spelled)
        if of == "train":
            if chosen == spelled:
                self._beside_eval = beside_eval if metric not in self._names or self._point is None else self._beside_eval and beside_eval
            elif self._beside_eval and not beside_eval:
                # The rows before were evaluations that estimate the training loss too; these are the training itself.
                self._sink.rename(metric, visible_line(chosen[:100]))
                self._names[metric] = chosen = spelled
                self._beside_eval = False
        for name in names:
            stands = name == best and chosen == spelled
            values[metric if stands else self._named(name, meaning(name), of if of == "eval" else "")] = fields.values[name]

    def _step_of(self, fields: Fields, name: str | None, *, training: bool) -> float:
        epoch = next((v for n, v in fields.values.items() if meaning(n).role is Role.EPOCH), None)
        if name is not None:
            step = fields.values[name]
            if training:
                step = self._counter.place(step, epoch, fields.totals.get(name))
                self._step_name, self._step_names = name.lower(), {n.lower() for n in fields.values}
            elif self._step is not None and name.lower() != self._step_name and name.lower() in self._step_names:
                return self._step  # counts something else than the curve does
            elif epoch is not None and meaning(name).split == "eval":
                return step
        elif fields.bar is not None or self._bar_last is not None:
            step = self._step if self._step is not None else 0.0
        elif self._heading is not None:
            step = self._heading[0]
        elif not training and self._step is not None:
            return self._step
        elif (epoch if epoch is not None else self._epoch) is not None:
            step = float(epoch if epoch is not None else self._epoch or 0.0)
            if step != math.floor(step):  # a part of an epoch says how far, and is no count
                self._count += 1
                step = float(self._count)
        else:
            self._count += 1
            step = float(self._count)
        if training or self._step is None:
            self._step = step
        return step

    def _advance(self, bar: Bar, fields: Fields) -> None:
        """The progress that a bar tells, where it is one of training."""
        if fields.split == "eval" or (bar.label and meaning(bar.label).split == "eval"):
            return
        if bar.label and not fields.values and self._bar_total is None:
            return  # of some preparation
        if self._bar_total is not None and bar.total != self._bar_total and not fields.values:
            return
        self._bar_total = bar.total
        if self._bar_last is not None and bar.n < self._bar_last[0]:
            if bar.total is not None and self._bar_last[0] >= bar.total:
                self._bar_offset += self._bar_last[0]  # the next epoch has a bar of its own
            else:
                self._bar_offset = 0.0
        if self._bar_last is not None and bar.elapsed < self._bar_last[1]:
            self._before += self._bar_last[1]
        self._bar_last = (bar.n, bar.elapsed)
        step = bar.n + self._bar_offset
        total, left = (float(bar.total) if bar.total else None), bar.left
        if total is not None and self._epochs and self._bar_offset + total <= total * self._epochs:
            rest = total * self._epochs - self._bar_offset - total
            if left is not None and bar.n:
                left += rest * (bar.elapsed + left) / total
            total *= self._epochs
        elif total is not None:
            total += self._bar_offset
        self._step = step
        self._sink.advance(step, total, left, self._before + bar.elapsed)


def when(value: float) -> float | None:
    """Seconds since 1970, from those or from milli-, micro- or nanoseconds; None for what can be no date."""
    if not _EARLIEST <= value < 1e20:
        return None
    while value >= _LATEST:
        value /= 1e3
    return value if value >= _EARLIEST else None
