"""Runs on the fake device: `python -m tests.support.fake_device_runs NAME...` prints each result as a JSON line.

Each run is a generator of (case, result); a result holds `steps` and `waits`, the host's waits by source position in
all steps but the first, or `error`.
"""

from tests.support import fake_device as pretended  # before tdiff

# isort: split
import copy
import json
import random
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import _disable_current_modes

from tdiff.config.decoding import DECODERS, DecodeSettings
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings
from tdiff.core.classification.bound import BoundClassifier, portions_of
from tdiff.core.classification.prediction import Effort
from tdiff.core.diffusion.blocks import in_blocks
from tdiff.core.diffusion.denoise import denoise
from tdiff.core.diffusion.generate import narrate
from tdiff.core.diffusion.guidance import Guided
from tdiff.core.diffusion.objective import likelihood
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.origin import Origin
from tdiff.core.models.tokenizers import learn
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.core.training.meter import Meter
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.protocol.trace import TraceStep
from tdiff.runs import run as runs

VOCABULARY, WINDOW = 20, 12
TINY = {"layers": 1, "heads": 2, "width": 16, "window": WINDOW}


def network(**more) -> Transformer:
    """A small random model on the device."""
    shape = dict(vocab_size=VOCABULARY, mask_id=VOCABULARY - 1, suppressed=(VOCABULARY - 1,), **TINY) | more
    made = Transformer(Shape(**shape))
    for n, weight in enumerate(made.parameters()):
        torch.nn.init.normal_(weight, std=0.25, generator=torch.Generator().manual_seed(n))
    return made.requires_grad_(False).eval().to(pretended.NAME)


def masks(rows: int) -> torch.Tensor:
    """Canvases whose rows have different numbers of masks."""
    canvas = torch.full((rows, WINDOW), VOCABULARY - 1)
    for row in range(rows):
        canvas[row, : 2 * row] = row
    return canvas.to(pretended.NAME)


def stepped(steps) -> dict:
    """The waits of each step but the first of an iterator; work after the last step is not counted."""
    before, after, count = Counter(), Counter(), 0
    for count, _ in enumerate(steps):
        after = Counter(pretended.waits)
        before = after if count == 0 else before
    during = after - before
    return {"steps": count, "waits": {f"{kind}: {place}": n for (kind, place), n in during.items()}}


def decode():
    """Each decoder, on rows that finish at different steps."""
    plain = network()
    for name in DECODERS:
        steps = 0 if name == "autoregressive" else 5
        yield name, stepped(in_blocks(plain, masks(3), None, DecodeSettings(decoder=name, steps=steps, seed=3)))
    shapes = {
        "conv": network(conv=3, time_conditioning=True),
        "classic": network(classic=True, tied=True),
        "self-conditioning": network(self_conditioning=True),
        "classes": Guided(network(classes=2, pairs=64), 1, "b", 1.5),
    }
    for name, model in shapes.items():
        yield name, stepped(denoise(model, masks(3), None, DecodeSettings(decoder="remdm", steps=5, seed=3)))
    ways = {
        "greedy": {"temperature": 0.0},
        "block": {"block": 4, "decoder": "topk", "k": 2},  # a schedule divides rows by their number of blocks
        "top-k and top-p": {"top_k": 5, "top_p": 0.8},
        "repetition": {"repetition_penalty": 1.3, "repetition_span": 2},
        "no repeat": {"no_repeat": 2, "decoder": "topk", "k": 3},
        "margin": {"rank": "margin"},
        "rows out of step": {"decoder": "first-hitting", "steps": 12},
        "remask conf": {"decoder": "remdm", "remask": "conf", "steps": 12},
    }
    for name, how in ways.items():
        settings = DecodeSettings(**({"decoder": "confidence", "seed": 3} | how))
        yield name, stepped(in_blocks(plain, masks(3), None, settings))


def narrated():
    """A trace, as the live view reads it."""
    model = loaded(network())
    lines = (line for line in narrate(model, "ab", DecodeSettings(decoder="schedule", steps=5), length=10))
    yield "narrate", stepped(line for line in lines if isinstance(line, TraceStep))


def loaded(net) -> LoadedModel:
    """The network as a loaded model."""
    origin = Origin("tale", (), "text", 0, "linear", 4, "random", ("ab",), 1, 1)
    return LoadedModel("tale", Path(), net, learn("char", *["abcdefghijklmnopqrs"] * 2), origin)


def words(count: int, seed: int) -> str:
    """Random words from a seed."""
    draw = random.Random(seed)
    return " ".join(draw.choice(("the", "hare", "runs", "over", "hill", "lake")) for _ in range(count))


TRAININGS = {
    "plain": {},
    "adamw": {"train": {"optimizer": "adamw"}},
    "bfloat16": {"train": {"precision": "bfloat16"}},
    "accumulated": {"train": {"accumulate": 2}},
    "steps of time": {"objective": {"timesteps": 16}, "model": {"time_conditioning": True}},
    "self-conditioning and dropout": {"model": {"self_conditioning": True}, "train": {"dropout": 0.1}},
    "padded": {"data": {"rows": "padded"}},
    "classes": {
        "data": {"rows": "padded", "classes": True},
        "model": {"pairs": 64},
        "objective": {"context": 0, "contrast": 3.0},
    },
}


def training():
    """Optimizer steps and their metrics, between two records."""
    for name, layer in TRAININGS.items():
        with tempfile.TemporaryDirectory() as folder:
            yield name, stepped(_trained(Path(folder), layer))


def _job(root: Path, *layers: dict) -> TrainState:
    file = root / "tale.jsonl"
    rows = [{"text": words(8 + i % 9, i), "label": "ab"[i % 2]} for i in range(60)]
    file.write_text("\n".join(map(json.dumps, rows)))
    small = {"model": TINY, "objective": {"context": 4}, "train": {"batch_size": 4, "steps": 6, "calibrate": 4}}
    settings = Settings.of([PRESETS["char-10m"], {"data": {"sources": [str(file)]}}, small, *layers])
    label = settings.data.label_field if settings.data.classes else None
    corpus = data.load(settings.data.sources, settings.data.text_field, label_field=label)
    return TrainState(settings, runs.create("r", settings, root / "checkpoints"), corpus)


def _trained(root: Path, layer: dict):
    job = _job(root, layer)
    meter = Meter(job)
    for _ in range(4):
        meter.add(*job.update(0.5))
        yield
    record = meter.record(0.5)
    assert record.loss > 0


def whole_runs():
    """A complete run: training, evaluation, a sample, classification, saving, and resuming."""
    from tdiff.core.training.loop import train

    for name in ("plain", "padded", "classes"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            every = {"train": {"eval_every": 3, "sample_every": 3, "steps": 6, "eval_tokens": 64}}
            job = _job(root, TRAININGS[name], every)
            run = runs.create("whole", job.settings, root / "checkpoints")
            kinds = [record.kind for record in train(job.settings, run, job.corpus)]
            assert kinds[-1] == "end", kinds
            yield name, {"steps": len(kinds), "waits": {}}
            settings = Settings.of([job.settings.as_layer(), {"train": {"steps": 8}}])
            kinds = [record.kind for record in train(settings, run, job.corpus, resume=True)]
            assert kinds[-1] == "end", kinds
            yield f"{name}, resumed", {"steps": len(kinds), "waits": {}}


def bound():
    """The likelihood bound: waits for each batch of masks."""
    tokens = torch.randint(0, VOCABULARY - 1, (8, WINDOW)).to(pretended.NAME)
    done: list[int] = []

    def batches():
        pieces = iter(range(100))
        before = Counter()

        def progress(masked: int) -> None:
            if next(pieces) == 0:
                before.update(pretended.waits)
            done.append(masked)

        likelihood(
            network(), tokens, torch.ones_like(tokens, dtype=torch.bool), draws=8, batch_size=8, progress=progress
        )
        return before

    before = batches()
    during = pretended.waits - before
    yield "likelihood", {"steps": len(done) - 1, "waits": {f"{k}: {p}": n for (k, p), n in during.items()}}


def weighed():
    """Class predictions of texts."""
    net = network(classes=2, pairs=64)

    class Tokenizer:
        mask_id = VOCABULARY - 1

    classifier = BoundClassifier(
        name="x",
        classes=("a", "b"),
        priors=(0.5, 0.5),
        tokenizer=Tokenizer(),
        networks=(net,),
        portions=portions_of((net,), pretended.NAME),
        device=pretended.NAME,
    )
    texts = [torch.arange(n) % (VOCABULARY - 1) for n in (5, 12, 30)]
    looks = [look for look in classifier.predict(texts, Effort(draws=8)) if look.final]
    assert len(looks) == len(texts)
    yield "weigh", {"steps": len(looks), "waits": {}}


def _zoo(root: Path) -> dict[str, Path]:
    """Small Hugging Face models, by kind."""
    from tests.core.evaluation.test_causal_judge import make as make_causal
    from tests.support.hub_zoo import KINDS, make

    # DeBERTa computes through TorchScript, which does not know the device.
    folders = {kind: make(kind, root / kind) for kind in KINDS if kind != "deberta-v2"}
    make_causal(root / "gpt2", bos=True)
    return folders | {"gpt2": root / "gpt2"}


def families():
    """Decoding steps of Hugging Face models."""
    from tdiff.core.diffusion.generate import generate
    from tdiff.core.models.hf import backend
    from tdiff.core.models.load import load_model

    build = backend.build
    with tempfile.TemporaryDirectory() as folder:
        with _disable_current_modes():
            folders = _zoo(Path(folder))
        for kind, path in folders.items():
            built: list = []

            def keep(*given, built=built):
                built.append(build(*given))
                return copy.deepcopy(built[0])

            # transformers reads its files without the device.
            with pretended.absent(), mock.patch.object(backend, "build", keep):
                load_model(str(path))
            with mock.patch.object(backend, "build", lambda *_given, built=built: built[0]):
                model = load_model(str(path), pretended.NAME)
            settings = DecodeSettings(decoder="autoregressive" if kind == "gpt2" else "schedule", seed=1)
            yield kind, stepped(generate(model, ["the"], settings, length=10))
            yield f"{kind}, two rows", stepped(generate(model, ["the", "the"], settings, length=10))


def mps():
    """A device without float64."""
    net = network()
    for name in ("schedule", "remdm", "klass"):
        steps = 5
        yield name, stepped(in_blocks(net, masks(2), None, DecodeSettings(decoder=name, steps=steps, seed=3)))
    tokens = torch.randint(0, VOCABULARY - 1, (8, WINDOW)).to(pretended.NAME)
    likelihood(net, tokens, torch.ones_like(tokens, dtype=torch.bool), draws=8)
    yield "likelihood", {"steps": 0, "waits": {}}


def planted():
    """Deliberate faults, which must be detected."""
    tensor = torch.ones(4, device=pretended.NAME)
    for name, fault in {
        "an addition": lambda: tensor + torch.ones(4),
        "an index": lambda: torch.ones(4)[tensor.long()],
        "a scalar in a product": lambda: torch.cat((tensor, torch.ones(4))),
        "a generator": lambda: torch.rand(4, device=pretended.NAME, generator=torch.Generator()),
    }.items():
        try:
            fault()
        except pretended.Mixed as why:
            yield name, {"steps": 0, "waits": {}, "refused": str(why)}
    for name, slow in {
        "item": lambda: tensor.sum().item(),
        "tolist": lambda: tensor.tolist(),
        "a boolean index": lambda: tensor[tensor > 0],
        "nonzero": lambda: tensor.nonzero(),
        "a copy": lambda: tensor.cpu(),
        "a copy to it": lambda: torch.ones(4).to(pretended.NAME),
        "a CPU index": lambda: tensor[torch.tensor([1, 2])],
    }.items():
        pretended.waits.clear()
        slow()
        yield name, {"steps": 1, "waits": {kind: n for (kind, _), n in pretended.waits.items()}}
    pretended.waits.clear()
    torch.ones(4).pin_memory().to(pretended.NAME, non_blocking=True)
    yield "a copy from pinned memory", {"steps": 1, "waits": dict(Counter(k for k, _ in pretended.waits))}


def decode_briefly():
    """The most different decoders, on rows that finish at different steps."""
    net = network(conv=3, time_conditioning=True)
    for name in ("confidence", "klass", "remdm", "autoregressive"):
        steps = 0 if name == "autoregressive" else 5
        yield name, stepped(in_blocks(net, masks(3), None, DecodeSettings(decoder=name, steps=steps, seed=3)))
    settings = DecodeSettings(decoder="first-hitting", steps=12, seed=3)
    yield "rows out of step", stepped(in_blocks(net, masks(3), None, settings))


def training_briefly():
    """The most different training runs."""
    for name in ("plain", "classes"):
        with tempfile.TemporaryDirectory() as folder:
            yield name, stepped(_trained(Path(folder), TRAININGS[name]))


RUNS = {
    f.__name__: f
    for f in (
        decode,
        decode_briefly,
        training_briefly,
        narrated,
        training,
        whole_runs,
        bound,
        weighed,
        families,
        mps,
        planted,
    )
}


def main() -> None:
    """Print the results of the named runs."""
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        with pretended.pretended(like_mps=name == "mps"):
            try:
                for case, result in RUNS[name]():
                    print(json.dumps({"run": name, "case": case} | result), flush=True)
            except Exception as why:
                traceback.print_exc()
                error = f"{type(why).__name__}: {why}"
                print(json.dumps({"run": name, "case": "error", "steps": 0, "waits": {}, "error": error}), flush=True)


if __name__ == "__main__":
    main()
