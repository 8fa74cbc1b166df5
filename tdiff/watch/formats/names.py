"""What a name in a log means: a loss, a count of steps, a time, a rate, or a metric of its own.

The one place for CSV columns, JSON keys and words in text alike. A name is read as words (`trainLoss`, `train/loss`,
`Train loss` and `train_loss` are the same two words), and its words decide. A name that only looks like a loss, such as
`loss_scale`, is a metric of its own: to draw nothing is better than to draw something else as the loss.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

from tdiff.patterns import lazy
from tdiff.watch.formats.languages import in_english


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

_WORD = lazy(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_UNIT = lazy(r"\([^()]*\)")


def names_of(text: str) -> tuple[tuple[str, ...], ...]:
    """Names as their words, from a text with commas between names."""
    return tuple(tuple(name.split()) for name in text.split(","))


def _words(text: str) -> list[str]:
    """The words of a text, apart by blanks."""
    return text.split()


_SPLITS = dict.fromkeys(_words("train training tr trn trainer learn"), "train") | dict.fromkeys(
    _words("val va vld vali valid validation validate validating eval evaluation evaluating dev heldout held holdout")
    + _words("test tst testing cv"),
    "eval",
)
_ABBREVIATIONS = (
    dict.fromkeys(["trl", "trloss", "tloss", "trainloss", "tl"], ("train", "loss"))
    | dict.fromkeys(["vl", "vloss", "valloss", "evalloss", "tel", "validloss", "testloss"], ("val", "loss"))
    | dict.fromkeys(["logloss", "mlogloss", "mloss"], ("loss",))
    | dict.fromkeys(["gnorm", "gradnorm"], ("grad", "norm"))
    | dict.fromkeys(["maxiters", "maxiter", "maxits"], ("max", "iters"))
    | dict.fromkeys(["maxsteps", "nsteps", "numsteps", "totalsteps"], ("total", "steps"))
    | dict.fromkeys(["niters", "numiters", "totaliters"], ("total", "iters"))
    | dict.fromkeys(["nrounds", "nround", "numrounds", "maxrounds"], ("total", "rounds"))
    | dict.fromkeys(["maxepochs", "maxepoch", "nepochs", "numepochs", "totalepochs"], ("max", "epochs"))
)
"""Words that stand for several."""
_STEPS = names_of(
    "global step, num updates, step, optimizer step, opt step, current steps, current step, cur step, iteration,"
    "iter, iter num, episode, generation, steps, iters, iterations, num iter, n iter, it, update, updates,"
    "completed steps, completed step, batch,"
    "batch idx, batch id, minibatch, upd, upds, round, boosting round, ba,"
    "env step, env steps, environment step, environment steps, total env steps, total environment steps,"
    "total timesteps, num env steps, num env steps sampled, timesteps total, timesteps, num timesteps, time steps,"
    "index, idx, s, i, n"
)
"""Names of the step, the best first."""
_OF_STEPS = frozenset(
    _words("step steps iters iterations updates batches iter update iteration its rounds round estimators trees")
)
_OF_AGENTS = frozenset(["timesteps", "env", "environment"])
"""Words of a count of steps within the part of a path which is elsewhere that of durations (`time/env_steps`)."""
_OF_EPOCHS = frozenset(["epochs", "passes"])
_DONE_OR_PLANNED = frozenset(names_of("total env steps, total environment steps, total timesteps, timesteps total"))
"""Names of a step that are those of the total where no loss is beside them."""
_ONE_STEP, _NUMBERS = frozenset(["step", "iter", "iteration", "update"]), frozenset(["n", "num", "number"])
_PLANS = frozenset(["total", "max", "num", "n", "maximum", "planned", "budget", "target", "number", "limit"])
_BESIDE_PLANS = frozenset(
    ["optimization", "optimizer", "training", "gradient", "global", "of", "to", "run", "planned", "boost", "boosting"]
)
"""Words that may stand in the name of a plan (`Total optimization steps`, `number of updates`)."""
"""Words beside a number of steps or epochs that the run will take."""
_PLANS_IN_FULL = ({"optimization", "steps"}, {"optimisation", "steps"})
"""Names of the total without a word that says so."""
_OF_RUN = frozenset(
    _words(
        "train training trainer args arguments config cfg settings hparams hyperparameters run params parameters plan"
    )
    + _words("schedule optim optimization optimizer learner job experiment options setup")
)
"""Parts of a path in which a number of steps is that of the whole run."""
_COUNTS_AND_TIMES: dict[tuple[str, ...], Role] = {
    name: role
    for role, names in (
        (Role.EPOCH, "epoch, ep, epoch num, current epoch, cur epoch, epoch idx, pass"),
        (Role.EPOCHS, "epochs, passes"),
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
        (
            Role.RANK,
            "rank, rank id, local rank, global rank, worker rank, process index, worker, worker id, proc, proc id,"
            "process, replica, replica id",
        ),
    )
    for name in names_of(names)
}
_MEASURES = frozenset(["time", "size", "per", "loss", "lr", "throughput", "speed", "tokens"])
"""Parts of a path in which `batch` or `step` is a unit."""
_GROUPS = frozenset(["history", "log", "logs", "metrics", "results", "scores", "stats", "output", "losses"])
"""Parts of a path that say nothing."""
_OF_THE_RUN = frozenset([Role.TIME, Role.ELAPSED, Role.REMAINING, Role.SPEED])
"""Roles that an evaluation's own times and speeds do not have."""
_OBJECTIVE = lazy(r"(?:^|[^a-z])(?:rmse|mse|mae|rmsle|l1|l2|deviance|poisson|huber|quantile|tweedie)$")
_LOSSES = frozenset(["loss", "losses", "nll", "xent", "nelbo", "objective"])
_NOT_LOSS = frozenset(
    _words("""
    scale scaler scaling weight weights coef coeff coefficient lambda factor ratio mask type fn func function name
    ppl perplexity std var variance count num number best lowest min minimum max maximum threshold acc accuracy
    change delta diff patience improvement improved reduction norm lr grad spike spikes skip skipped target goal
    time previous prev final initial initially old early limit bits bpb bpc history figure plot saved beta alpha
    gamma eps epsilon ma no not log freq every interval percent
    """)
)
"""Words beside which `loss` is not the value of a loss."""
_UNITS = frozenset(
    _words("per token tok word char byte sample example utterance utt frame seq sentence image pixel item")
)
"""Of what a loss is the mean: `loss per token`, `loss/frame`."""
_PLAIN = {
    word: precedence
    for precedence, names in enumerate(
        (
            "set on data the for metrics metric split global is was of local out",
            "step iter batch minibatch value current cur micro inner",
            "total lm ce cross entropy model language modeling all overall reduced binary multi softmax",
            "avg average mean running smooth smoothed ema moving epoch",
        )
    )
    for word in names.split()
}
"""Words that leave a loss the loss, with what they add to its precedence."""
_OF_COST = frozenset(
    _words(
        "ctc rnnt transducer att attention crf hmm mle nce sgns kl hinge logistic mse mae l1 l2 rmse huber sequence seq"
    )
    + _words("label recon reconstruction ranking contrastive triplet energy alignment cluster training objective ce")
    + [*_PLAIN]
)
"""Words beside which a cost is that of a model, rather than one of time, memory or money."""


def _split_of_unit(unit: re.Match[str]) -> str:
    """Nothing for a unit in brackets; the word for the name of a split, as in `loss (train)`."""
    word = unit[0].strip("() ")
    return f" {word} " if word.lower() in _SPLITS else " "


def words(name: str) -> list[str]:
    """The English words of a name, in small letters, without a unit in brackets."""
    return [
        part
        for word in _WORD.findall(in_english(_UNIT.sub(_split_of_unit, name[:120])))
        for part in _ABBREVIATIONS.get(word.lower(), (word.lower(),))
    ]


def split_of(word: str) -> str:
    """`train` or `eval` for a word that says one of them; else nothing."""
    return _SPLITS.get(word, "")


def words_beside_split(name: str) -> list[str]:
    """The words of a name that say something other than train or eval."""
    return [word for word in words(name) if word not in _SPLITS]


@lru_cache(4096)
def meaning(name: str) -> Meaning:
    """What a name means; see `Meaning`. Of a path (`at/update`) the last part may say it, where the whole does not."""
    if name == "train/n_updates":
        return Meaning(Role.OTHER, "train")  # those done so far
    whole = _meaning(name)
    if (
        "/" not in name
        or whole.role not in (Role.OTHER, Role.LOSS)
        or (whole.role is Role.LOSS and whole.precedence < PART)
    ):
        return whole
    group, _, leaf = name.rpartition("/")
    last, around = _meaning(leaf), set(words(group)) - _SPLITS.keys()
    if leaf.lower() in _UNITS and (of := _meaning(group)).role is Role.LOSS:
        return of
    if group == "time" and not _OF_AGENTS.isdisjoint(words(leaf)):
        around = set()
    if len(leaf) > 1 and last.role in (Role.STEP, Role.TOTAL, Role.EPOCH, Role.EPOCHS) and not around & _MEASURES:
        return Meaning(last.role, whole.split, last.precedence + 1)
    plain = whole.split == "eval" or around <= _GROUPS or "total" in words(leaf)
    if last.role is Role.LOSS and last.precedence < PART and plain:
        return Meaning(Role.LOSS, whole.split, 5)  # perhaps of one of several sets: `valid/dev-clean/loss`
    return whole


def is_objective(name: str) -> bool:
    """Whether a name is an error that a program of regression minimizes (`train-rmse`, `valid_1's l2`)."""
    return _OBJECTIVE.search(name.lower()) is not None


@lru_cache(1024)
def is_done_or_planned(name: str) -> bool:
    """Whether a count is of what has been done in a record, and of what is planned elsewhere (`total_timesteps`)."""
    return tuple(words(name)) in _DONE_OR_PLANNED


@lru_cache(1024)
def is_global_step(name: str) -> bool:
    """Whether a step is counted through the epochs, as its name says (`global_step`, `num_updates`)."""
    return words(name) in (["global", "step"], ["num", "updates"], ["global", "iter"], ["global", "batch"])


def is_of_run(name: str) -> bool:
    """Whether a number of steps is that of the whole run, rather than of a part such as `sampler/num_steps`."""
    group = name.rpartition("/")[0]
    return not group or set(words(group)) <= _OF_RUN


@lru_cache(1024)
def is_symbol(name: str) -> bool:
    """Whether a name is the letter that a loss has in formulas, perhaps with a split: `L`, `J`, `L_val`."""
    if len(name) > 20 or not {"L", "J", "\u2112", "\U0001d4db", "\U0001d4d9", "\U0001d43f"} & set(name):
        return False
    spelled = _WORD.findall(unicodedata.normalize("NFKC", _UNIT.sub(_split_of_unit, name)))
    return [word for word in spelled if word.lower() not in _SPLITS] in (["L"], ["J"])


def is_split(name: str) -> bool:
    """Whether a name is that of a split alone, as in `learn: 0.61  test: 0.64`."""
    return bool(spelled := words(name)) and all(word in _SPLITS for word in spelled)


def _meaning(name: str) -> Meaning:
    spelled = words(name)
    split = next((_SPLITS[word] for word in spelled if word in _SPLITS and _SPLITS[word] == "eval"), "")
    split = split or next((_SPLITS[word] for word in spelled if word in _SPLITS), "")
    rest = list(dict.fromkeys(word for word in spelled if word not in _SPLITS))
    role = _count_or_time(tuple(rest), split)
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


def _count_or_time(rest: tuple[str, ...], split: str) -> tuple[Role, int] | None:
    if rest in _STEPS:
        return Role.STEP, _STEPS.index(rest)
    if rest in _COUNTS_AND_TIMES and not (split == "eval" and _COUNTS_AND_TIMES[rest] in _OF_THE_RUN):
        return _COUNTS_AND_TIMES[rest], 0
    if rest[:1] == ("round",):
        return None  # `round number`: of one, rather than of all of them
    return _plan(set(rest))


def _plan(rest: set[str]) -> tuple[Role, int] | None:
    """Whether words say how many steps or epochs the run will take."""
    plans = _PLANS & rest
    if not plans:
        return (Role.TOTAL, 0) if rest in _PLANS_IN_FULL else None
    counted = rest - _PLANS - _BESIDE_PLANS
    if counted and counted <= _ONE_STEP and plans <= _NUMBERS and not rest & {"of"}:
        return Role.STEP, len(_STEPS)  # `step number`
    if len(counted) != 1 or ("batches" in counted and not {"total", "max", "planned"} & plans):
        return None  # such as the number of batches of an epoch
    if counted <= _OF_STEPS:
        return Role.TOTAL, 0
    one = counted == {"epoch"} and not plans <= _NUMBERS | {"target"}
    return (Role.EPOCHS, 0) if counted <= _OF_EPOCHS or one else None


def _loss(rest: list[str], split: str) -> Meaning | None:
    others = [word for word in rest if word not in _LOSSES and not ("per" in rest and word in _UNITS)]
    entropy = "entropy" in rest and "cross" in rest
    if not {*_LOSSES, "cost", "criterion"} & set(rest) and not entropy and rest != ["ce"]:
        return None
    if not _LOSSES & set(rest) and (one := {"cost", "criterion"} & set(rest)):
        others = [word for word in others if word not in one]
        if _PLAIN.keys() >= set(others):
            return Meaning(Role.LOSS, split, 2)
        return Meaning(Role.LOSS, split, PART) if set(others) <= _OF_COST else None
    if _NOT_LOSS & set(others):
        return None
    term = ("value" in others and rest[-1] != "value") or (
        "entropy" in others and not entropy
    )  # of reinforcement learning
    if term or not all(word in _PLAIN or word.isdecimal() for word in others):
        return Meaning(Role.LOSS, split, PART)
    precedence = (
        (split == "train")
        + sum(_PLAIN.get(word, 1) for word in others)
        + (not {"loss", "losses"} & set(rest))
        + ("nll" in rest)
    )
    return Meaning(Role.LOSS, split, min(PART - 1, precedence))
