"""The bound of a whole text under a model: disjoint windows, nothing protected, every character counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tdiff.core.diffusion.objective import Likelihood, likelihood
from tdiff.core.models.base import LoadedModel, Model
from tdiff.core.training.packing import PackedRows, padded
from tdiff.corpus import corpus as data
from tdiff.corpus.named import Absent
from tdiff.errors import TdiffError, unknown

PARTS = ("all", "train", "tuning", "val")
Progress = Callable[[int, int], None]
_DRAWS = 4  # for each window, where no number is given
LEAST_DRAWS = 64
"""For all windows together, where no number is given: fewer tell little of their own spread."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well a model codes a text; lower is better. Upper bounds, as a masked-diffusion likelihood is."""

    nats_per_token: float
    nats_per_char: float
    bits_per_char: float
    interval_95: tuple[float, float]
    """Monte Carlo interval of nats_per_token on this text."""
    tokens: int
    draws: int
    """Masks drawn for each whole window: as many as were asked for; where none were, more for a short text."""
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
    """The bound of `model` on the text of `sources`, or on the model's own corpus.

    `part` is all, train (the first nine tenths), tuning (the end of train that `data.held_out` can keep back) or val
    (the last tenth); by default all of the text given, and of the model's own corpus what it held out. `draws` masks
    are drawn for each window; None: 4, or more for a text of few windows, so that its interval means something.
    `progress` is told the windows masked so far and of how many. Raises TdiffError where a corpus cannot be had.
    """
    if part is not None and part not in PARTS:
        raise TdiffError(f"--split takes {', '.join(PARTS)}; got {part!r}")
    if draws is not None and draws < 1:
        raise TdiffError(f"--draws must be at least 1; got {draws}")
    part = part or ("all" if sources else {"tenth": "val", "tuning": "tuning"}[model.origin.held_out])
    begun = time.perf_counter()
    corpus = corpus_of(model, sources, text_field, f" --split {part}")
    ids = _ids(model, corpus, part)
    labels = _labels(model, corpus, part)
    asked, least = (_DRAWS, LEAST_DRAWS) if draws is None else (draws, 1)
    result = score(
        model.network,
        ids,
        model.tokenizer.lengths,
        draws=asked,
        least=least,
        seed=seed,
        progress=progress,
        labels=labels,
    )
    return replace(result, seconds=time.perf_counter() - begun)


def _ids(model: LoadedModel, corpus: data.Corpus, part: str) -> Tensor | list[Tensor]:
    """The tokens of a part of the corpus, or of its texts where the model was trained on rows of their own."""
    if model.origin.rows == "padded":
        only = model.origin.only
        training, held_out = corpus.split_texts(only=only)
        tuning = corpus.split_texts("tuning", only)[1]
        every = [text for text, label in zip(corpus.texts, corpus.labels, strict=False) if only == label]
        texts = {"all": every or corpus.texts, "train": training, "tuning": tuning, "val": held_out}
        return [model.tokenizer.encode(text, corpus.name) for text in texts[part]]
    before, after = corpus.split()
    whole = {"all": corpus.text, "train": before, "tuning": corpus.split("tuning")[1], "val": after}
    return model.tokenizer.encode(whole[part], corpus.name)


def _labels(model: LoadedModel, corpus: data.Corpus, part: str) -> list[int] | None:
    """The classes of the texts of a part, by their numbers in the model; None where it knows no classes."""
    if not model.origin.classes:
        return None
    training, held_out = corpus.split_places()
    places = {"train": training, "tuning": corpus.split_places("tuning")[1], "val": held_out}
    chosen = places.get(part, range(len(corpus.texts)))
    return [number_of(model.origin.classes, corpus.labels[n]) for n in chosen]


def number_of(classes: Sequence[str], label: str) -> int:
    """The number of a class. Raises TdiffError for one that the model was not trained on, naming the nearest."""
    if label not in classes:
        raise unknown("class", label, classes)
    return classes.index(label)


def corpus_of(model: LoadedModel, sources: Sequence[str], text_field: str | None, more: str = "") -> data.Corpus:
    """The text of `sources`, or the model's own corpus as it was when it was trained.

    Raises TdiffError where it cannot be had; `more` is what is to be given beside --data then.
    """
    if not sources and not model.origin.sources:
        raise TdiffError(f"{model.name} does not say what text it was trained on: give one by --data FILE{more}")
    try:
        # A text that is given is what it is; of the model's own it matters which class it was.
        labelled = model.origin.classes or (model.origin.only and not sources)
        corpus = data.load(
            tuple(sources) or model.origin.sources,
            text_field or model.origin.text_field,
            label_field=model.origin.label_field if labelled else None,
            evaluation=() if sources else model.origin.evaluation,
        )
    except Absent as absent:
        raise TdiffError(f"{absent}, or give it by --data FILE{more}") from None
    if not sources and model.origin.corpus_sha256 not in ("", corpus.sha256()):
        raise TdiffError(
            f"{corpus.name} is no longer the text {model.name} was trained on, so its last tenth may hold what "
            "the model has seen; name a text with --data"
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
    """The bound of `ids` (L,) in disjoint windows; a last, shorter window takes what is left. Of several texts, each
    begins a window of its own.

    `lengths` (V,) gives the characters of each token. Unknown tokens are seen by the model but not scored, nor are
    their characters counted. `labels` are the classes of several texts, of which the model is told. Where `draws` for
    each window are fewer than `least` for all whole windows (or for the last, shorter one), more are drawn.
    """
    begun = time.perf_counter()
    window, device = network.spec.context, network.device
    special = torch.tensor(network.spec.unscored, dtype=torch.int64)
    parts = []
    for rows, real, text in _windows(ids, window, network.spec.mask_id):
        maskable = network.spec.scorable(~torch.isin(rows, special) & real)
        some = maskable.any(1)
        if bool(some.any()):
            repeat = 1 if network.spec.causal else max(draws, math.ceil(least / int(some.sum())))
            told = {} if isinstance(ids, Tensor) else {"attention": real[some].to(device)}
            if labels is not None:
                told["label"] = torch.tensor(labels)[text[some]].to(device)
            parts.append((rows[some], maskable[some], told, repeat))
    if not parts:
        raise TdiffError("the text has no token that the model could be asked for")
    nats, tokens, chars, variance, done = 0.0, 0, 0, 0.0, 0
    every = sum(len(rows) * repeat for rows, _, _, repeat in parts)
    for rows, maskable, told, repeat in parts:

        def tell(masked: int, before: int = done) -> None:
            if progress:
                progress(before + masked, every)

        if network.spec.causal:
            part = exactly(network, rows.to(device), maskable.to(device), progress=tell)
        else:
            rows, maskable = rows.to(device), maskable.to(device)
            part = likelihood(network, rows, maskable, draws=repeat, seed=seed, progress=tell, conditioning=told)
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
        seconds=time.perf_counter() - begun,
    )


def _windows(ids: Tensor | Sequence[Tensor], window: int, filler: int) -> Iterator[PackedRows]:
    """Rows of one text without padding, and what is left of it; or of several."""
    if isinstance(ids, Tensor):
        whole = len(ids) // window * window
        for rows in (ids[:whole].view(-1, window), ids[None, whole:]):
            yield PackedRows(rows, torch.ones_like(rows, dtype=torch.bool), torch.zeros(len(rows), dtype=torch.int64))
    else:
        yield padded(ids, window, filler)


@torch.inference_mode()
def exactly(
    network: Model, tokens: Tensor, scored: Tensor, *, progress: Callable[[int], None] | None = None
) -> Likelihood:
    """The likelihood of `tokens` (n, L) under a causal model: no estimate, so its interval is a point."""
    nats = torch.zeros(len(tokens), dtype=torch.float64)
    at_once = max(1, _LOGITS // (tokens.size(1) * network.spec.vocab_size))
    for start in range(0, len(tokens), at_once):
        some = slice(start, start + at_once)
        log_p = network.log_likelihood(tokens[some], scored[some])
        assert log_p is not None, "a causal model has an exact likelihood"
        nats[some] = -log_p.sum(1).cpu().double()
        if progress:
            progress(min(start + at_once, len(tokens)))
    count = int(scored.sum())
    mean = float(nats.sum()) / max(1, count)
    return Likelihood(nats, count, mean, (mean, mean), 1)


_LOGITS = 1 << 26
"""Numbers that are held at once: a quarter of a gigabyte, several times."""
