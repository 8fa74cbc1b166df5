"""Named numbers, line by line, become the curves of a run: which is the loss, at which step, of how many.

A record may be one line, one line among bars, or a block of lines under a heading; a step may be a count of its own,
the position of a bar, or the epoch. What decides is the same for every format, so it stands here once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tdiff.visible import visible_line
from tdiff.watch.formats.names import PART, Role, meaning
from tdiff.watch.formats.text import Bar, Fields

FARTHEST = 2.0**53
"""Steps at or beyond this are no counts."""
_EARLIEST, _LATEST = 1e8, 1e11
_AMBIGUOUS = frozenset(["batch", "i", "n", "s", "index", "idx"])
"""Names that count steps only with a total or beside a loss."""
_EPOCHS, _MOST_PLANS = 10_000, 256


class Sink(Protocol):
    """What takes the points of a run."""

    def points(
        self,
        steps: list[float],
        values: Mapping[str, list[float]],
        times: list[float] | None,
        tokens: list[float] | None,
        *,
        training: bool,
    ) -> None:
        """Values of metrics at steps; `training` where they move the run on, rather than judge an earlier step."""

    def advance(self, step: float, total: float | None, left: float | None, elapsed: float | None) -> None:
        """Progress: the step, the last step, and seconds left and elapsed, where they are known."""

    def elapse(self, seconds: float) -> None:
        """Seconds since the run began, by its own clock."""

    def rename(self, metric: str, name: str) -> None:
        """Call a metric by another name, its points with it."""


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


class _Plan(NamedTuple):
    """What the names of a record mean, in the context of a split."""

    steps: tuple[str, ...]
    """The best first, of training before those of an evaluation."""
    counts_eval: bool
    """The first of them counts an evaluation."""
    losses: dict[str, tuple[str, ...]]
    """Split -> names that may stand for the loss, the best first."""
    own: tuple[tuple[str, str], ...]
    """(name, metric) of everything else that is drawn."""
    parts: bool
    """There is a loss of training, whole or in part."""
    has_loss: bool
    measured: bool
    """There are metrics."""
    epoch: str | None
    epochs: str | None
    rank: str | None
    time: tuple[str, ...]
    tokens: str | None
    elapsed: str | None
    left: str | None
    total: str | None


def _planned(names: tuple[str, ...], split: str) -> _Plan:
    known = {name: meaning(name) for name in names}
    of: dict[Role, list[str]] = {}
    for name, kind in known.items():
        of.setdefault(kind.role, []).append(name)
    steps = sorted(of.get(Role.STEP, ()), key=lambda n: (known[n].split == "eval", known[n].precedence))
    losses: dict[str, list[str]] = {"train": [], "eval": []}
    own: dict[str, str] = {}
    for role, metric in (
        (Role.LEARNING_RATE, "train/lr"),
        (Role.GRAD_NORM, "train/grad_norm"),
        (Role.SPEED, "train/tokens_per_second"),
    ):
        for n, name in enumerate(sorted(of.get(role, ()), key=lambda n: known[n].precedence)):
            own[name] = metric if n == 0 else shown(name)
    whole = [name for name in of.get(Role.LOSS, ()) if known[name].precedence < PART]
    for name in sorted(whole, key=lambda n: known[n].precedence):
        losses[known[name].split or split or "train"].append(name)
    for name, kind in known.items():
        if kind.role is Role.OTHER or (kind.role is Role.LOSS and kind.precedence >= PART):
            own[name] = f"eval/{shown(name)}" if split == "eval" and not kind.split else shown(name)
        elif kind.role is Role.STEP and name != steps[0]:
            own[name] = shown(name)
    if Role.EPOCH in of:
        own[of[Role.EPOCH][0]] = "epoch"
    measured = any(of.get(role) for role in (Role.OTHER, Role.LEARNING_RATE, Role.GRAD_NORM, Role.SPEED))

    def first(role: Role) -> str | None:
        return of[role][0] if role in of else None

    return _Plan(
        steps=tuple(steps),
        counts_eval=bool(steps) and known[steps[0]].split == "eval",
        losses={split: tuple(names) for split, names in losses.items()},
        own=tuple(own.items()),
        parts=any((known[name].split or split) != "eval" for name in of.get(Role.LOSS, ())),
        has_loss=Role.LOSS in of,
        measured=measured,
        epoch=first(Role.EPOCH),
        epochs=first(Role.EPOCHS),
        rank=first(Role.RANK),
        time=tuple(of.get(Role.TIME, ())),
        tokens=first(Role.TOKENS),
        elapsed=first(Role.ELAPSED),
        left=first(Role.REMAINING),
        total=first(Role.TOTAL),
    )


def holds_record(fields: Fields) -> bool:
    """Whether an object may be a log's first record: it has a loss, or metrics beside a step, an epoch or a time."""
    plan = _planned(tuple(fields.values), fields.split)
    counted = bool(plan.steps) or (plan.epoch is not None and plan.epochs is None) or bool(plan.time)
    return plan.has_loss or (counted and plan.measured)


def shown(name: str) -> str:
    """A name of a log as a metric's name: short, and safe to print."""
    return visible_line(name[:100]).strip()


class Assembler:
    """Turns `Fields` into points of a sink."""

    def __init__(self, sink: Sink, *, counts_rows: bool = False) -> None:
        """With `counts_rows` every structured row is a record, counted where nothing tells its step."""
        self._sink, self._counts_rows = sink, counts_rows
        self._plans: dict[tuple[tuple[str, ...], str], _Plan] = {}
        self._counter = Counter()
        self._rank: int | None = None
        self._heading: float | None = None  # the step of a line without values
        self._epoch: float | None = None
        self._epochs: float | None = None
        self._total: float | None = None  # that a line without a record named
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
        plan = self._plan(fields, fields.split)
        if not self._is_ours(fields, plan) and (plan.parts or not plan.losses["eval"]):
            return False  # an evaluation may be reported by any of the processes
        if fields.bar is not None:
            self._advance(fields.bar, fields)
        if plan.epoch is not None and abs(fields.values[plan.epoch]) < FARTHEST:
            self._epoch = fields.values[plan.epoch]
            self._epochs = fields.totals.get(plan.epoch, self._epochs)
        if plan.epochs is not None:
            self._epochs = fields.values[plan.epochs]
        if plan.total is not None and not plan.has_loss and 0 < fields.values[plan.total] < FARTHEST:
            self._total = fields.values[plan.total]
        if fields.bar is not None and (self._structured or not plan.has_loss):
            return False
        if not plan.has_loss and not self._is_record(fields, plan):
            if plan.steps or fields.split:
                self._head(fields, plan)
            return False
        if fields.progress is not None and fields.progress[0] < fields.progress[1]:
            return False  # a bar that is still filling
        self._structured = self._structured or (fields.structured and plan.has_loss)
        split = fields.split or (self._split if not plan.steps else "")
        self._record(fields, plan if split == fields.split else self._plan(fields, split))
        return True

    def _plan(self, fields: Fields, split: str) -> _Plan:
        key = (tuple(fields.values), split)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[key] = _planned(*key)
        return plan

    def _is_ours(self, fields: Fields, plan: _Plan) -> bool:
        """Whether the line is of the one process whose records are drawn."""
        rank = fields.rank
        if plan.rank is not None and math.isfinite(value := fields.values[plan.rank]):
            rank = int(value)
        if rank is None:
            return True
        if self._rank is None:
            self._rank = rank
        return rank == self._rank

    def _is_record(self, fields: Fields, plan: _Plan) -> bool:
        """Whether a line without a loss holds metrics of a step."""
        if self._counts_rows and fields.structured:
            return plan.measured
        return plan.measured and (bool(plan.steps) or (self._heading is not None and len(fields.values) == 1))

    def _head(self, fields: Fields, plan: _Plan) -> None:
        """A line that opens a block: a step without values, or the name of a split."""
        name = self._step_of(fields, plan)
        if name in _AMBIGUOUS and name not in fields.totals:
            return  # such as the setting `batch: 128`
        if name is not None and not plan.counts_eval and fields.split != "eval":
            value = fields.values[name]
            self._heading, self._split, self._step = value, "", value
            self._sink.advance(value, fields.totals.get(name), None, None)
        else:
            self._split = fields.split or ("eval" if plan.counts_eval else "")

    def _step_of(self, fields: Fields, plan: _Plan) -> str | None:
        """The name of the step: the best one whose value can be a count."""
        return next((name for name in plan.steps if abs(fields.values[name]) < FARTHEST), None)

    def _record(self, fields: Fields, plan: _Plan) -> None:
        read = fields.values
        values = {metric: read[name] for name, metric in plan.own}
        time = fields.time
        for name in plan.time:
            moment = when(read[name])
            if moment is None:
                values[shown(name)] = read[name]
            else:
                time = moment
        tokens = read[plan.tokens] if plan.tokens is not None and abs(read[plan.tokens]) < FARTHEST else None
        left = read[plan.left] if plan.left is not None else None
        total = read[plan.total] if plan.total is not None else None
        elapsed = read[plan.elapsed] if plan.elapsed is not None else None
        for split, names in plan.losses.items():
            if names:
                self._choose(split, names, read, values, beside_eval=bool(plan.losses["eval"]))
        # A summary, or an estimate beside an evaluation, moves nothing on.
        training = "train/loss" in values or ("train/loss" not in self._names and not plan.losses["eval"])
        count = self._step_of(fields, plan)
        if not training and count in ("batch", "round") and self._step is not None:
            count = None  # it counts the evaluation
        step = self._position(fields, plan, count, training=training)
        if total is None and count is not None and (total := fields.totals.get(count)) is not None:
            done = step - read[count]  # of the epochs before
            total = max(total * self._epochs, done + total) if self._epochs and (done or self._epoch) else done + total
        if total is None and count is None and self._epochs and step == self._epoch and fields.bar is None:
            total = self._epochs  # the step is the epoch
        if total is None and training and self._total is not None and step <= self._total:
            total = self._total
        if elapsed is not None:
            self._sink.elapse(elapsed)
        if total is not None or left is not None:
            self._sink.advance(step, total, left, elapsed)
        if not values or (fields.bar is not None and self._point == (step, values)):
            return  # the same bar, drawn again
        self._point = (step, values)
        self._sink.points(
            [step],
            {metric: [value] for metric, value in values.items()},
            None if time is None else [time],
            None if tokens is None else [tokens],
            training=training,
        )

    def _choose(
        self,
        split: str,
        names: Sequence[str],
        read: Mapping[str, float],
        values: dict[str, float],
        *,
        beside_eval: bool,
    ) -> None:
        """Put the losses of a split into `values`: one as the curve, the others under their own names."""
        metric = f"{split}/loss"
        spelled = " ".join(names[0].lower().split())
        chosen = self._names.get(metric)
        if chosen is None:
            self._names[metric] = chosen = spelled
            if split == "train":
                self._beside_eval = beside_eval
        elif split == "train" and chosen == spelled:
            self._beside_eval = self._beside_eval and beside_eval
        elif split == "train" and self._beside_eval and not beside_eval:
            # The rows before were evaluations that estimate the training loss too; these are the training itself.
            self._sink.rename(metric, shown(chosen))
            self._names[metric] = chosen = spelled
            self._beside_eval = False
        for n, name in enumerate(names):
            other = shown(name)
            if split == "eval" and not meaning(name).split:
                other = f"eval/{other}"
            values[metric if n == 0 and chosen == spelled else other] = read[name]

    def _position(self, fields: Fields, plan: _Plan, name: str | None, *, training: bool) -> float:
        """The step of a record: its own, a bar's, a heading's, the epoch, or its number."""
        epoch = fields.values[plan.epoch] if plan.epoch is not None else None
        if name is not None:
            step = fields.values[name]
            if training:
                step = self._counter.place(step, epoch, fields.totals.get(name))
                if name != self._step_name:
                    self._step_name, self._step_names = name, {n.lower() for n in fields.values}
            elif self._step is not None and name != self._step_name and name.lower() in self._step_names:
                return self._step  # counts something else than the curve does
            elif epoch is not None and plan.counts_eval:
                return step
        elif fields.bar is not None or self._bar_last is not None:
            step = self._step if self._step is not None else 0.0
        elif self._heading is not None:
            step = self._heading
        elif not training and self._step is not None:
            return self._step
        elif (passed := epoch if epoch is not None else self._epoch) is not None and passed == math.floor(passed):
            step = passed
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
