"""What the names of a record mean together: which counts its steps, which is its loss, what is a metric of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tdiff.visible import visible_line
from tdiff.watch.formats.counter import FARTHEST
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import PART, Meaning, Role, is_done_or_planned, is_global_step, is_objective, is_split
from tdiff.watch.formats.splits import NEITHER
from tdiff.watch.formats.standins import stand_ins, terms_named_value

AMBIGUOUS = frozenset(["batch", "i", "n", "s", "index", "idx", "timesteps", "num_timesteps"])
"""Names that count steps only with a total or beside a loss."""


class Plan(NamedTuple):
    """What the names of a record mean, in the context of a split."""

    steps: tuple[str, ...]
    """The best first, of training before those of an evaluation."""
    counts_eval: bool
    """The first of them counts an evaluation."""
    losses: dict[str, tuple[str, ...]]
    """Split -> names that may stand for the loss, the best first."""
    stands_in: frozenset[str]
    """Those of them that stand for the loss, which no name is."""
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


def planned(names: tuple[str, ...], split: str, meaning: Callable[[str], Meaning]) -> Plan:
    """The plan of a record with these names."""
    split = "" if split in NEITHER else split
    known = {name: meaning(name) for name in names}
    for name in list(terms_named_value(known)):
        known[name] = Meaning(Role.LOSS, known[name].split, PART)
    of: dict[Role, list[str]] = {}
    for name, kind in known.items():
        of.setdefault(kind.role, []).append(name)
    if Role.LOSS not in of:
        for name in filter(is_done_or_planned, of.get(Role.STEP, [])[:]):
            of[Role.STEP].remove(name)
            of.setdefault(Role.TOTAL, []).append(name)
            known[name] = Meaning(Role.TOTAL)
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
    if Role.LOSS not in of:
        for name in (minimized := _objectives(known)):
            known[name] = Meaning(Role.LOSS, known[name].split, PART - 1)
        of[Role.LOSS] = minimized
        if not minimized:
            del of[Role.LOSS]
    stands_in = frozenset[str]()
    evaluates = split == "eval" or any(kind.split == "eval" for kind in known.values())
    if of.get(Role.STEP) or of.get(Role.EPOCH) or evaluates:
        found = dict(stand_ins(known, split))
        stands_in = frozenset(name for name, kind in found.items() if kind.precedence < PART)
        known |= found
        of[Role.LOSS] = [name for name, kind in known.items() if kind.role is Role.LOSS]
        if not of[Role.LOSS]:
            del of[Role.LOSS]
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

    def first(role: Role) -> str | None:
        return of[role][0] if role in of else None

    return Plan(
        steps=tuple(steps),
        counts_eval=bool(steps) and known[steps[0]].split == "eval",
        losses={split: tuple(names) for split, names in losses.items()},
        stands_in=stands_in,
        own=tuple(own.items()),
        parts=any((known[name].split or split) != "eval" for name in of.get(Role.LOSS, ())),
        has_loss=Role.LOSS in of,
        measured=any(of.get(role) for role in (Role.OTHER, Role.LEARNING_RATE, Role.GRAD_NORM, Role.SPEED)),
        epoch=first(Role.EPOCH),
        epochs=first(Role.EPOCHS),
        rank=first(Role.RANK),
        time=tuple(of.get(Role.TIME, ())),
        tokens=first(Role.TOKENS),
        elapsed=first(Role.ELAPSED),
        left=first(Role.REMAINING),
        total=first(Role.TOTAL),
    )


def _objectives(known: Mapping[str, Meaning]) -> list[str]:
    """Where no name is a loss: what a program minimizes, for training and perhaps also for an evaluation."""
    others = [name for name, kind in known.items() if kind.role is Role.OTHER and kind.split]
    for kinds in (
        [name for name in others if is_objective(name)],
        [name for name in others if is_split(name)] if "learn" in known else [],
    ):
        if any(known[name].split == "train" for name in kinds):
            return kinds
    return []


def holds_loss(fields: Fields, meaning: Callable[[str], Meaning]) -> bool:
    """Whether a line has the whole loss of a training or an evaluation."""
    return any(planned(tuple(fields.values), fields.split, meaning).losses.values())


def holds_record(fields: Fields, meaning: Callable[[str], Meaning]) -> bool:
    """Whether an object may be a log's first record: it has a loss, or metrics beside a step, an epoch or a time."""
    plan = planned(tuple(fields.values), fields.split, meaning)
    counted = bool(plan.steps) or (plan.epoch is not None and plan.epochs is None) or bool(plan.time)
    return plan.has_loss or (counted and plan.measured)


def shown(name: str) -> str:
    """A name of a log as a metric's name: short, and safe to print."""
    return visible_line(name[:100]).strip()


def step_of(fields: Fields, plan: Plan) -> str | None:
    """The name of the step: the best one whose value can be a count, those with a total first.

    A count of the whole run wins over the position in an epoch, which has a total.
    """
    best = ""
    for name in plan.steps:
        if abs(value := fields.values[name]) < FARTHEST and value == math.floor(value):
            if not fields.totals or name in fields.totals:
                runs_on = best and best not in AMBIGUOUS and fields.values[best] > fields.totals[name]
                return best if runs_on else name
            if is_global_step(name):
                return name
            best = best or name
    return best or None
