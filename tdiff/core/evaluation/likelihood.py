"""The likelihood bound of a text under a model: disjoint windows, no unmasked prompt, every character counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tdiff.core.diffusion.objective import Likelihood, likelihood
from tdiff.core.models.base import LoadedModel, Model
from tdiff.core.packing import PaddedRows, padded
from tdiff.corpus import corpus as data
from tdiff.corpus.named import Absent
from tdiff.errors import TdiffError, unknown

PARTS = ("all", "train", "tuning", "val")
Progress = Callable[[int, int], None]
_DRAWS = 4  # mask samples of each window, by default
LEAST_DRAWS = 64
"""Mask samples of all windows together, by default: fewer say little about their spread."""
LOGITS = 1 << 26
"""Logits in memory at once: a quarter of a gigabyte, several times."""


@dataclass(frozen=True, slots=True)
class Score:
    """The nats of a text under a model; lower is better. For a masked-diffusion model they are upper bounds."""

    nats_per_token: float
    nats_per_char: float
    bits_per_char: float
    interval_95: tuple[float, float]
    """Monte Carlo interval of nats_per_token on this text."""
    tokens: int
    draws: int
    """Mask samples of each full window: the requested number; by default more for a short text."""
    seconds: float


def evaluate(
    model: LoadedModel,
    sources: Sequence[str] = (),
    part: str | None = None,
    *,
    text_field: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Score:
    """The likelihood bound of `model` on the text of `sources`, or on the corpus that the model was trained on.

    `part` is all, train (the first nine tenths), tuning (the end of train that `data.held_out` can hold out) or val
    (the last tenth); by default all of `sources`, or the held-out part of the model's corpus. `draws` masks are sampled
    for each window; None: 4, or more for a text of few windows, so that its interval is meaningful. `progress` receives
    the number of windows masked so far and of all. Raises TdiffError if the corpus is not available.
    """
    if part is not None and part not in PARTS:
        raise TdiffError(f"--split takes {', '.join(PARTS)}; got {part!r}")
    if draws is not None and draws < 1:
        raise TdiffError(f"--draws must be at least 1; got {draws}")
    part = part or ("all" if sources else {"tenth": "val", "tuning": "tuning"}[model.origin.held_out])
    begin = time.perf_counter()
    corpus = corpus_of(model, sources, text_field, f" --split {part}")
    ids = _ids(model, corpus, part)
    labels = _labels(model, corpus, part)
    samples, least = (_DRAWS, LEAST_DRAWS) if draws is None else (draws, 1)
    result = score(
        model.network,
        ids,
        model.tokenizer.lengths,
        draws=samples,
        least=least,
        seed=seed,
        progress=progress,
        labels=labels,
    )
    return replace(result, seconds=time.perf_counter() - begin)


def _ids(model: LoadedModel, corpus: data.Corpus, part: str) -> Tensor | list[Tensor]:
    """The tokens of a part of the corpus, or of each text in it if the model was trained on one text a row."""
    if model.origin.rows == "padded":
        only = model.origin.only
        training, held_out = corpus.split_texts(only=only)
        tuning = corpus.split_texts("tuning", only)[1]
        of_class = [text for text, label in zip(corpus.texts, corpus.labels, strict=False) if only == label]
        texts = {"all": of_class or corpus.texts, "train": training, "tuning": tuning, "val": held_out}
        return [model.tokenizer.encode(text, corpus.name) for text in texts[part]]
    before, after = corpus.split()
    parts = {"all": corpus.text, "train": before, "tuning": corpus.split("tuning")[1], "val": after}
    return model.tokenizer.encode(parts[part], corpus.name)


def _labels(model: LoadedModel, corpus: data.Corpus, part: str) -> list[int] | None:
    """The classes of the texts of a part, as the model numbers them; None if the model has no classes."""
    if not model.origin.classes:
        return None
    training, held_out = corpus.split_indices()
    parts = {"train": training, "tuning": corpus.split_indices("tuning")[1], "val": held_out}
    indices = parts.get(part, range(len(corpus.texts)))
    return [number_of(model.origin.classes, corpus.labels[n]) for n in indices]


def number_of(classes: Sequence[str], label: str) -> int:
    """The number of a class. Raises TdiffError for an unknown class, and names the nearest one."""
    if label not in classes:
        raise unknown("class", label, classes)
    return classes.index(label)


def corpus_of(model: LoadedModel, sources: Sequence[str], text_field: str | None, options: str = "") -> data.Corpus:
    """The text of `sources`, or the unchanged corpus that the model was trained on.

    Raises TdiffError if it is not available; the message suggests --data with these options.
    """
    if not sources and not model.origin.sources:
        raise TdiffError(f"{model.name} does not record its training text: name a text with --data FILE{options}")
    try:
        # The labels of `sources` matter to a model with classes; those of its corpus also to a model of one class.
        labelled = model.origin.classes or (model.origin.only and not sources)
        corpus = data.load(
            tuple(sources) or model.origin.sources,
            text_field or model.origin.text_field,
            label_field=model.origin.label_field if labelled else None,
            evaluation=() if sources else model.origin.evaluation,
        )
    except Absent as absent:
        raise TdiffError(f"{absent}, or name it with --data FILE{options}") from None
    if not sources and model.origin.corpus_sha256 not in ("", corpus.sha256()):
        raise TdiffError(
            f"{corpus.name} has changed since {model.name} was trained on it, so its last tenth may contain training "
            "text; name a text with --data"
        )
    return corpus


def score(
    network: Model,
    ids: Tensor | Sequence[Tensor],
    lengths: Tensor,
    *,
    draws: int,
    least: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    labels: Sequence[int] | None = None,
) -> Score:
    """The likelihood bound of `ids` (L,) in disjoint windows, of which the last may be shorter. Each of several texts
    begins a new window.

    `lengths` (V,) are the characters of each token. Unknown tokens are visible to the model, but neither scored nor
    counted in the characters. `labels` are the classes of several texts, as conditioning. If `draws` for each window
    make fewer than `least` for all full windows (or for the last, shorter one), more masks are sampled.
    """
    begin = time.perf_counter()
    window, device = network.spec.context, network.device
    special = torch.tensor(network.spec.unscored, dtype=torch.int64)
    parts = []
    for rows, real, text in _windows(ids, window, network.spec.mask_id):
        maskable = network.spec.scorable(~torch.isin(rows, special) & real)
        scored = maskable.any(1)
        if bool(scored.any()):
            repeat = 1 if network.spec.causal else max(draws, math.ceil(least / int(scored.sum())))
            conditioning = {} if isinstance(ids, Tensor) else {"attention": real[scored].to(device)}
            if labels is not None:
                conditioning["label"] = torch.tensor(labels)[text[scored]].to(device)
            parts.append((rows[scored], maskable[scored], conditioning, repeat))
    if not parts:
        raise TdiffError("the text has no token that the model can score")
    nats, tokens, chars, variance, done = 0.0, 0, 0, 0.0, 0
    total = sum(len(rows) * repeat for rows, _, _, repeat in parts)
    for rows, maskable, conditioning, repeat in parts:

        def report(masked: int, before: int = done) -> None:
            if progress:
                progress(before + masked, total)

        if network.spec.causal:
            part = exactly(network, rows.to(device), maskable.to(device), progress=report)
        else:
            rows, maskable = rows.to(device), maskable.to(device)
            part = likelihood(
                network, rows, maskable, draws=repeat, seed=seed, progress=report, conditioning=conditioning
            )
        nats, tokens, done = nats + float(part.nats.sum()), tokens + part.tokens, done + len(rows) * repeat
        chars += int(lengths[rows[maskable].cpu()].sum())
        variance += ((part.interval_95[1] - part.nats_per_token) * part.tokens) ** 2
    mean, half = nats / tokens, math.sqrt(variance) / tokens
    return Score(
        nats_per_token=mean,
        nats_per_char=nats / chars,
        bits_per_char=nats / chars / math.log(2),
        interval_95=(mean - half, mean + half),
        tokens=tokens,
        draws=parts[0][3],
        seconds=time.perf_counter() - begin,
    )


def _windows(ids: Tensor | Sequence[Tensor], window: int, filler: int) -> Iterator[PaddedRows]:
    """Full rows of one text without padding, and its shorter last row; or padded rows of several texts."""
    if isinstance(ids, Tensor):
        end = len(ids) // window * window
        for rows in (ids[:end].view(-1, window), ids[None, end:]):
            yield PaddedRows(rows, torch.ones_like(rows, dtype=torch.bool), torch.zeros(len(rows), dtype=torch.int64))
    else:
        yield padded(ids, window, filler)


@torch.inference_mode()
def exactly(
    network: Model, tokens: Tensor, scored: Tensor, *, progress: Callable[[int], None] | None = None
) -> Likelihood:
    """The likelihood of `tokens` (n, L) under a causal model. It is exact, so its interval is a point."""
    nats = torch.zeros(len(tokens), dtype=torch.float64)
    at_once = max(1, LOGITS // (tokens.size(1) * network.spec.vocab_size))
    for start in range(0, len(tokens), at_once):
        batch = slice(start, start + at_once)
        log_p = network.log_likelihood(tokens[batch], scored[batch])
        assert log_p is not None, "a causal model has an exact likelihood"
        nats[batch] = -log_p.sum(1).cpu().double()
        if progress:
            progress(min(start + at_once, len(tokens)))
    count = int(scored.sum())
    mean = float(nats.sum()) / max(1, count)
    return Likelihood(nats, count, mean, (mean, mean), 1)
