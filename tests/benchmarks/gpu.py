"""Correctness and speed on a GPU: `python -m tests.benchmarks.gpu --device cuda --out FOLDER`.

The parts are independent: an error in one does not end the others. FOLDER/report.json is rewritten after each result,
so that an interrupted run keeps its results. Comparisons with the CPU give the largest difference; timings also count
how often the host waits for the device. `--parts a,b` selects parts. `--quick` runs all of them on small models, to try
the benchmark on a CPU first.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import json
import os
import platform
import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tdiff.config.decoding import DECODERS, DecodeSettings
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.classification.bound import BoundClassifier, portions_of
from tdiff.core.classification.prediction import Effort
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.capture import capture
from tdiff.core.diffusion.denoise import denoise
from tdiff.core.diffusion.generate import generate
from tdiff.core.evaluation.likelihood import score
from tdiff.core.models.load import load_model
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.core.training import optim
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus
from tdiff.files import write_atomic
from tdiff.runs import run as runs

LEXICON = ("the", "hare", "runs", "over", "a", "hill", "and", "wolf", "sleeps", "by", "lake", "then", "sings", "slowly")
CLASSES: dict[str, Any] = {
    "data": {"classes": True, "rows": "padded"},
    "model": {"pairs": 1 << 16, "conv": 3},
    "objective": {"context": 0, "contrast": 3.0},
    "train": {"calibrate": 0},
}


class Bench:
    """The options and the results so far."""

    def __init__(self, device: str, out: Path, quick: bool, model: str) -> None:
        self.device, self.out, self.quick, self.model = device, out, quick, model
        self.cuda = device == "cuda"
        self.report: dict[str, list[dict[str, Any]]] = {}
        self.work = Path(tempfile.mkdtemp())
        self._jobs = 0

    def add(self, part: str, /, **result: Any) -> None:
        """Add a result, print it, and write the report file."""
        self.report.setdefault(part, []).append(result)
        print(part, json.dumps(result), flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomic(self.out / "report.json", json.dumps(self.report, indent=1).encode())

    def wait(self) -> None:
        """Wait until the device has finished all its work."""
        if self.cuda:
            torch.cuda.synchronize()

    @contextlib.contextmanager
    def waits(self, counts: Counter[str]) -> Iterator[None]:
        """Count the source lines where the host waits for the device, as torch's sync debug mode reports them."""
        if not self.cuda:
            yield
            return
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.update(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))

    def job(self, *layers: dict[str, Any], classes: bool = False) -> TrainState:
        """A training run of char-10m (with `quick`, of a tiny model) on random words."""
        file = self.work / ("kinds.jsonl" if classes else "tale.txt")
        if not file.exists():
            rows = [json.dumps({"text": words(30 + n % 60, n), "label": "ab"[n % 2]}) for n in range(400)]
            file.write_text("\n".join(rows if classes else [words(9, n) for n in range(4000)]))
        tiny = {"model": {"layers": 1, "heads": 2, "width": 16, "window": 32}, "train": {"batch_size": 4}}
        quiet = {"compile": "off", "eval_every": 0, "sample_every": 0, "device": self.device, "optimizer": "muon"}
        base = {"data": {"sources": [str(file)]}, "train": quiet}
        settings = Settings.of([PRESETS["char-10m"], base, *layers, tiny if self.quick else {}])
        self._jobs += 1
        run = runs.create(f"bench-{self._jobs}", settings, self.work / "checkpoints")
        label = settings.data.label_field if settings.data.classes else None
        return TrainState(
            settings, run, corpus.load(settings.data.sources, settings.data.text_field, label_field=label)
        )


def words(count: int, seed: int) -> str:
    """Random words from a seed."""
    draw = random.Random(seed)
    return " ".join(draw.choice(LEXICON) for _ in range(count))


def furthest(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest absolute difference."""
    return float((first - second).abs().max())


def machine(bench: Bench) -> None:
    """Versions, the device, and which optional modules are installed."""
    name = torch.cuda.get_device_name() if bench.cuda else platform.machine()
    optional = ("triton", "typer", "textual", "pynvml", "platformdirs", "tomli_w", "transformers")
    bench.add(
        "machine",
        torch=torch.__version__,
        device=name,
        modules={module: importlib.util.find_spec(module) is not None for module in optional},
        gpu=devices.gpu_report(bench.device),
    )


def keyed_noise(bench: Bench) -> None:
    """Whether the noise has the same bits on the device as on the CPU."""
    rows, positions = torch.arange(8)[:, None], torch.arange(256)
    on_device = noise.uniform(7, 3, 0, rows.to(bench.device), positions.to(bench.device)).cpu()
    bench.add("keyed_noise", same_bits=noise.uniform(7, 3, 0, rows, positions).equal(on_device))


def numbers(bench: Bench) -> None:
    """Differences of logits, gradients and Muon's matrices from those on the CPU."""
    on_cpu: Any = load_model(bench.model).network
    on_device = copy.deepcopy(on_cpu).to(bench.device)
    draw = torch.Generator().manual_seed(1)
    text = torch.randint(0, 65, (8, 256), generator=draw)
    where = torch.rand(8, 256, generator=draw) < 0.5
    inputs = text.masked_fill(where, on_cpu.spec.mask_id), where.float().mean(1), where
    sent = tuple(x.to(bench.device) for x in inputs)
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        with torch.inference_mode():
            first, second = on_cpu(*inputs), on_device(*sent).cpu()
        finite = ~first.isinf()
        same = float((first.argmax(-1) == second.argmax(-1)).float().mean())
        bench.add("numbers", precision=precision, logits=furthest(first[finite], second[finite]), argmax=same)
    torch.set_float32_matmul_precision("highest")
    gradients = []
    for network, arguments in ((copy.deepcopy(on_cpu), inputs), (on_device, sent)):
        network.requires_grad_(True)
        target = text.to(arguments[0].device)[arguments[2]]
        F.cross_entropy(network(*arguments), target).backward()
        gradients.append([weight.grad.cpu() for weight in network.parameters()])
    relative = [float((a - b).norm() / (a.norm() + 1e-12)) for a, b in zip(*gradients, strict=True)]
    bench.add("numbers", gradients=max(relative))
    x = torch.randn(2 if bench.quick else 6, 64 if bench.quick else 384, 256, generator=draw)
    muon = [
        furthest(optim.orthogonal(x), optim.orthogonal(x.to(bench.device), bfloat16).cpu())
        for bfloat16 in (False, True)
    ]
    bench.add("numbers", muon_float32=muon[0], muon_bfloat16=muon[1])


def decoders(bench: Bench) -> None:
    """The share of tokens that each decoder writes as on the CPU, and the host's waits per step."""
    on_cpu, on_device = load_model(bench.model), load_model(bench.model, bench.device)
    prompts, length = ["Hear me, "] * (1 if bench.quick else 4), 12 if bench.quick else 48
    for name in DECODERS:
        for temperature in (0.0, 0.7):
            settings = DecodeSettings(decoder=name, steps=4 if bench.quick else 16, temperature=temperature, seed=3)
            waits: Counter[str] = Counter()
            expected = [step.tokens for step in generate(on_cpu, prompts, settings, length=length)]
            with bench.waits(waits):
                actual = [step.tokens for step in generate(on_device, prompts, settings, length=length)]
            bench.add(
                "decoders",
                name=name,
                temperature=temperature,
                same=float((expected[-1] == actual[-1].cpu()).float().mean()),
                steps=(len(expected), len(actual)),
                waits_a_step=round(waits.total() / len(actual), 2),
                where=dict(waits.most_common(4)),
            )
    for how in ({"block": 6}, {"repetition_penalty": 1.3}, {"top_k": 5}, {"top_p": 0.8}):
        *_, step = generate(on_device, prompts, DecodeSettings(steps=8, **how), length=length)
        bench.add("decoders", how=how, left_masked=int(step.masked.sum()))


def bound(bench: Bench) -> None:
    """The likelihood bound of a text, compared with that on the CPU."""
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n" * (9 if bench.quick else 60)
    nats = []
    for device in ("cpu", bench.device):
        model = load_model(bench.model, device)
        started = time.perf_counter()
        result = score(model.network, model.tokenizer.encode(text), model.tokenizer.lengths, draws=1)
        nats.append(result.nats_per_token)
        bench.add("bound", device=device, nats=result.nats_per_token, seconds=time.perf_counter() - started)
    bench.add("bound", difference=abs(nats[0] - nats[1]))


def classifying(bench: Bench) -> None:
    """Class scores compared with those on the CPU, and texts per second."""
    vocabulary = 2000
    shape = {"layers": 2, "heads": 2, "width": 64, "window": 256, "conv": 3, "classes": 2, "pairs": 1 << 16}
    on_cpu = Transformer(Shape(vocab_size=vocabulary, mask_id=vocabulary - 1, suppressed=(vocabulary - 1,), **shape))
    on_cpu.initialise(torch.Generator().manual_seed(0))
    for name, weight in on_cpu.named_parameters():
        if name.startswith(("label", "output")):
            torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(5))
    on_cpu.requires_grad_(False).eval()

    class Tokenizer:
        mask_id = vocabulary - 1

    def classifier(device: str, bfloat16: bool = False) -> BoundClassifier:
        network = copy.deepcopy(on_cpu).to(device)
        return BoundClassifier(
            name="x",
            classes=("a", "b"),
            priors=(0.5, 0.5),
            tokenizer=Tokenizer(),
            networks=(network,),
            portions=portions_of((network,), device),
            device=device,
            bfloat16=bfloat16,
        )

    sizes = [20, 60] if bench.quick else [20, 60, 250, 300] * 64
    texts = [torch.randint(0, vocabulary - 1, (n,), generator=torch.Generator().manual_seed(n)) for n in sizes]
    nats = []
    for device in ("cpu", bench.device):
        updates = classifier(device).predict(texts[:4], Effort(draws=6))
        nats.append(sorted((update.text, update.prediction.nats) for update in updates if update.final))
    relative = [abs(a - b) / abs(a) for x, y in zip(*nats, strict=True) for a, b in zip(x[1], y[1], strict=True)]
    timed = classifier(bench.device, bench.cuda)
    bench.wait()
    started = time.perf_counter()
    list(timed.predict(texts, Effort(draws=8)))
    bench.wait()
    seconds = time.perf_counter() - started
    bench.add("classifying", most_relative=max(relative), texts_a_second=len(texts) / seconds)


def training(bench: Bench) -> None:
    """Milliseconds per step, tokens per second, waits, and whether compilation ended before the clock started."""
    compiled: dict[str, Any] = {"train": {"compile": "on"}}
    variants: dict[str, tuple[dict[str, Any], ...]] = {
        "eager": (),
        "compiled": (compiled,),
        "compiled, adamw": (compiled, {"train": {"optimizer": "adamw"}}),
        "compiled, conv 5": (compiled, {"model": {"conv": 5}}),
        "compiled, self-conditioning": (compiled, {"model": {"self_conditioning": True}}),
        "classes": (CLASSES,),
        "compiled, classes": (CLASSES, compiled),
    }
    steps = 3 if bench.quick else 200
    for name, layers in variants.items():
        if bench.quick and "," in name:  # a CPU takes a minute to compile each
            continue
        import torch._dynamo as dynamo

        dynamo.reset()
        dynamo.utils.counters.clear()
        job = bench.job(*layers, classes="classes" in name)
        started, why_not = time.perf_counter(), ""
        if job.compiled:
            why_not = job.warm_up()
        bench.wait()
        warm_up = time.perf_counter() - started
        graphs, waits = dynamo.utils.counters["stats"].get("unique_graphs", 0), Counter[str]()
        with bench.waits(waits):
            job.update(0.5)
        for _ in range(2 if bench.quick else 10):
            job.update(0.5)
        bench.wait()
        started = time.perf_counter()
        losses = [job.update(0.5)[0][0].nats.detach() for _ in range(steps)]
        bench.wait()
        seconds = (time.perf_counter() - started) / steps
        bench.add(
            "training",
            name=name,
            ms_a_step=1e3 * seconds,
            tokens_a_second=job.data.step_tokens / seconds,
            compiled=job.compiled,
            why_not=why_not,
            warm_up_seconds=warm_up,
            graphs=graphs,
            graphs_after=dynamo.utils.counters["stats"].get("unique_graphs", 0),
            waits=dict(waits),
            loss=float(torch.stack(losses[-20:]).mean()),
            memory_gib=torch.cuda.max_memory_allocated() / 2**30 if bench.cuda else None,
        )


def resume(bench: Bench) -> None:
    """How far the weights of a resumed run, and of a repeated run, differ from those of an uninterrupted run."""

    def weights(cut: int) -> torch.Tensor:
        job = bench.job({"train": {"steps": 8}})
        for step in range(8):
            if step == cut:
                job.save()
                job.load()
            job.update(0.5)
        return torch.cat([weight.detach().flatten().cpu() for weight in job.weights])

    uncut, again, resumed = weights(8), weights(8), weights(4)
    bench.add("resume", again=furthest(uncut, again), resumed=furthest(uncut, resumed))


def decoding(bench: Bench) -> None:
    """Milliseconds per decoding step at several precisions and batch sizes."""
    tiny = {"layers": 1, "heads": 2, "width": 16}
    sizes = {"window": 256, **PRESETS["char-10m"]["model"], **(tiny if bench.quick else {})}
    network = Transformer(Shape(vocab_size=66, mask_id=65, suppressed=(65,), **sizes))
    network.initialise(torch.Generator().manual_seed(0))
    torch.nn.init.normal_(network.output_head.weight, std=0.25, generator=torch.Generator().manual_seed(1))
    network.requires_grad_(False).eval().to(bench.device)
    window, steps = network.spec.context, 4 if bench.quick else 64
    for precision, captured in (("float32", False), ("tf32", False), ("bfloat16", False), ("bfloat16", True)):
        for batch in (1,) if bench.quick else (1, 8, 64):
            network.wrap_trunk(None)  # each batch size gets its own graph
            if captured:
                capture(network, bench.device)
            for decoder in ("schedule", "remdm"):
                settings = DecodeSettings(decoder=decoder, steps=steps)

                def once(
                    batch: int = batch, settings: DecodeSettings = settings, bfloat16: bool = precision == "bfloat16"
                ):
                    with torch.autocast(bench.device, torch.bfloat16, enabled=bfloat16):
                        canvas = torch.full((batch, window), 65, device=bench.device)
                        *_, step = denoise(network, canvas, None, settings)
                    bench.wait()
                    return step.index

                torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
                once()
                started = time.perf_counter()
                taken = once()
                seconds = time.perf_counter() - started
                bench.add(
                    "decoding",
                    precision=precision,
                    captured=captured,
                    batch=batch,
                    decoder=decoder,
                    ms_a_step=1e3 * seconds / taken,
                    positions_a_second=batch * window / seconds,
                )
    noise.compile_uniform(None)
    torch.set_float32_matmul_precision("highest")


PARTS: dict[str, Callable[[Bench], None]] = {
    part.__name__: part
    for part in (machine, keyed_noise, numbers, decoders, bound, classifying, training, resume, decoding)
}


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder of report.json")
    parser.add_argument("--quick", action="store_true", help="small models and few steps")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--model", default="shakespeare", help="the model that is compared with the CPU")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    bench = Bench(devices.choose(options.device), options.out, options.quick, options.model)
    os.environ["TDIFF_STATE"] = str(bench.work / "state")  # keeps these runs out of the user's index
    for name in parts:
        started = time.perf_counter()
        try:
            PARTS[name](bench)
        except Exception as error:  # the other parts still run
            traceback.print_exc()
            bench.add(name, failed=f"{type(error).__name__}: {error}"[:500])
        bench.add("seconds", part=name, seconds=round(time.perf_counter() - started, 1))


if __name__ == "__main__":
    main()
