"""The bound of a whole text under a model: disjoint windows, nothing protected, every character counted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from tdiff.core import data
from tdiff.core.checkpoint import LoadedModel
from tdiff.core.models import Transformer
from tdiff.core.objective import likelihood
from tdiff.errors import TdiffError

PARTS = ("all", "train", "val")


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
    """Masks drawn for each window."""
    seconds: float


def evaluate(
    model: LoadedModel,
    sources: list[str] | None = None,
    part: str | None = None,
    *,
    text_field: str | None = None,
    draws: int = 4,
    seed: int = 0,
) -> Score:
    """The bound of `model` on the text of `sources`, or on the model's own corpus.

    `part` is all, train (the first nine tenths) or val (the last); by default all of the text given, and val of the
    model's own corpus. Raises TdiffError where that corpus cannot be had any more.
    """
    if part is not None and part not in PARTS:
        raise TdiffError(f"--split takes {', '.join(PARTS)}; got {part!r}")
    if draws < 1:
        raise TdiffError(f"--draws must be at least 1; got {draws}")
    begun = time.perf_counter()
    corpus = data.load(sources or model.origin.sources, text_field or model.origin.text_field)
    if not sources and corpus.name != model.origin.corpus:
        raise TdiffError(
            f"{model.name} was trained on {model.origin.corpus}, which is not to be had here "
            f"({corpus.note or corpus.name}); name a text with --data"
        )
    training, held_out = corpus.split()
    text = {"all": corpus.text, "train": training, "val": held_out}[part or ("all" if sources else "val")]
    ids = model.tokenizer.encode(text, corpus.name)
    return score(model.network, ids, len(text), draws=draws, seed=seed, begun=begun)


def score(
    network: Transformer, ids: Tensor, chars: int, *, draws: int, seed: int = 0, begun: float | None = None
) -> Score:
    """The bound of `ids` (L,) in disjoint windows; a last, shorter window takes what is left.

    `chars` is the length of the text they spell; `begun` a perf_counter() from which the seconds are counted.
    """
    begun = time.perf_counter() if begun is None else begun
    window = network.shape.window
    whole = len(ids) // window * window
    nats, tokens, variance = 0.0, 0, 0.0
    special = torch.tensor([i for i in network.shape.suppressed if i != network.mask_id], dtype=torch.int64)
    for rows in (ids[:whole].view(-1, window), ids[None, whole:]):
        maskable = ~torch.isin(rows, special)
        some = maskable.any(1)
        if not bool(some.any()):
            continue
        device = network.suppress.device
        # A short text is given more draws, so that its interval means something.
        repeat = max(draws, math.ceil(64 / len(rows)))
        part = likelihood(network, rows[some].to(device), maskable[some].to(device), draws=repeat, seed=seed)
        nats, tokens = nats + float(part.nats.sum()), tokens + part.tokens
        variance += ((part.interval_95[1] - part.nats_per_token) * part.tokens) ** 2
    if not tokens:
        raise TdiffError("the text has no token that the model could be asked for")
    mean, half = nats / tokens, math.sqrt(variance) / tokens
    return Score(
        nats_per_token=mean,
        nats_per_char=nats / chars,
        bits_per_char=nats / chars / math.log(2),
        interval_95=(mean - half, mean + half),
        tokens=tokens,
        draws=draws,
        seconds=time.perf_counter() - begun,
    )
