"""Named numbers, line by line, become the curves of a run: which is the loss, at which step, of how many.

A record may be one line, one line among bars, or a block of lines under a heading; a step may be a count of its own,
the position of a bar, or the epoch. What decides is the same for every format, so it stands here once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from tdiff.patterns import lazy
from tdiff.watch.formats.bars import BarCounter, Progress
from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.counter import FARTHEST, Counter
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.fields import Bar, Fields
from tdiff.watch.formats.guesses import Guesses
from tdiff.watch.formats.losses import Losses
from tdiff.watch.formats.names import is_of_run, meaning
from tdiff.watch.formats.numbers import when
from tdiff.watch.formats.plan import AMBIGUOUS, Plan, planned, shown, step_of
from tdiff.watch.formats.plans_in_words import LISTED
from tdiff.watch.formats.redraws import Redraws
from tdiff.watch.formats.said import Said
from tdiff.watch.formats.sections import Section

_MOST_PLANS = 256
_BEST = lazy(r"\bbest (?:iteration|step|round|epoch|model|score)\b.{0,20}:\s*$", re.IGNORECASE)
"""A heading of a record that is repeated."""
_OF_EPOCH = "loss of the epoch"
_WITHIN_EPOCH = "running loss"
"""What the bar of the first epoch has shown, once its loss is known."""
_LONGEST_TAG = 30
"""Characters of a line that names a split and nothing else (`[val]`, `mode=eval`)."""
_DONE = "train_runtime"
"""In the last dictionary of a Hugging Face Trainer."""


class Assembler:
    """Turns `Fields` into records."""

    def __init__(self, curves: Curves, names: Names | None = None, *, counts_rows: bool = False) -> None:
        """With `counts_rows` every structured row is a record, counted where nothing tells its step."""
        self._curves, self._reads, self._counts_rows = curves, names or Names(), counts_rows
        self._plans: dict[tuple[tuple[str, ...], str], Plan] = {}
        self._guesses = Guesses(self._reads)
        self._counter = Counter()
        self._bars = BarCounter()
        self._rank: int | None = None
        self._heading: float | None = None  # the step of a line without values
        self._heads_batches = False  # whether that counts the batches of an epoch
        self._epoch: float | None = None
        self._epochs: float | None = None
        self._whole_epochs = True  # no epoch so far has had a fraction
        self._farthest_epoch = -math.inf
        self._total: float | None = None  # that a line without a record named
        self._heading_total: float | None = None
        self._before = ""  # the newest line without a record
        self._section = Section()
        self._redraws = Redraws()
        self._previews = False  # the curve of the loss is that within the first epoch
        self._said = Said(self._reads.meaning)
        self._step: float | None = None  # the newest step
        self._step_name, self._step_names = "", set[str]()  # what counts it, and the names beside it
        self._count = 0
        self._in_epoch = False  # records tell their position in the epoch
        self._losses = Losses(curves, self._reads)
        self._structured = False  # records come as objects or dictionaries
        self._held: tuple[Fields, Plan] | None = None
        self._point: tuple[float, dict[str, float]] | None = None
        self._newest: tuple[float | None, ...] | None = None  # step, loss, ... of the newest training record

    def prepare(self, earlier: Iterable[Fields]) -> None:
        """Read in the lines before the first record how many steps and epochs the run will take."""
        for fields in earlier:
            plan = self._plan(fields, fields.split)
            if not plan.has_loss:
                self._hear_totals(fields, plan)

    def _hear_totals(self, fields: Fields, plan: Plan) -> None:
        """The numbers of steps and epochs that a line without a loss tells."""
        if self._newest is not None and any(name.startswith(LISTED) for name in fields.values):
            return
        if plan.epochs is not None and is_of_run(plan.epochs):
            self._epochs = fields.values[plan.epochs]
        if plan.total is not None and is_of_run(plan.total) and 0 < fields.values[plan.total] < FARTHEST:
            self._total = fields.values[plan.total]

    def take(self, fields: Fields) -> bool:
        """Take in a line. Whether it was a record, rather than a bar or text."""
        if self._said.is_neither(fields, self._plan):
            return False
        plan = self._plan(fields, fields.split)
        self._said.hear(fields.split, plan)
        ranked = fields.rank is not None or plan.rank is not None
        if ranked and not self._is_ours(fields, plan) and (plan.parts or not plan.losses["eval"]):
            return False  # an evaluation may be reported by any of the processes
        progress = None
        if fields.bar is not None:
            progress = self._advanced(fields.bar, fields)
        if self._held is not None and (progress is not None if fields.bar is not None else bool(fields.text.strip())):
            self.release()
        if plan.epoch is not None and abs(epoch := fields.values[plan.epoch]) < FARTHEST:
            self._epoch = epoch
            self._epochs = fields.totals.get(plan.epoch, self._epochs)
            self._whole_epochs = self._whole_epochs and epoch == math.floor(epoch)
        if not plan.has_loss:
            self._hear_totals(fields, plan)
        elif plan.epochs is not None:
            self._epochs = fields.values[plan.epochs]
        if fields.structured and _DONE in fields.values and (self._step is not None or not plan.has_loss):
            self._curves.finish()
            return True
        if fields.progress is not None and plan.has_loss:
            in_epoch = self._epoch is not None
            records = list(self._redraws.take(fields, in_epoch=in_epoch))
            self._preview(fields, () if self._losses.trains else plan.losses["train"])
            for one in records:
                self._take_record(one, self._plan(one, one.split), None)
            return bool(records)
        if self._redraws.waits and (fields.text.strip() or fields.structured):
            self.release()
        if self._is_text(fields, plan):
            if progress is not None:
                self._curves.advance(*progress)
            elif fields.bar is None and not plan.has_loss and (plan.steps or plan.epoch is not None or fields.split):
                self._head(fields, plan)
            if fields.text and not fields.text.isspace():
                self._before = fields.text
            return False
        return self._take_record(fields, plan, progress)

    def _take_record(self, fields: Fields, plan: Plan, progress: Progress | None) -> bool:
        """Record a line, or hold a dictionary back until the bar that counts it has come."""
        self._structured = self._structured or (fields.structured and plan.has_loss)
        name = step_of(fields, plan)
        count, epoch = self._counts(fields, plan, name)
        split = fields.split or self._section.of(count, epoch)
        if not split and not plan.losses["eval"] and plan.losses["train"]:
            self._section.trained(count, epoch)
        if split != fields.split:
            plan = self._plan(fields, split)
            name = step_of(fields, plan)
        waits = fields.structured and fields.bar is None and self._bars.total is not None and not self._counts_rows
        if waits and name is None:
            self._held = (fields, plan)
            return True
        self._record(fields, plan, name, progress)
        for name, metric in self._guesses.take(fields).items():
            self._losses.be(metric, name)
            self._plans.clear()
        return True

    @staticmethod
    def _counts(fields: Fields, plan: Plan, name: str | None) -> tuple[float | None, float | None]:
        """The step, called `name`, and the epoch that a line has, as they are there."""
        return (
            fields.values[name] if name is not None else None,
            fields.values[plan.epoch] if plan.epoch is not None else None,
        )

    def release(self) -> bool:
        """Record what waits: a dictionary for the bar which counts it, and a bar that may be drawn again. Did any?

        The count of the bar before it may be some steps old, since tqdm does not redraw at each step; it redraws the
        bar right after the dictionary.
        """
        held, self._held = self._held, None
        if held is not None:
            self._record(*held, step_of(*held), None)
        waited = list(self._redraws.settle()) if self._redraws.waits else []
        self._preview()
        for one in waited:
            self._take_record(one, self._plan(one, one.split), None)
        return held is not None or bool(waited)

    def _preview(self, fields: Fields | None = None, losses: Sequence[str] = ()) -> None:
        """Draw the loss within a bar's first epoch by the share of that epoch, until it is known what a record is."""
        if self._previews and not self._redraws.undecided:
            self._previews = False
            self._curves.rename("train/loss", _WITHIN_EPOCH)
        elif fields is not None and fields.progress is not None and losses and self._redraws.undecided:
            self._previews = True
            share = min(fields.progress[0] / max(fields.progress[1], 1.0), 1.0)
            self._curves.record(share, {"train/loss": fields.values[losses[0]]}, training=True)

    def _is_text(self, fields: Fields, plan: Plan) -> bool:
        """Whether a line holds no record."""
        if fields.bar is not None and ((self._structured and not fields.structured) or not plan.has_loss):
            return True
        return not plan.has_loss and not self._is_record(fields, plan)

    def _plan(self, fields: Fields, split: str) -> Plan:
        key = (tuple(fields.values), split)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[key] = planned(*key, self._reads.meaning)
        return plan

    def _is_ours(self, fields: Fields, plan: Plan) -> bool:
        """Whether the line is of the one process whose records are drawn."""
        rank = fields.rank
        if plan.rank is not None and math.isfinite(value := fields.values[plan.rank]):
            rank = int(value)
        if rank is None:
            return True
        if self._rank is None:
            if not plan.parts and fields.bar is None:
                return True  # every process says that it is there, perhaps one tells the loss
            self._rank = rank
        return rank == self._rank

    def _is_record(self, fields: Fields, plan: Plan) -> bool:
        """Whether a line without a loss holds metrics of a step."""
        if self._counts_rows and fields.structured:
            return plan.measured
        counted = any(name not in AMBIGUOUS or name in fields.totals for name in plan.steps)
        return plan.measured and (counted or (self._heading is not None and len(fields.values) == 1))

    def _head(self, fields: Fields, plan: Plan) -> None:
        """A line that opens a block: a step or an epoch without values, or the name of a split."""
        name = step_of(fields, plan)
        if name in AMBIGUOUS and name not in fields.totals:
            return  # such as the setting `batch: 128`
        count, epoch = self._counts(fields, plan, name)
        if name is not None and not plan.counts_eval and fields.split != "eval":
            assert count is not None
            self._heads_batches = name == "batch"
            total = fields.totals.get(name)
            value = self._counter.place(count, epoch, total) if self._heads_batches else count
            self._heading, self._heading_total, self._step = value, total, value
            self._section.open("", alone=False)
            if not self._heads_batches or epoch is None:
                self._curves.advance(value, total, None, None)
        elif fields.split or name is not None:
            alone = not fields.values and not fields.unread and len(fields.text) < _LONGEST_TAG
            self._section.open(fields.split or ("eval" if plan.counts_eval else ""), alone=alone)
        else:
            self._section.of(None, epoch)  # an epoch after that of the evaluation is one of training

    def _record(self, fields: Fields, plan: Plan, count: str | None, bar: Progress | None) -> None:
        """Put a record on the curves; `count` is the name of its step."""
        read = fields.values
        values = {metric: read[name] for name, metric in plan.own}
        time = fields.time
        for name in plan.time:
            moment = when(read[name])
            if moment is None:
                values[shown(name)] = read[name]
            else:
                time = moment
        left = read[plan.left] if plan.left is not None else None
        total = read[plan.total] if plan.total is not None else None
        evaluates = bool(plan.losses["eval"])
        self._losses.choose(plan, read, values, self._counts(fields, plan, count) if plan.stands_in else None)
        if self._losses.assumed:
            self._plans.clear()
            self._losses.assumed = False
        if "train/loss" in values and bar is None and self._sums_up(fields, plan, count):
            values[_OF_EPOCH] = values.pop("train/loss")
        # A summary, or an estimate beside an evaluation, moves nothing on.
        training = "train/loss" in values or (not self._losses.trains and not evaluates)
        if not training and count in ("batch", "round") and self._step is not None:
            count = None  # it counts the evaluation
        step = self._position(fields, plan, count, training=training)
        if bar is None and self._repeats(step, values, plan, counted=count is not None):
            return
        if count is not None and training and "train/loss" in values:
            newest = (step, values["train/loss"], len(values), read.get("round") if count != "round" else None)
            before, self._newest = self._newest, newest
            if newest == before or (newest[3] is not None and before is not None and self._of_another(newest, before)):
                return
        if training and plan.epoch is not None and not fields.totals.keys().isdisjoint(plan.steps):
            self._in_epoch = True
        if total is None:
            total = self._total_of(fields, step, count, training=training)
        if bar is not None:
            total, left = bar.total if total is None else total, bar.left if left is None else left
            if self._point == (step, values):  # the same bar, drawn again
                self._curves.advance(step, total, left, bar.elapsed)
                return
            self._point = (step, values)
        since = self._bars.progress.elapsed if self._bars.progress is not None else None
        elapsed = read[plan.elapsed] if plan.elapsed is not None else None
        progress = (total, left) if total is not None or left is not None else None
        if not values:
            if progress is not None:
                self._curves.advance(step, *progress, elapsed)
            return
        tokens = read[plan.tokens] if plan.tokens is not None and abs(read[plan.tokens]) < FARTHEST else None
        self._curves.record(
            step,
            values,
            training=training,
            time=time,
            tokens=tokens,
            elapsed=elapsed,
            since=since,
            progress=progress,
        )

    def _sums_up(self, fields: Fields, plan: Plan, count: str | None) -> bool:
        """Whether a record is the mean of an epoch, in a log whose steps or bars have losses of their own."""
        counted = self._newest is not None or self._point is not None
        if self._in_epoch and plan.epoch is not None and fields.totals.keys().isdisjoint(plan.steps):
            return True  # the records before it tell their position in the epoch
        alone = count is None and self._heading is None and fields.bar is None
        return counted and alone and not self._counts_rows and (plan.epoch is not None or bool(plan.losses["eval"]))

    def _repeats(self, step: float, values: Mapping[str, float], plan: Plan, *, counted: bool) -> bool:
        """Whether a record tells again the loss of the newest step, or of the best one."""
        if self._newest is None or "train/loss" not in values:
            return False
        newest = self._newest[0] or 0.0
        if counted:
            return step < newest and _BEST.search(self._before) is not None
        return step == newest and plan.epoch is None and self._heading is None

    @staticmethod
    def _of_another(newest: tuple[float | None, ...], before: tuple[float | None, ...]) -> bool:
        """Whether a record is that of another process: a number in brackets differs, and the step does not."""
        return newest[0] == before[0] and newest[3] != before[3]

    def _total_of(self, fields: Fields, step: float, count: str | None, *, training: bool) -> float | None:
        """The last step that a record or the lines before it tell."""
        total = fields.totals.get(count) if count is not None else None
        if count is not None and total is not None:
            done = step - fields.values[count]  # of the epochs before
            if self._epochs and (done or self._epoch):
                return max(total * self._epochs, done + total)
            return done + total
        if count is None and step == self._heading and self._heading_total and training:
            epochs = self._epochs if self._heads_batches and self._epoch is not None else None
            return max(self._heading_total * (epochs or 1), step)
        if count is None and self._epochs and step == self._epoch and fields.bar is None:
            return self._epochs  # the step is the epoch
        counted = count is not None or step == self._heading  # in steps, as the total is
        if training and counted and self._total is not None and step <= self._total:
            return self._total
        return None

    def _position(self, fields: Fields, plan: Plan, name: str | None, *, training: bool) -> float:
        """The step of a record: its own, a bar's, a heading's, the epoch, or its number."""
        epoch = fields.values[plan.epoch] if plan.epoch is not None else None
        if name is not None:
            step = fields.values[name]
            if training:
                turn = epoch if epoch is not None else self._epoch
                turn = self._redraws.turns if turn is None and fields.progress is not None else turn
                step = self._counter.place(step, turn, fields.totals.get(name))
                if name != self._step_name:
                    self._step_name, self._step_names = name, {n.lower() for n in fields.values}
            elif self._step is not None and name != self._step_name and name.lower() in self._step_names:
                return self._step  # counts something else than the curve does
            elif epoch is not None and plan.counts_eval:
                return step
        elif fields.bar is not None or self._bars.progress is not None:
            step = self._step if self._step is not None else 0.0
        elif self._heading is not None and not (self._heads_batches and epoch is not None):
            step = self._heading
        elif not training and self._step is not None:
            by_epoch = not self._step_name and not self._count and self._whole_epochs
            return max(self._step, self._epoch or 0.0) if by_epoch else self._step
        elif self._newest is not None and self._step is not None and epoch is None:
            step = self._step
        elif (passed := epoch if epoch is not None else self._epoch) is not None and self._whole_epochs:
            step = passed
        else:
            step = float(self._number(epoch))
        if training or self._step is None:
            self._step = step
        return step

    def _number(self, epoch: float | None) -> int:
        """The number of a record. If its epoch has been reached before, it is the number that it had then."""
        self._count += 1
        if epoch is not None and math.isfinite(epoch):
            if epoch < self._farthest_epoch and (number := self._curves.step_of("epoch", epoch)) is not None:
                self._count = number
            self._farthest_epoch = epoch
        return self._count

    def _advanced(self, bar: Bar, fields: Fields) -> Progress | None:
        """The progress that a bar tells, where it is one of training."""
        if fields.split == "eval" or (bar.label and meaning(bar.label).split == "eval"):
            return None
        held = self._held is not None and bool(self._held[1].losses["train"]) and not bar.label
        # An evaluation has a bar too, but it is closed before a training loss is printed, so it cannot be the next bar.
        if not fields.values and not held:
            if bar.label and self._bars.total is None:
                return None  # of some preparation
            if self._bars.total is not None and bar.total != self._bars.total:
                return None
        progress = self._bars.take(bar, self._epochs)
        self._step = progress.step
        return progress
