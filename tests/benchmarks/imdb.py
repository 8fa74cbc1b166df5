"""The generative classifier on film reviews: `python -m tests.benchmarks.imdb COMMAND`.

`prepare FOLDER --texts N` writes the first N of the training reviews in a fixed random order, and the test reviews, as
JSON lines without their `<br />`. `baselines FOLDER` trains scikit-learn's naive Bayes and logistic regression on the
same reviews; with `--predictions FILE`, an output of `tdiff classify --evaluate`, they are tested on its reviews only.
`speed FOLDER --model RUN` classifies the same test reviews by `tdiff` and by text-diffusion's method: five masks of
15%, sampled separately for each class, the mean cross-entropy, one text at a time. `spread FOLDER --model RUN` measures
how much mask samples differ.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

DATA = Path(os.environ.get("TDIFF_REVIEWS", "../shared/data"))
_BREAK = re.compile(r"\s*(?:<br\s*/?>\s*)+")


def cleaned(name: str) -> list[dict[str, str]]:
    """The reviews of a file in a fixed random order, with `<br />` replaced by line breaks."""
    with gzip.open(DATA / f"imdb_{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(0).shuffle(rows)
    names = {0: "negative", 1: "positive"}
    return [{"text": _BREAK.sub("\n", row["text"]).strip(), "label": names[row["label"]]} for row in rows]


def prepare(folder: Path, texts: int) -> None:
    """Write train.jsonl and test.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", cleaned("train")[:texts]), ("test", cleaned("test"))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"{folder / name}.jsonl: {len(rows):,} reviews")


def read(folder: Path, name: str, limit: int = 0) -> tuple[list[str], list[str]]:
    """Texts and labels."""
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").split("\n") if line]
    rows = rows[:limit] if limit else rows
    return [row["text"] for row in rows], [row["label"] for row in rows]


def baselines(folder: Path, predictions: Path | None) -> None:
    """Accuracy of scikit-learn's naive Bayes and logistic regression on single words and on pairs of words."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts, labels = read(folder, "train")
    unseen, truth = read(folder, "test")
    correct = None
    if predictions is not None:
        lines = [json.loads(line) for line in predictions.read_text("utf-8").split("\n") if line]
        unseen, truth = [unseen[line["line"] - 1] for line in lines], [truth[line["line"] - 1] for line in lines]
        correct = np.array([line["likeliest"] for line in lines]) == np.array(truth)
        print(f"tdiff: {correct.mean():.1%} of {len(truth):,}")
    kinds = {
        "multinomial naive Bayes": (CountVectorizer, MultinomialNB()),
        "logistic regression": (CountVectorizer, LogisticRegression(max_iter=2000)),
        "logistic regression, tf-idf": (TfidfVectorizer, LogisticRegression(max_iter=2000)),
    }
    for pairs in (1, 2):
        for name, (counts, model) in kinds.items():
            fitted = make_pipeline(counts(ngram_range=(1, pairs)), model).fit(texts, labels)
            right = fitted.predict(unseen) == np.array(truth)
            line = f"{name}, words{' and pairs' * (pairs - 1)}: {right.mean():.1%} of {len(truth):,}"
            if correct is not None:
                gain = correct.astype(float) - right
                line += f"; tdiff is {gain.mean():+.1%} (95% +-{1.96 * gain.std() / len(gain) ** 0.5:.1%})"
            print(line, flush=True)


def their_way(classifier, ids, seed: int) -> Iterator[int]:
    """The predictions of text-diffusion's classifier: five mask samples per class, one text at a time."""
    import torch
    import torch.nn.functional as F

    from tdiff.core.models.base import Inputs

    network, window = classifier.networks[0], classifier.window
    draw = torch.Generator().manual_seed(seed)
    for text in ids:
        row = text[None, :window].to(classifier.device)
        means = []
        for label in range(len(classifier.classes)):
            losses = []
            for _ in range(5):
                masked = (torch.rand(row.shape, generator=draw) < 0.15).to(row.device)
                if not bool(masked.any()):
                    continue
                with torch.inference_mode(), torch.autocast(classifier.device, torch.bfloat16, classifier.bfloat16):
                    inputs = Inputs(
                        row.masked_fill(masked, network.spec.mask_id),
                        masked.float().mean(1),
                        masked,
                        label=torch.tensor([label], device=row.device),
                    )
                    logits = network.logits(inputs)
                losses.append(float(F.cross_entropy(logits, row[masked])))
            means.append(sum(losses) / max(1, len(losses)))
        yield min(range(len(means)), key=means.__getitem__)


def speed(folder: Path, model: str, limit: int, precision: str, confidence: float) -> None:
    """Texts per second and accuracy of both methods."""
    from tdiff.commands.classify_models import Request, load
    from tdiff.core.classification.prediction import Effort

    classifier = load(Request(models=(model,), precision=precision))
    texts, labels = read(folder, "test", limit)
    ids = [classifier.encode(text) for text in texts]
    truth = [classifier.classes.index(label) for label in labels]

    def report(name: str, said: list[int], seconds: float) -> float:
        right = sum(a == b for a, b in zip(said, truth, strict=True)) / len(truth)
        print(f"{name}: {len(truth) / seconds:.2f} texts a second, {right:.1%} right", flush=True)
        return seconds

    started = time.perf_counter()
    their_seconds = report(
        "text-diffusion's method", list(their_way(classifier, ids, 0)), time.perf_counter() - started
    )
    for draws in (1, 2, 4, 32):
        started = time.perf_counter()
        effort = Effort(draws=draws, confidence=confidence)
        said = {update.text: update.prediction for update in classifier.predict(ids, effort) if update.final}
        mean = sum(prediction.draws for prediction in said.values()) / len(said)
        name = f"tdiff, at most {draws} mask samples ({mean:.1f} on average)"
        our_seconds = report(name, [said[n].label for n in range(len(ids))], time.perf_counter() - started)
        print(f"  {their_seconds / our_seconds:.2f} times as fast")


def spread(folder: Path, model: str, limit: int, precision: str) -> None:
    """The spread of the log odds between mask samples, if both classes share the masks and if they do not."""
    import torch

    from tdiff.commands.classify_models import Request, load
    from tdiff.core.classification.prediction import Effort

    classifier = load(Request(models=(model,), precision=precision))
    ids = [classifier.encode(text) for text in read(folder, "test", limit)[0]]
    pairs = []
    for seed in range(2):
        nats = torch.zeros(len(ids), 5, 2)
        for update in classifier.predict(ids, Effort(confidence=1.0, draws=8, seed=seed)):
            nats[update.text, update.prediction.draws // 2] = (
                torch.tensor(update.prediction.nats) * update.prediction.draws
            )
        pairs.append(nats.diff(dim=1) / 2)
    first, second = pairs
    same, apart = first[..., 0] - first[..., 1], first[..., 0] - second[..., 1]
    print(f"between texts {same.mean(1).std():.1f} nats; two samples of one text {same.std(1).mean():.2f}, ")
    print(f"with separate masks for each class {apart.std(1).mean():.1f}")


def main() -> None:
    """Run the selected command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("prepare", "baselines", "speed", "spread"):
        commands.add_parser(name).add_argument("folder", type=Path)
    commands.choices["prepare"].add_argument("--texts", type=int, default=4000)
    commands.choices["baselines"].add_argument("--predictions", type=Path)
    for name in ("speed", "spread"):
        commands.choices[name].add_argument("--model", required=True)
        commands.choices[name].add_argument("--precision", default="auto")
    for name in ("speed", "spread"):
        commands.choices[name].add_argument("--limit", type=int, default=150)
    commands.choices["speed"].add_argument("--confidence", type=float, default=0.99)
    options = parser.parse_args()
    if options.command == "prepare":
        prepare(options.folder, options.texts)
    elif options.command == "baselines":
        baselines(options.folder, options.predictions)
    elif options.command == "spread":
        spread(options.folder, options.model, options.limit, options.precision)
    else:
        speed(options.folder, options.model, options.limit, options.precision, options.confidence)


if __name__ == "__main__":
    main()
