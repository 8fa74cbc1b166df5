"""Records of a tdiff run, and the state of a run that has read them."""

import itertools
import json
import math
import platform
import random

from tdiff.protocol.events import (
    Alert,
    End,
    Eval,
    Resume,
    Sample,
    Start,
    Train,
    Verdicts,
    to_line,
)
from tdiff.protocol.trace import TraceStep
from tests.support.fed import FedState

HERE = platform.node()


STARTED = 1.7e9


def train(step: int, loss: float = 2.0, time: float | None = None, **others) -> Train:
    values = {
        "time": STARTED + 10 * step if time is None else time,
        "step": step,
        "tokens": 100 * step,
        "loss": loss,
        "loss_by_mask": [],
        "lr": 0.1,
        "grad_norm": 1.0,
        "tokens_per_second": 5.0,
        "progress": 0.5,
        "eta": 90.0,
    }
    return Train(**values | others)


def start(pid: int = 1, host: str = "elsewhere", **others) -> Start:
    values = {
        "time": STARTED,
        "run": "r",
        "version": "0",
        "settings": {},
        "corpus": "text",
        "tokens": 9,
        "vocabulary": 5,
        "parameters": 7,
        "device": "cpu",
        "threads": 1,
        "pid": pid,
        "host": host,
    }
    return Start(**values | others)


def eval_at(step: int, loss: float) -> Eval:
    time = STARTED + 10 * step + 1
    return Eval(time=time, step=step, nats_per_token=loss, nats_per_char=loss, interval_95=(loss, loss), tokens=9)


def verdicts(step: int, accuracy: float = 0.85) -> Verdicts:
    figures = {"texts": 200, "accuracy": accuracy, "interval_95": (0.8, 0.9), "ece": 0.03, "temperature": 1.5}
    return Verdicts(time=STARTED + 10 * step + 2, step=step, **figures)


def sample(step: int, text: str = "text") -> Sample:
    return Sample(time=STARTED + 10 * step + 2, step=step, prompt="p", text=text, path="samples/x.jsonl")


def resume(step: int, time: float = STARTED + 5000, pid: int = 2, host: str = "elsewhere") -> Resume:
    return Resume(time=time, step=step, pid=pid, host=host)


def end(step: int, reason="finished") -> End:
    return End(time=STARTED + 10 * step + 3, step=step, reason=reason)


def run_of(*records) -> FedState:
    run = FedState("fed")
    run.feed([line if isinstance(line, str) else to_line(line).rstrip("\n") for line in records])
    return run


def known(run: FedState) -> dict:
    """Everything that a run state shows."""
    series = {**run.metrics, "\nclock": run.clock, "\ntokens": run.tokens}
    return {
        "series": {
            name: (list(one.steps), list(one.mean), list(one.low), list(one.high), list(one.broken), one.last, one.best)
            for name, one in series.items()
        },
        "log": list(run.log),
        "plain": (
            *(run.format, run.start, run.ended, run.checkpoint, run.evaluation, run.step, run.total),
            *(run.progress, run.eta, run.samples, run.trace, run.alerts, run.last_time, run.doing),
            *(run.logged, run.timing.gap, run.resets, run.state(STARTED)),
        ),
    }


# Independence of how lines are split


def mixed(draw: random.Random) -> list[str]:
    """Lines of a random format, some of them damaged."""
    kind = draw.choice(["tdiff", "json", "csv", "trainer", "log", "trace"])
    lines: list[str] = []
    step = 0
    for _ in range(draw.randrange(60)):
        step = max(0, step + draw.choice([0, 1, 1, 2, 5, -3 if draw.random() < 0.2 else 1]))
        loss = draw.choice([2.0, draw.uniform(1, 3), math.nan if draw.random() < 0.1 else 2.5])
        if kind == "tdiff":
            record = draw.choice(
                [
                    *(train(step, loss, gpu_load=draw.choice([None, 97.0])), train(step, loss), train(step, loss)),
                    *(eval_at(step, loss), sample(step), resume(step), end(step), start()),
                    Alert(time=1e9, step=step, what="nan", text="t"),
                ]
            )
            lines.append(to_line(record).rstrip())
        elif kind == "json":
            lines.append(json.dumps({"step": step, "loss": loss, "epoch": step // 10, draw.choice("abc"): step}))
        elif kind == "csv":
            lines += [f"{step},{loss},{draw.random()}"] if lines else ["step,loss,other"]
        elif kind == "trainer":
            bar = f"  1%|    | {step}/100 [00:{step % 60:02}<00:10, 3.1it/s]"
            lines += draw.choice([[bar], [bar, f"{{'loss': {loss}, 'epoch': 0.1}}"], [f"{{'eval_loss': {loss}}}", bar]])
        elif kind == "trace":
            lines.append(to_line(TraceStep(index=step, t=0.5, calls=1, cells=[])).rstrip())
        else:
            lines.append(draw.choice(["a line", "a,b", "key=1", "", " 3/9 [00:01<00:02, 3it/s]"]))
        if draw.random() < 0.1:
            torn = draw.randrange(1, 1 + max(1, len(lines[-1])))
            lines[-1] = draw.choice([lines[-1][:torn], lines[-1] + "}", "\x1b]0;x\x07" + lines[-1], "[" * 5000])
    return lines


def cut(lines: list[str], cuts: list[int]) -> list[list[str]]:
    ends = [0, *sorted(min(n, len(lines)) for n in cuts), len(lines)]
    return [lines[begin:end] for begin, end in itertools.pairwise(ends)]


def bars(*spent: int, total: int = 500, each: int = 10) -> list[str]:
    """A Trainer that prints a dictionary at each of these seconds, `each` steps after the last."""
    lines = []
    for n, seconds in enumerate(spent, 1):
        bar = f" {n * each}/{total} [{seconds // 60:02}:{seconds % 60:02}<1:00:00, 30.00s/it]"
        lines += [bar, f"{{'loss': {3 - n / 100}, 'epoch': {n / 100}}}", bar]
    return lines


TRACEBACK = ["Traceback (most recent call last):", '  File "fit.py", line 7, in <module>', "    run()", "ValueError: 1"]
