"""The likelihood bound of a text under a model: disjoint windows, no unmasked prompt, every character counted."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from tdiff.core.diffusion.objective import Likelihood, likelihood
from tdiff.core.evaluation.corpora import PARTS, corpus_of, part_ids, part_labels
from tdiff.core.memory import Portions
from tdiff.core.models.base import LoadedModel, Model
from tdiff.core.packing import PaddedRows, padded
from tdiff.core.shared import Shared, is_own
from tdiff.errors import TdiffError

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
    shared: Shared | None = None,
) -> Score:
    """The likelihood bound of `model` on the text of `sources`, or on the corpus that the model was trained on.

    `part` is all, train (the first nine tenths), tuning (the end of train that `data.held_out` can hold out) or val
    (the last tenth); by default all of `sources`, or the held-out part of the model's corpus. `draws` masks are sampled
    for each window; None: 4, or more for a text of few windows, so that its interval is meaningful. `progress` receives
    the number of windows masked so far and of all. Processes that have the work `shared` mask a part of them each.
    Raises TdiffError if the corpus is not available.
    """
    if part is not None and part not in PARTS:
        raise TdiffError(f"--split takes {', '.join(PARTS)}; got {part!r}")
    if draws is not None and draws < 1:
        raise TdiffError(f"--draws must be at least 1; got {draws}")
    part = part or ("all" if sources else {"tenth": "val", "tuning": "tuning"}[model.origin.held_out])
    begin = time.perf_counter()
    corpus = corpus_of(model, sources, text_field, f" --split {part}")
    ids = part_ids(model, corpus, part)
    labels = part_labels(model, corpus, part)
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
        shared=shared,
    )
    return replace(result, seconds=time.perf_counter() - begin)


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
    shared: Shared | None = None,
) -> Score:
    """The likelihood bound of `ids` (L,) in disjoint windows, of which the last may be shorter. Each of several texts
    begins a new window.

    `lengths` (V,) are the characters of each token. Unknown tokens are visible to the model, but neither scored nor
    counted in the characters. `labels` are the classes of several texts, as conditioning. If `draws` for each window
    make fewer than `least` for all full windows (or for the last, shorter one), more masks are sampled.
    """
    begin = time.perf_counter()
    parts = list(_parts(network, ids, draws, least, labels))
    if not parts:
        raise TdiffError("the text has no token that the model can score")
    nats, tokens, chars, variance, done = 0.0, 0, 0, 0.0, 0
    total = sum(len(part.rows) * part.draws for part in parts)
    for part in parts:

        def report(masked: int, before: int = done) -> None:
            if progress:
                progress(before + masked, total)

        rows, maskable = part.rows.to(network.device), part.maskable.to(network.device)
        if network.spec.causal:
            result = exactly(network, rows, maskable, progress=report, shared=shared)
        else:
            result = likelihood(
                network,
                rows,
                maskable,
                draws=part.draws,
                seed=seed,
                progress=report,
                conditioning=part.conditioning,
                shared=shared,
            )
        nats, tokens, done = nats + float(result.nats.sum()), tokens + result.tokens, done + len(rows) * part.draws
        chars += int(lengths[part.rows[part.maskable]].sum())
        variance += ((result.interval_95[1] - result.nats_per_token) * result.tokens) ** 2
    mean, half = nats / tokens, math.sqrt(variance) / tokens
    return Score(
        nats_per_token=mean,
        nats_per_char=nats / chars,
        bits_per_char=nats / chars / math.log(2),
        interval_95=(mean - half, mean + half),
        tokens=tokens,
        draws=parts[0].draws,
        seconds=time.perf_counter() - begin,
    )


class _Part(NamedTuple):
    """Windows of one length that are scored together, each with a maskable position."""

    rows: Tensor
    """(n, L) int64, on the CPU."""
    maskable: Tensor
    """(n, L) bool, on the CPU."""
    conditioning: dict[str, Tensor]
    """See `Conditioning`; on the device of the network."""
    draws: int
    """Mask samples of each window."""


def _parts(
    network: Model, ids: Tensor | Sequence[Tensor], draws: int, least: int, labels: Sequence[int] | None
) -> Iterator[_Part]:
    """The windows of `ids` to score; the arguments are those of `score`."""
    special, device = torch.tensor(network.spec.unscored, dtype=torch.int64), network.device
    for rows, real, text in _windows(ids, network.spec.context, network.spec.mask_id):
        maskable = network.spec.scorable(~torch.isin(rows, special) & real)
        scored = maskable.any(1)
        if bool(scored.any()):
            repeat = 1 if network.spec.causal else max(draws, math.ceil(least / int(scored.sum())))
            conditioning = {} if isinstance(ids, Tensor) else {"attention": real[scored].to(device)}
            if labels is not None:
                conditioning["label"] = torch.tensor(labels)[text[scored]].to(device)
            yield _Part(rows[scored], maskable[scored], conditioning, repeat)


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
    network: Model,
    tokens: Tensor,
    scored: Tensor,
    *,
    progress: Callable[[int], None] | None = None,
    shared: Shared | None = None,
) -> Likelihood:
    """The likelihood of `tokens` (n, L) under a causal model. It is exact, so its interval is a point."""
    nats = torch.zeros(len(tokens), dtype=torch.float64)
    at_once = max(1, LOGITS // (tokens.size(1) * network.spec.vocab_size))
    portions = Portions(tokens.device.type, f"a window of {tokens.size(1):,} tokens")

    def score_rows(rows: Sequence[int]) -> None:
        batch = slice(rows[0], rows[-1] + 1)
        log_p = network.log_likelihood(tokens[batch], scored[batch])
        assert log_p is not None, "a causal model has an exact likelihood"
        nats[batch] = -log_p.sum(1).cpu().double()
        if progress:
            progress(batch.stop)

    for start in range(0, len(tokens), at_once):
        if is_own(start // at_once, shared):
            deque(portions(range(start, min(start + at_once, len(tokens))), score_rows), maxlen=0)
    nats = nats if shared is None else shared.total(nats)
    count = int(scored.sum())
    mean = float(nats.sum()) / max(1, count)
    return Likelihood(nats, count, mean, (mean, mean), 1)
