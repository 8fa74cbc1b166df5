"""The model process: how soon it is ready, the cost of its pipe, and how much it slows a training run down.

`python -m tests.benchmarks.serving [start] [pipe] [share]`; without a name, all three. Two variants run directly after
each other as a pair, and the result is the median of the pairs' ratios. On Linux a pair is repeated if other programs
used more than 2% of the machine meanwhile.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.diffusion.generate import generate
from tdiff.core.models import tokenizers
from tdiff.core.models.load import load_model, save_model
from tdiff.core.models.origin import Origin
from tdiff.core.training.state import TrainState
from tdiff.corpus.corpus import Corpus
from tdiff.protocol.messages import Cancel, Generate, Ready, Refused
from tdiff.protocol.trace import TraceEnd, TraceStep
from tdiff.runs import run as runs
from tdiff.watch.generation.process import Child, command
from tests.benchmarks.engine import VOCABULARY, network

CALLS = 64
"""Steps of a generation, with one model call each."""
_SETTINGS: dict[str, Any] = {"decoder": "schedule", "steps": CALLS}
_TIME, _COMPUTED = "served / headless, time", "the same, CPU time"
Figures = dict[str, float]
_QUIET = 0.02
"""A pair counts if other programs use at most this share of the machine."""


def saved(folder: Path, preset: str) -> Path:
    """Save a model with random weights."""
    letters = "".join(chr(0x4E00 + i) for i in range(VOCABULARY - 1))
    tokenizer = tokenizers.learn("char", letters, letters)
    origin = Origin("", (), "text", 0, "linear", 16, "random", (), 0, 0)
    save_model(folder, network(preset, "cpu"), tokenizer, origin)
    return folder


def wait(child: Child, kind: type, pause: float = 0.005) -> float:
    """Wait for an answer of that kind. Returns its arrival time by `time.perf_counter`, in seconds."""
    while True:
        for answer in child.take():
            if isinstance(answer, kind):
                return time.perf_counter()
            if isinstance(answer, Refused):
                raise SystemExit(answer.text)
        if not child.alive:
            raise SystemExit(child.reason)
        time.sleep(pause)


def processor(pid: int) -> float:
    """CPU seconds that a process has used, on Linux; elsewhere 0."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Others:
    """The share of the machine that programs other than this one and its children use, on Linux."""

    def __init__(self, *children: int) -> None:
        self.children, self.cores = children, os.cpu_count() or 1
        self.started, self.taken = time.perf_counter(), self._taken()

    def _taken(self) -> float:
        """CPU seconds of other programs since the machine started; 0 if unknown."""
        try:
            user, nice, system, _, _, irq, softirq, stolen = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
        except OSError:
            return 0.0
        busy = sum(map(int, (user, nice, system, irq, softirq, stolen))) / os.sysconf("SC_CLK_TCK")
        return busy - time.process_time() - sum(map(processor, self.children))

    def share(self) -> float:
        """The share of all cores since this object was created."""
        return (self._taken() - self.taken) / (time.perf_counter() - self.started) / self.cores


def pairs(
    plain: Callable[[int], Figures], compared: Callable[[int], Figures], options: argparse.Namespace, *children: int
) -> None:
    """Print the median ratio of each figure of `compared` to that of `plain`; which of them runs first alternates."""
    quiet: list[Figures] = []
    noisy: list[Figures] = []
    patience = time.monotonic() + options.patience
    while len(quiet) < options.pairs and (time.monotonic() < patience or len(quiet) + len(noisy) < 3):
        others, i = Others(*children), len(quiet) + len(noisy)
        figures = {run: run(i) for run in ((plain, compared) if i % 2 else (compared, plain))}
        ratios = {name: figures[compared][name] / figures[plain][name] for name in figures[plain]}
        (quiet if others.share() < _QUIET else noisy).append(ratios)
    counted, what = (quiet, "quiet") if quiet else (noisy, "none of them quiet")
    for name in counted[0]:
        values = sorted(ratios[name] for ratios in counted)
        spread = f"half of them {values[len(counted) // 4]:.3f} to {values[-1 - len(counted) // 4]:.3f}"
        print(f"{name:<34} {statistics.median(values):7.3f}  ({len(counted)} pairs, {what}; {spread})", flush=True)


def start(folder: Path, device: str, count: int) -> None:
    """How soon a new process is ready, and how soon after that its first step arrives."""
    ready, first = [], []
    for _ in range(count):
        started = time.perf_counter()
        child = Child(command(str(folder), device))
        ready.append(wait(child, Ready) - started)
        started = time.perf_counter()
        child.send(Generate(id=1, settings=_SETTINGS))
        first.append(wait(child, TraceStep) - started)
        child.close()
    for name, times in (("ready", ready), ("its first step", first)):
        print(f"{name:<34} {statistics.median(times):7.2f} s  ({min(times):.2f} to {max(times):.2f})", flush=True)


def pipe(folder: Path, device: str, options: argparse.Namespace) -> None:
    """The time of a trace through the pipe, relative to `generate` in this process."""
    model = load_model(str(folder), devices.choose(device))
    child = Child(command(str(folder), device))
    wait(child, Ready)

    def headless(seed: int) -> Figures:
        started, computed = time.perf_counter(), time.process_time()
        step = deque(generate(model, [""], DecodeSettings(seed=seed, **_SETTINGS)), maxlen=1).pop()
        model.tokenizer.decode(step.tokens[0])
        return {_TIME: time.perf_counter() - started, _COMPUTED: time.process_time() - computed}

    def served(seed: int) -> Figures:
        started, computed = time.perf_counter(), processor(child.pid)
        child.send(Generate(id=seed, prompt="", seed=seed, settings=_SETTINGS))
        return {_TIME: wait(child, TraceEnd) - started, _COMPUTED: processor(child.pid) - computed}

    served(0)
    print(f"{'headless, ms a call':<34} {1e3 * headless(0)[_TIME] / CALLS:7.1f}", flush=True)
    pairs(headless, served, options, child.pid)
    child.close()


def train(times: str) -> None:
    """Train without end and write the time of each step; runs in a child process."""
    text = "".join(chr(97 + i % 26) for i in torch.randint(0, 26, (40_000,)).tolist())
    settings = Settings.of([PRESETS["char-1m"], {"train": {"device": "cpu", "compile": "off"}}])
    job = TrainState(settings, runs.Run(Path(times).parent / "bench"), Corpus(text, "letters"))
    with open(times, "w") as file:  # noqa: PTH123
        while True:
            job.update(0.5)
            file.write(f"{time.monotonic()} {time.process_time()}\n")
            file.flush()


def share(folder: Path, options: argparse.Namespace) -> None:
    """How much a model process that yields to others, and generates all the time, slows down a training run."""
    times = folder.parent / "times"
    trainer = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.serving", "train", "--times", str(times)], start_new_session=True
    )
    child = Child(command(str(folder), share=True))
    pids = (child.pid, trainer.pid)
    try:
        wait(child, Ready)
        while not times.exists() or times.read_text().count("\n") < 3:
            time.sleep(0.2)
        totals = {"seconds": 0.0, "computed": 0.0, "steps": 0.0}

        def spent(generating: bool) -> Figures:
            """The time of one training step."""
            started, computed, ended = time.monotonic(), processor(child.pid), 0.0
            number, idle, inside = 0, True, []
            while ended < started + options.seconds or len(inside) < 3:
                if generating and idle:
                    number, idle = number + 1, False
                    child.send(Generate(id=number, prompt="", settings=_SETTINGS))
                answers = child.take()
                totals["steps"] += sum(isinstance(answer, TraceStep) for answer in answers)
                idle = idle or any(isinstance(answer, TraceEnd) for answer in answers)
                time.sleep(0.05)
                ended = time.monotonic()
                if ended > started + options.seconds:
                    lines = [line.split() for line in times.read_text().splitlines()]
                    inside = [(float(line[0]), float(line[1])) for line in lines if float(line[0]) >= started]
            child.send(Cancel(id=number))
            if generating:
                totals["seconds"] += ended - started
                totals["computed"] += processor(child.pid) - computed
            first, last, count = inside[0], inside[-1], len(inside) - 1
            return {
                "watched / alone, time of a step": (last[0] - first[0]) / count,
                "the same, CPU time": (last[1] - first[1]) / count,
            }

        print(f"{'training alone, steps/s':<34} {1 / next(iter(spent(False).values())):7.2f}", flush=True)
        pairs(lambda _: spent(False), lambda _: spent(True), options, *pids)
        print(f"{'its share of one core':<34} {totals['computed'] / totals['seconds']:7.4f}")
        print(f"{'its steps a second':<34} {totals['steps'] / totals['seconds']:7.2f}")
    finally:
        trainer.kill()
        trainer.wait()
        child.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["start", "pipe", "share"], help="start, pipe, share")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--threads", type=int, default=0, help="threads for start and pipe; 0: torch's default")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to wait for quiet pairs, per figure")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each half of a pair for share")
    parser.add_argument("--times", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.parts == ["train"]:
        train(options.times)
    if options.threads:
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}  {platform.machine()}, {cores} cores (load {load:.1f}), "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        small, big = (saved(Path(scratch) / preset, preset) for preset in ("char-1m", "char-10m"))
        if "start" in options.parts:
            start(big, options.device, options.pairs)
        if "pipe" in options.parts:
            pipe(big, options.device, options)
        if "share" in options.parts:
            share(small, options)


if __name__ == "__main__":
    main()
