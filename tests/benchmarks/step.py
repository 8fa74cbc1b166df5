"""A training step beside its matrix products alone, and the share of evaluation and sampling in a training's time.

    python -m tests.benchmarks.step --preset char-10m --repeats 3

The products are those of one step, recorded with their shapes and layouts and computed again on random numbers, with
nothing between them; attention counts as its six products of a forward and a backward pass. Steps and products take
turns in one run, and medians are reported, on a CPU also those of the time that it computed: another program on the
machine changes these less. The share of evaluation and sampling follows from the settings (`eval_every`,
`eval_tokens`, `sample_every`) and the measured times of a step, an evaluation and a sample.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.training import reports
from tdiff.core.training.state import TrainState
from tdiff.corpus.corpus import Corpus
from tdiff.runs import run

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""The shape and the strides of an operand."""
_LISTED = 8
"""Operations of the profile."""


class Products(TorchDispatchMode):
    """Records the operands of all matrix products within it."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[Layout, Layout]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm"):
            self.pairs.append((_layout(args[0]), _layout(args[1])))
        elif name in ("addmm", "baddbmm"):
            self.pairs.append((_layout(args[1]), _layout(args[2])))
        elif "scaled_dot_product" in name:
            backward = "backward" in name
            query, key = args[1 if backward else 0], args[2 if backward else 1]
            batch, length, others, width = query[..., 0, 0].numel(), query.size(-2), key.size(-2), query.size(-1)
            scores, mixed = (
                ((batch, length, width), (batch, width, others)),
                ((batch, length, others), (batch, others, width)),
            )
            # Forward: scores and values. Backward: gradients of probabilities, values, queries and keys.
            for left, right in (scores, mixed, mixed, mixed) if backward else (scores, mixed):
                self.pairs.append(
                    (_layout(torch.empty(left, device="meta")), _layout(torch.empty(right, device="meta")))
                )
        return func(*args, **(kwargs or {}))

    def again(self, device: str) -> Callable[[], None]:
        """A function that computes the recorded products on random numbers."""
        operands: dict[Layout, Tensor] = {}
        calls: list[tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]] = []
        results: dict[tuple[int, ...], Tensor] = {}
        for pair in self.pairs:
            for shape, stride in pair:
                if (shape, stride) not in operands:
                    size = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
                    operands[shape, stride] = torch.randn(size, device=device).as_strided(shape, stride)
            left, right = (operands[layout] for layout in pair)
            shape = (*left.shape[:-1], right.size(-1))
            out = results.setdefault(shape, torch.full(shape, 0.0, device=device))
            calls.append((torch.mm if left.ndim == 2 else torch.bmm, left, right, out))

        def compute() -> None:
            for product, left, right, out in calls:
                product(left, right, out=out)

        return compute

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return sum(2 * torch.Size(left[0]).numel() * right[0][-1] for left, right in self.pairs)


def _layout(tensor: Tensor) -> Layout:
    return tuple(tensor.shape), tuple(tensor.stride())


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one piece of work."""

    wall: float
    cpu: float
    """Of all threads."""


def timed(work: Callable[[], Any], device: str) -> Times:
    """The seconds of one call."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wait()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def state_of(preset: str, device: str, folder: Path, compiles: str, batch_size: int) -> TrainState:
    """A run with the settings of the preset, on made-up text; `batch_size` replaces its own unless it is 0."""
    text = "".join(
        chr(97 + i % 26) for i in torch.randint(0, 26, (200_000,), generator=torch.Generator().manual_seed(0)).tolist()
    )
    change = {"device": device, "compile": compiles} | ({"batch_size": batch_size} if batch_size else {})
    settings = Settings.of([PRESETS[preset], {"train": change}])
    job_run = run.create(preset, settings, folder)
    return TrainState(settings, job_run, Corpus(text, "letters"))


def compare(state: TrainState, repeats: int) -> float:
    """Print a step and its products side by side. Returns the seconds of a step."""
    options, window = state.settings.train, state.settings.model.window

    def step() -> None:
        state.update(0.5)

    with torch.autograd.set_multithreading_enabled(False), Products() as products:  # a mode is of one thread
        step()
    again = products.again(state.device)
    pairs = [(timed(step, state.device), timed(again, state.device)) for _ in range(repeats)]
    whole, alone = (median(times.wall for times in column) for column in zip(*pairs, strict=True))
    tokens = options.batch_size * window
    print(f"a step of {options.batch_size} x {window}: {1e3 * whole:,.0f} ms, {tokens / whole:,.0f} tokens/s")
    print(
        f"its {len(products.pairs)} matrix products alone: {1e3 * alone:,.0f} ms, "
        f"{products.operations / alone / 1e9:,.0f} GFLOP/s; the step takes {whole / alone:.2f} times as long"
    )
    if state.device == "cpu":
        of_step, of_products = (median(times.cpu for times in column) for column in zip(*pairs, strict=True))
        print(f"CPU time: {of_step:,.1f} s and {of_products:,.1f} s, {of_step / of_products:.2f} times as much")
    return whole


def profile(state: TrainState) -> None:
    """Print the operations that take most of a step's time."""
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, *([activity.CUDA] if state.device == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as measured:
        state.update(0.5)
    name = "self_device_time_total" if state.device == "cuda" else "self_cpu_time_total"
    rows = sorted(((getattr(row, name), row.key) for row in measured.key_averages()), reverse=True)
    total = sum(seconds for seconds, _ in rows)
    print("  " + ", ".join(f"{key.removeprefix('aten::')} {seconds / total:.1%}" for seconds, key in rows[:_LISTED]))


def share(state: TrainState, step: float, repeats: int) -> None:
    """Print the part of the training's time that evaluation and sampling take at the preset's settings."""
    options = state.settings.train

    def evaluation() -> None:
        assert list(reports.evaluate(state, options.eval_tokens))

    def sample() -> None:
        assert list(reports.sample(state))

    costs = {}
    for name, every, work in (("evaluation", options.eval_every, evaluation), ("sample", options.sample_every, sample)):
        seconds = median(timed(work, state.device).wall for _ in range(repeats))
        costs[name] = seconds / every / step if every else 0.0
        print(f"{name:>10}: {1e3 * seconds:,.0f} ms every {every:,} steps, {costs[name]:.2%} of the steps' time")
    total = sum(costs.values())
    print(f"  together: {total / (1 + total):.2%} of the time of training")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", choices=[name for name in PRESETS if name != "finetune"])
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", default="off", choices=("auto", "on", "off"), help="off: each product is seen")
    parser.add_argument("--batch-size", type=int, default=0, help="rows of a step, instead of the preset's")
    parser.add_argument("--no-share", action="store_true", help="leave out evaluation and sampling")
    parser.add_argument("--profile", action="store_true", help="also list the operations that take most of a step")
    options = parser.parse_args()
    device = devices.choose(options.device)
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    print(f"{time.strftime('%Y-%m-%d')}  {machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for preset in options.preset or ["char-1m", "char-10m"]:
        with tempfile.TemporaryDirectory() as folder:
            state = state_of(preset, device, Path(folder), options.compile, options.batch_size)
            print(f"\n{preset}")
            step = compare(state, options.repeats)
            if options.profile:
                profile(state)
            if not options.no_share:
                share(state, step, options.repeats)


if __name__ == "__main__":
    main()
