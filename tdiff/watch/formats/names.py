"""What a name in a log means: a loss, a count of steps, a time, a rate, or a metric of its own.

The one place for CSV columns, JSON keys and words in text alike. A name is read as words (`trainLoss`, `train/loss`,
`Train loss` and `train_loss` are the same two words), and its words decide. A name that only looks like a loss, such as
`loss_scale`, is a metric of its own: to draw nothing is better than to draw something else as the loss.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple


class Role(Enum):
    """What a value is for."""

    LOSS = auto()
    STEP = auto()
    TOTAL = auto()
    """The number of steps that the run will take."""
    EPOCH = auto()
    EPOCHS = auto()
    """The number of epochs that the run will take."""
    TIME = auto()
    """A moment: seconds since 1970, or a date. Where the value is neither, a duration."""
    ELAPSED = auto()
    """Time since the run began."""
    REMAINING = auto()
    TOKENS = auto()
    LEARNING_RATE = auto()
    GRAD_NORM = auto()
    SPEED = auto()
    """Tokens a second."""
    RANK = auto()
    """The number of the process that wrote the record."""
    OTHER = auto()


class Meaning(NamedTuple):
    """What a name means."""

    role: Role
    split: str = ""
    """`train`, `eval`, or nothing where the name does not say."""
    precedence: int = 0
    """Of names with one role in a record the lowest counts. A loss at PART or above is a metric of its own."""


PART = 9
"""Precedence from which a loss is one of several terms (`box_loss`), which never stands for the whole."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_UNIT = re.compile(r"\([^()]*\)")


def _names(text: str) -> tuple[tuple[str, ...], ...]:
    """Names as their words, from a text with commas between names."""
    return tuple(tuple(name.split()) for name in text.split(","))


_SPLITS = dict.fromkeys(["train", "training", "tr", "trn", "trainer", "learn"], "train") | dict.fromkeys(
    ["val", "valid", "validation", "validate", "eval", "evaluation", "dev", "heldout", "holdout", "test", "testing"],
    "eval",
)
_ABBREVIATIONS = (
    dict.fromkeys(["trl", "trloss", "tloss", "trainloss", "tl"], ("train", "loss"))
    | dict.fromkeys(["vl", "vloss", "valloss", "evalloss", "tel", "validloss", "testloss"], ("val", "loss"))
    | dict.fromkeys(["logloss", "mloss"], ("loss",))
    | dict.fromkeys(["gnorm", "gradnorm"], ("grad", "norm"))
)
"""Words that stand for several."""
_STEPS = _names(
    "global step, num updates, step, optimizer step, opt step, current steps, current step, cur step, steps, iteration,"
    "iter, iter num, iters, iterations, num iter, n iter, it, update, updates, completed steps, completed step, batch,"
    "batch idx, batch id, batches, minibatch, round, boosting round, ba, index, idx, s, i, n"
)
"""Names of the step, the best first."""
_OF_STEPS = frozenset(["step", "steps", "iters", "iterations", "updates", "batches", "iter", "update"])
_COUNTS_AND_TIMES: dict[tuple[str, ...], Role] = {
    name: role
    for role, names in (
        (Role.EPOCH, "epoch, ep, epoch num, current epoch, cur epoch, epoch idx"),
        (Role.EPOCHS, "epochs"),
        (Role.TIME, "time, timestamp, wall time, walltime, ts, date, datetime, created at"),
        (
            Role.ELAPSED,
            "elapsed, elapsed time, elapsed seconds, elapsed s, time elapsed, total time, runtime, wall, train time,"
            "time since start",
        ),
        (Role.REMAINING, "eta, eta seconds, remaining, remaining time, time remaining, time left"),
        (
            Role.TOKENS,
            "tokens, tokens seen, tokens processed, tokens total, total tokens, num tokens, n tokens, consumed tokens,"
            "trained tokens, num input tokens seen",
        ),
        (Role.SPEED, "tokens per second, tokens per sec, tok per sec, tokens s, tokens sec, tok s, tok sec, wps, tps"),
        (Role.RANK, "rank, rank id, local rank, global rank, worker rank, process index"),
    )
    for name in _names(names)
}
_LOSSES = frozenset(["loss", "losses", "nll", "xent", "nelbo"])
_NOT_LOSS = frozenset(
    [
        "scale",
        "scaler",
        "scaling",
        "weight",
        "weights",
        "coef",
        "coeff",
        "coefficient",
        "lambda",
        "factor",
        "ratio",
        "mask",
        "type",
        "fn",
        "func",
        "function",
        "name",
        "ppl",
        "perplexity",
        "std",
        "var",
        "variance",
        "count",
        "num",
        "number",
        "best",
        "lowest",
        "min",
        "minimum",
        "max",
        "maximum",
        "threshold",
        "acc",
        "accuracy",
        "change",
        "delta",
        "diff",
        "patience",
        "improvement",
        "improved",
        "reduction",
        "norm",
        "lr",
        "grad",
        "spike",
        "spikes",
        "skip",
        "skipped",
        "target",
        "goal",
        "time",
        "previous",
        "prev",
        "final",
        "initial",
        "initially",
        "old",
        "early",
        "limit",
        "bits",
        "bpb",
        "bpc",
        "history",
        "figure",
        "plot",
        "saved",
        "beta",
        "alpha",
        "gamma",
        "eps",
        "epsilon",
        "ma",
        "no",
        "not",
        "log",
        "freq",
        "every",
        "interval",
        "percent",
    ]
)
"""Words beside which `loss` is not the value of a loss."""
_PLAIN = (
    dict.fromkeys(["set", "on", "data", "the", "for", "metrics", "metric", "split", "global", "is", "was", "of"], 0)
    | dict.fromkeys(["step", "iter", "batch", "minibatch", "value", "current", "cur", "micro", "inner"], 1)
    | dict.fromkeys(
        [
            "total",
            "lm",
            "ce",
            "cross",
            "entropy",
            "model",
            "language",
            "modeling",
            "all",
            "overall",
            "reduced",
            "binary",
            "multi",
            "softmax",
        ],
        2,
    )
    | dict.fromkeys(["avg", "average", "mean", "running", "smooth", "smoothed", "ema", "moving", "epoch"], 3)
)
"""Words that leave a loss the loss, with what they add to its precedence."""


def words(name: str) -> list[str]:
    """The words of a name, in small letters, without a unit in brackets."""
    return [
        part
        for word in _WORD.findall(_UNIT.sub(" ", name[:120]))
        for part in _ABBREVIATIONS.get(word.lower(), (word.lower(),))
    ]


def words_beside_split(name: str) -> list[str]:
    """The words of a name that say something other than train or eval."""
    return [word for word in words(name) if word not in _SPLITS]


@lru_cache(4096)
def meaning(name: str) -> Meaning:
    """What a name means; see `Meaning`."""
    spelled = words(name)
    split = next((_SPLITS[word] for word in spelled if word in _SPLITS and _SPLITS[word] == "eval"), "")
    split = split or next((_SPLITS[word] for word in spelled if word in _SPLITS), "")
    rest = list(dict.fromkeys(word for word in spelled if word not in _SPLITS))
    role = _count_or_time(tuple(rest))
    if role is not None:
        return Meaning(role[0], split, role[1])
    if "lr" in rest or ("learning" in rest and "rate" in rest):
        known = {"lr", "learning", "rate"}
        plain = not {"scale", "multiplier", "mult", "decay", "min", "max", "warmup", "peak", "initial", "base"} & set(
            rest
        )
        if plain:
            return Meaning(Role.LEARNING_RATE, split, 0 if set(rest) <= known else 1)
    if "grad" in rest or "gradient" in rest or rest == ["norm"]:
        if {"norm", "norms"} & set(rest) or len(rest) == 1:
            return Meaning(Role.GRAD_NORM, split, 0 if len(rest) <= 2 else 1)
        return Meaning(Role.OTHER, split)
    return _loss(rest, split) or Meaning(Role.OTHER, split)


def _count_or_time(rest: tuple[str, ...]) -> tuple[Role, int] | None:
    if rest in _STEPS:
        return Role.STEP, _STEPS.index(rest)
    if rest in _COUNTS_AND_TIMES:
        return _COUNTS_AND_TIMES[rest], 0
    if len(rest) == 2 and rest[0] in ("total", "max", "num", "n", "maximum"):
        if rest[1] in _OF_STEPS:
            return Role.TOTAL, 0
        if rest[1] == "epochs":
            return Role.EPOCHS, 0
    return None


def _loss(rest: list[str], split: str) -> Meaning | None:
    others = [word for word in rest if word not in _LOSSES]
    entropy = "entropy" in rest and "cross" in rest
    if len(others) == len(rest) and not entropy and rest not in (["ce"], ["cost"]):
        return None
    if rest == ["cost"]:
        return Meaning(Role.LOSS, split, 2)
    if _NOT_LOSS & set(others):
        return None
    term = ("value" in others and rest[-1] != "value") or (
        "entropy" in others and not entropy
    )  # of reinforcement learning
    if term or not all(word in _PLAIN or word.isdecimal() for word in others):
        return Meaning(Role.LOSS, split, PART)
    precedence = sum(_PLAIN.get(word, 1) for word in others) + (not {"loss", "losses"} & set(rest)) + ("nll" in rest)
    return Meaning(Role.LOSS, split, min(PART - 1, precedence))
