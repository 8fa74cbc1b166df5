"""Decoding and training speed, and where the time goes: `make bench`.

Each table is measured in one run on random weights (speed does not depend on their values). "selection" is proposing
tokens and choosing positions; "rest" is everything else in the loop; the engine's share is the sum of both. In training
"forward" is the model alone; masks, the loss, clipping and the average of the weights are in "rest".
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.diffusion import decoders
from tdiff.core.diffusion import denoise as loop
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.core.training.state import TrainState
from tdiff.corpus.corpus import Corpus
from tdiff.runs import run
from tests.support.models import StubModel

VOCABULARY = 66


class Stopwatch:
    """Sums the time spent in functions that are replaced by timed versions."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.wait()
            started = time.perf_counter()
            result = function(*args, **options)
            self.wait()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            return result

        return call

    def total(self, function: Callable[[], Any]) -> tuple[Any, float]:
        self.seconds.clear()
        self.wait()
        started = time.perf_counter()
        result = function()
        self.wait()
        return result, time.perf_counter() - started


def network(preset: str, device: str) -> Transformer:
    model = PRESETS[preset]["model"]
    shape = Shape(vocab_size=VOCABULARY, mask_id=VOCABULARY - 1, suppressed=(VOCABULARY - 1,), **model)
    made = Transformer(shape)
    made.initialise(torch.Generator().manual_seed(0))
    # A new head is zero, unlike a trained one: random weights let a few positions pass the threshold.
    torch.nn.init.normal_(made.output_head.weight, std=0.25, generator=torch.Generator().manual_seed(1))
    return made.requires_grad_(False).eval().to(device)


class Timed(StubModel):
    """A model whose calls are timed."""

    def __init__(self, inner: Transformer, watch: Stopwatch) -> None:
        self.mask_id = inner.spec.mask_id
        self.call = watch.timed("model", inner)

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


@contextmanager
def selection_timed(watch: Stopwatch, name: str) -> Iterator[None]:
    rule = decoders.DECODERS[name]
    timed = dataclasses.replace(rule, commit=watch.timed("selection", rule.commit))
    with (
        mock.patch.dict(decoders.DECODERS, {name: timed}),
        mock.patch.object(loop, "propose", watch.timed("selection", loop.propose)),
    ):
        yield


def decoding(preset: str, device: str, batches: list[int], calls: int) -> None:
    model, watch = network(preset, device), Stopwatch(device)
    window = model.spec.context
    settings = DecodeSettings(decoder="confidence", threshold=0.7, steps=calls)
    print(f"\ndecoding, {preset}, {window} positions, confidence >= 0.7, {calls} calls")
    print(f"{'batch':>6} {'tokens/s':>10} {'ms a call':>10} {'model':>8} {'selection':>10} {'rest':>8} {'engine':>10}")
    for batch in batches:
        canvas = torch.full((batch, window), model.spec.mask_id, device=device)
        denoiser = Timed(model, watch)

        def once(canvas: torch.Tensor = canvas, denoiser: Timed = denoiser) -> loop.Step:
            return deque(loop.denoise(denoiser, canvas, None, settings), maxlen=1).pop()

        with selection_timed(watch, "confidence"):
            watch.total(once)
            step, total = watch.total(once)
        inside, selection = watch.seconds["model"], watch.seconds["selection"]
        rest = total - inside - selection
        print(
            f"{batch:>6} {batch * window / total:>10,.0f} {1e3 * total / step.index:>10.2f} {inside / total:>8.1%} "
            f"{selection / total:>10.2%} {rest / total:>8.2%} {(selection + rest) / total:>10.2%}"
        )


def training(preset: str, device: str, batches: list[int], steps: int) -> None:
    print(f"\ntraining, {preset}, {steps} steps")
    print(f"{'batch':>6} {'tokens/s':>10} {'forward':>8} {'backward':>9} {'optimizer':>10} {'rest':>8}")
    text = "".join(chr(97 + i % 26) for i in torch.randint(0, 26, (40_000,)).tolist())
    for batch in batches:
        with tempfile.TemporaryDirectory() as folder:
            change = {"train": {"batch_size": batch, "device": device, "compile": "off"}}
            settings = Settings.of([PRESETS[preset], change])
            job = TrainState(settings, run.Run(Path(folder) / "bench"), Corpus(text, "letters"))
            watch = Stopwatch(device)
            job.network.forward = watch.timed("forward", job.network.forward)  # type: ignore[method-assign]
            for optimizer in job.optimizers:
                optimizer.step = watch.timed("optimizer", optimizer.step)  # type: ignore[method-assign]
            with mock.patch.object(torch.autograd, "backward", watch.timed("backward", torch.autograd.backward)):
                job.update(0.5)
                _, total = watch.total(lambda job=job: [job.update(0.5) for _ in range(steps)])
            parts = [watch.seconds[name] for name in ("forward", "backward", "optimizer")]
            tokens = steps * batch * settings.model.window
            print(
                f"{batch:>6} {tokens / total:>10,.0f} {parts[0] / total:>8.1%} {parts[1] / total:>9.1%} "
                f"{parts[2] / total:>10.1%} {1 - sum(parts) / total:>8.2%}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--quick", action="store_true", help="char-1m and small batches only")
    options = parser.parse_args()
    device = devices.choose(options.device)
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    threads = torch.get_num_threads()
    print(f"{time.strftime('%Y-%m-%d')}  {machine}, {threads} threads, torch {torch.__version__}")
    on_cpu = device == "cpu"
    for preset in ["char-1m"] if options.quick else ["char-1m", "char-10m"]:
        big = preset == "char-10m"
        decoding(preset, device, [1, 8] if options.quick else [1, 8, 64], (4 if big else 8) if on_cpu else 64)
        training(preset, device, [1, 8] if options.quick else [1, 8, 64], (1 if big else 2) if on_cpu else 20)


if __name__ == "__main__":
    main()
