"""Train in a forked process and kill it at a chosen moment: torch is imported once, by the parent."""

import os
import random
import signal
import sys
import traceback
from contextlib import contextmanager

from tdiff.config.settings import Settings
from tdiff.core.training.loop import train
from tdiff.corpus.corpus import Corpus
from tdiff.protocol.events import Eval, Sample, Train
from tdiff.runs import process
from tdiff.runs.run import Run

CALLS = 12_000
"""Calls of functions, of Python and of C, in about three steps of the tiny run, each with its save."""


def trained(run: Run, settings: Settings, corpus: Corpus) -> None:
    """Start or resume the run as the command does, until its end."""
    with run.locked(), process.beating(run.path):
        for _ in run.recorded(train(settings, run, corpus, resume=True)):
            pass


def killed(run: Run, settings: Settings, corpus: Corpus, seed: int) -> bool:
    """Train in a forked process that dies at a moment given by `seed`. False if the run ended before.

    The moment is a call of a function anywhere in the run, or half of a line of the log, or, for every fourth seed, a
    time, at which even a call may be cut short.
    """
    chance = random.Random(seed)
    if (child := os.fork()) == 0:
        status = 1
        try:
            if seed % 4 == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process at once
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.15))
            elif seed % 4 == 1:
                _die_within_a_line(chance.randrange(12))
            else:
                _die_at_call(chance.randrange(CALLS))
            trained(run, settings, corpus)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the training failed; seed {seed}"
    return os.WIFSIGNALED(status)


def _die_at_call(number: int) -> None:
    left = number

    def count(_frame: object, _event: str, _argument: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def _die_within_a_line(number: int) -> None:
    left = number
    whole = Run.log

    class Torn:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, line: str) -> None:
            nonlocal left
            left -= 1
            self.file.write(line if left >= 0 else line[: len(line) // 2])
            if left < 0:
                self.file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        def flush(self) -> None:
            self.file.flush()

    @contextmanager
    def log(run: Run):
        with whole(run) as file:
            yield Torn(file)

    Run.log = log


def curve(run: Run) -> list[tuple]:
    """What a reader sees of the run, without times and speeds."""
    shown = []
    for event in run.history():
        match event:
            case Train():
                shown.append(("train", event.step, event.loss, tuple(event.loss_by_mask), event.lr, event.grad_norm))
            case Eval():
                shown.append(("eval", event.step, event.nats_per_token, event.final))
            case Sample():
                shown.append(("sample", event.step, event.text))
    return shown


def without_sync(_handle: int) -> None:
    """Stands for `os.fsync`: what a process has written survives it without one, and a busy disk takes long."""
