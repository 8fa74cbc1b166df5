"""Pretrained models: `python -m tests.benchmarks.pretrained reactions|head|trainer`.

reactions  accuracy of a masked language model of chemical reactions on masked characters of twenty reactions
head       time of a training step that a head at masked positions only saves, for a vocabulary of 50,265 tokens
trainer    speed of tdiff compared with transformers' Trainer, which computes the head everywhere, on equally many rows
           of the same text and length, with mask ratios from the same distribution

`head` and `trainer` use random weights: speed does not depend on their values.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from tdiff.config.decoding import DecodeSettings
from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.diffusion.denoise import denoise
from tdiff.core.models.hf.masked import MaskedLM
from tdiff.core.models.load import load_model
from tdiff.core.training import initialize
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus
from tdiff.runs.run import Run

VOCABULARY = 50_265
SHAPES = {"distilroberta": (6, 768, 12), "roberta": (12, 768, 12), "tiny": (2, 64, 2)}
"""Layers, width, heads."""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Peak bfloat16 FLOP/s, dense, as the manufacturer states it."""
REACTIONS = (
    "CC(=O)O.OCC>>CC(=O)OCC",
    "CC(=O)O.OC>>CC(=O)OC",
    "CC(=O)Cl.Nc1ccccc1>>CC(=O)Nc1ccccc1",
    "O=C(Cl)c1ccccc1.Nc1ccccc1>>O=C(Nc1ccccc1)c1ccccc1",
    "Brc1ccccc1.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
    "COc1ccc(Br)cc1.OB(O)c1ccccc1>>COc1ccc(-c2ccccc2)cc1",
    "Cc1ccc(Br)cc1.OB(O)c1ccncc1>>Cc1ccc(-c2ccncc2)cc1",
    "COC(=O)c1ccc(O)cc1.CI>>COC(=O)c1ccc(OC)cc1",
    "Oc1ccccc1.BrCc1ccccc1>>c1ccc(COc2ccccc2)cc1",
    "CC(C)(C)OC(=O)N1CCC(CC1)C(=O)O.NCc1ccccc1>>CC(C)(C)OC(=O)N1CCC(CC1)C(=O)NCc1ccccc1",
    "CC(C)(C)OC(=O)NCCN>>NCCN",
    "CC(C)(C)OC(=O)N1CCNCC1.Fc1ccc(cc1)[N+](=O)[O-]>>CC(C)(C)OC(=O)N1CCN(CC1)c1ccc(cc1)[N+](=O)[O-]",
    "O=[N+]([O-])c1ccccc1>>Nc1ccccc1",
    "COc1ccc([N+](=O)[O-])cc1>>COc1ccc(N)cc1",
    "COC(=O)c1ccccc1>>O=C(O)c1ccccc1",
    "CCOC(=O)c1ccc(Cl)cc1>>O=C(O)c1ccc(Cl)cc1",
    "O=Cc1ccccc1>>OCc1ccccc1",
    "CC(=O)c1ccccc1>>CC(O)c1ccccc1",
    "CCN.O=C(O)c1ccccc1>>CCNC(=O)c1ccccc1",
    "C1CCNCC1.O=C(O)Cc1ccccc1>>O=C(Cc1ccccc1)N1CCCCC1",
)


def reactions(folder: Path, seed: int) -> None:
    """Print the share of masked characters that three decoders recover, and that the most frequent token would."""
    model = load_model(str(folder))
    ids = [model.tokenizer.encode(text) for text in REACTIONS]
    hidden = []
    for n, text in enumerate(ids):
        draw = torch.Generator().manual_seed(seed * 1000 + n)
        count = max(1, round(0.15 * len(text)))
        hidden.append(
            torch.zeros(len(text), dtype=torch.bool).index_fill_(
                0, torch.randperm(len(text), generator=draw)[:count], True
            )
        )
    masked = sum(int(h.sum()) for h in hidden)
    common = Counter(token for text in ids for token in text.tolist()).most_common(1)[0][0]
    print(f"{model.name}: {len(REACTIONS)} reactions, {sum(map(len, ids))} characters, {masked} masked (15%)")
    chance = sum(int((text[h] == common).sum()) for text, h in zip(ids, hidden, strict=True)) / masked
    print(f"  always {model.tokenizer.pieces[common]!r:<10}         {chance:6.1%}")
    for name in ("confidence", "schedule", "ancestral"):
        settings, right, calls = DecodeSettings(decoder=name, temperature=0.0, seed=seed), 0, 0
        for text, h in zip(ids, hidden, strict=True):
            *_, step = denoise(model.network, text.masked_fill(h, model.network.spec.mask_id)[None], settings=settings)
            right, calls = right + int((step.tokens[0] == text)[h].sum()), calls + int(step.calls[0])
        print(f"  {name:<12} {calls / len(ids):4.1f} calls  {right / masked:6.1%}")


def make(folder: Path, shape: str, positions: int) -> Path:
    """Save a RoBERTa of that shape with random weights, and a byte-level tokenizer."""
    import transformers

    layers, width, heads = SHAPES[shape]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE({token: n for n, token in enumerate([*special, *alphabet])}, [], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token="<mask>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
    ).save_pretrained(folder)
    config = transformers.RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=positions + 4,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def job_of(folder: Path, options: argparse.Namespace, scratch: Path) -> TrainState:
    """A training job that fine-tunes the model in `folder` on the source files of this project."""
    text = "\n".join(
        path.read_text("utf-8") for path in sorted(Path(__file__).resolve().parents[2].glob("tdiff/core/**/*.py"))
    )
    (scratch / "text.txt").write_text(text, "utf-8")
    settings = Settings.of(
        [
            initialize.sizes(str(folder)),
            {"data": {"sources": [str(scratch / "text.txt")]}, "model": {"window": options.window}},
            {"objective": {"context": 0}},
            {
                "train": {
                    "init": str(folder),
                    "steps": 10**6,
                    "batch_size": options.batch_size,
                    "lr": 5e-5,
                    "dropout": 0.1,
                }
            },
            {"train": {"device": options.device, "beta2": 0.999}},
        ]
    )
    return TrainState(settings, Run(scratch / "none"), corpus.load(settings.data.sources))


def step_seconds(job: TrainState, count: int) -> float:
    """Seconds of a training step: the median of `count` steps."""
    wait = torch.cuda.synchronize if job.device == "cuda" else (lambda: None)
    seconds = []
    for _ in range(count):
        wait()
        started = time.perf_counter()
        job.update(0.5)
        wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def head(options: argparse.Namespace) -> None:
    """Compare, step by step in turn, the head at masked positions only with the head everywhere."""
    with tempfile.TemporaryDirectory() as scratch:
        job = job_of(make(Path(scratch, options.shape), options.shape, options.window), options, Path(scratch))
        assert isinstance(job.network, MaskedLM)
        step_seconds(job, 1)
        narrow, wide = [], []
        for _ in range(options.pairs):
            job.network.narrow = True
            narrow.append(step_seconds(job, 1))
            job.network.narrow = False
            wide.append(step_seconds(job, 1))
        savings = [1 - a / b for a, b in zip(narrow, wide, strict=True)]
        print(f"{options.shape}, {options.batch_size} x {options.window}, vocabulary {VOCABULARY:,}, {job.device}")
        print(f"  the head at masked positions  {statistics.median(narrow):.2f} s a step")
        print(f"  the head everywhere           {statistics.median(wide):.2f} s a step")
        median, low, high = statistics.median(savings), min(savings), max(savings)
        print(f"  saved {median:.0%} ({low:.0%}..{high:.0%} of {options.pairs} pairs)")


def trainer(options: argparse.Namespace) -> None:
    """Compare `options.steps` steps of both on the same text, with AdamW at the same rate."""
    import transformers

    try:
        import accelerate  # noqa: F401  # transformers' Trainer needs it
    except ImportError:
        raise SystemExit("transformers' Trainer needs accelerate: pip install accelerate") from None
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(Path(scratch, options.shape), options.shape, options.window)
        job = job_of(folder, options, Path(scratch))
        batches = list(_batches(job, options.steps))
        memory = _memory(options.device)
        started = time.perf_counter()
        step_seconds(job, options.steps)
        ours = {"wall": time.perf_counter() - started, "memory": memory()}
        parameters = sum(p.numel() for p in job.network.parameters())
        device, bfloat16 = job.device, job.bfloat16
        del job
        model = transformers.RobertaForMaskedLM.from_pretrained(folder)
        arguments = transformers.TrainingArguments(
            output_dir=str(Path(scratch, "trainer")),
            per_device_train_batch_size=1,  # a row of the data set is a whole batch
            max_steps=options.steps,
            learning_rate=5e-5,
            bf16=bfloat16,
            use_cpu=device == "cpu",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_num_workers=0,
        )
        memory = _memory(options.device)
        their_trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=batches, data_collator=lambda rows: rows[0]
        )
        started = time.perf_counter()
        their_trainer.train()
        other = {"wall": time.perf_counter() - started, "memory": memory()}
    tokens = options.batch_size * options.window * options.steps
    flops = 6 * parameters * tokens
    peak = next((f for name, f in PEAKS.items() if device == "cuda" and name in torch.cuda.get_device_name()), None)
    report = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "steps": options.steps,
        "tdiff": {"tokens_per_second": tokens / ours["wall"], "memory_gb": ours["memory"] / 1e9},
        "trainer": {"tokens_per_second": tokens / other["wall"], "memory_gb": other["memory"] / 1e9},
        "ratio": other["wall"] / ours["wall"],
        "share_of_peak": flops / ours["wall"] / peak if peak else None,
    }
    print(json.dumps(report, indent=2))


def _batches(job: TrainState, count: int) -> Iterator[dict[str, Any]]:
    """Batches for transformers: masked tokens, and the original tokens at masked positions as labels."""
    for n in range(count):
        draw = torch.Generator().manual_seed(n)
        batch = job.data.batch(n, range(job.data.step_rows))
        tokens, maskable = batch.tokens, batch.maskable
        chance, share = (torch.rand(size, generator=draw) for size in (tokens.shape, (len(tokens), 1)))
        masked = maskable & (chance < share)
        begin, end = (part.cpu().expand(len(tokens), -1) for part in (job.network.begin, job.network.end))
        ids = torch.cat((begin, tokens.masked_fill(masked, job.network.spec.mask_id), end), 1)
        labels = torch.nn.functional.pad(tokens.masked_fill(~masked, -100), (begin.size(1), end.size(1)), value=-100)
        yield {"input_ids": ids, "labels": labels}


def _memory(device: str) -> Any:
    """A function that returns the peak memory since now, in bytes; on a CPU, that of the process since its start."""
    if devices.choose(device) == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated
    return lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run the selected measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("reactions", "head", "trainer"))
    parser.add_argument("--model", type=Path, help="reactions: the folder of rxnmapper's model")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="distilroberta")
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "reactions":
        if options.model is None:
            parser.error("reactions requires --model, the folder of rxnmapper's model")
        reactions(options.model, options.seed)
    else:
        {"head": head, "trainer": trainer}[options.what](options)


if __name__ == "__main__":
    main()
