"""A causal (autoregressive) language model of transformers, such as GPT-2: it predicts the leftmost masked position.

It sees only what comes before a position, so it generates autoregressively, one token per call.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tdiff.core.mask_indices import indices_of, select, send
from tdiff.core.models.base import Cache, Inputs, ModelSpec, suppression
from tdiff.core.models.hf.base import HFBackbone, longest_that_works
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.errors import TdiffError


class CausalCache:
    """Keys and values of the tokens that a causal model has read.

    It stores these tokens too: a call reads only what follows them, and reads a row anew whose tokens are others.
    """

    def __init__(self) -> None:
        self.keys: Any = None
        """transformers' cache; None before the first call."""
        self.tokens = torch.empty(0, 0, dtype=torch.int64)
        """(B, n) int64: the tokens read, with the begin token."""

    def extend(self, tokens: Tensor, final: Tensor) -> None:
        """Do nothing: the model reads final tokens in its next call, together with those that follow."""


class CausalLM(HFBackbone):
    """A causal model. The mask is an id after the model's vocabulary: a token that is not generated yet."""

    begin: Tensor

    def __init__(self, model: Any, tokenizer: HubTokenizer, positions: int, context: int = 0) -> None:
        """`positions` that the model has, of which one goes to its begin token if it has one; `context` limits the
        context length, 0 for the longest.

        Raises ValueError for a model that is not causal or has a shorter context, and any exception for one that does
        not return logits.
        """
        super().__init__(model)
        first = tokenizer.first_id
        self.register_buffer("suppress", suppression(len(tokenizer), tokenizer.suppressed), persistent=False)
        self.register_buffer(
            "begin", torch.tensor([] if first is None else [first], dtype=torch.int64), persistent=False
        )

        def run(length: int) -> None:
            model(input_ids=torch.zeros(1, length, dtype=torch.int64), return_dict=True)

        self.longest = longest_that_works(model, run, positions) - len(self.begin)
        self.spec = ModelSpec(
            family="causal-lm",
            vocab_size=len(tokenizer),
            mask_id=tokenizer.mask_id,
            suppressed=tokenizer.suppressed,
            context=self.longest,
            causal=True,
            predicts_first=first is not None,
        )
        self.set_context(context or self.longest)
        if looks_ahead(model):
            raise ValueError("it looks at what comes after a token, and so is not causal")
        self._caches = _caches(model)
        self._last = "logits_to_keep" in inspect.signature(model.forward).parameters

    def new_cache(self, rows: int) -> CausalCache | None:
        """Return an empty cache; None if the architecture has none that works."""
        return CausalCache() if self._caches else None

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V) float32; see `Model.logits` and `forward`. Raises ValueError for labels or positions."""
        if inputs.label is not None or inputs.positions is not None:
            raise ValueError("a causal model of transformers takes no labels or positions")
        assert cache is None or isinstance(cache, CausalCache), "a cache comes from new_cache of the same model"
        logits: Tensor = self(inputs.tokens, inputs.mask_ratio, inputs.where, cache)
        return logits

    def forward(self, tokens: Tensor, mask_ratio: Tensor, where: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Return logits (N, V) float32 at the positions where `where` (B, L) is true: in each row at most the leftmost
        masked one. `mask_ratio` (B,) and what comes after those positions have no effect.

        With a `cache` the model reads only the tokens that the cache lacks, if all rows are asked for one position that
        is the same in all of them. Raises TdiffError for other positions.
        """
        position = where.int().argmax(1)
        early = (tokens == self.spec.mask_id) & (torch.arange(tokens.size(1), device=tokens.device) < position[:, None])
        same = self._matches(cache, tokens)
        # The host waits for the device once, for everything that it must know.
        counts, at, wrong, *read = torch.stack((where.sum(1), position, early.any(1), *same)).tolist()
        asked = [row for row, count in enumerate(counts) if count]
        if any(counts[row] > 1 or wrong[row] for row in asked):
            raise TdiffError("an autoregressive model is asked for one position, the leftmost masked one")
        if len(asked) == len(tokens) and len(set(at)) == 1:
            return self._next(tokens[:, : at[0]], cache, all(read[0]) if read else False) + self.suppress
        logits = torch.empty(len(asked), self.spec.vocab_size, device=tokens.device)
        for column in {at[row] for row in asked}:
            alike = [n for n, row in enumerate(asked) if at[row] == column]
            rows = send(torch.tensor([asked[n] for n in alike]), tokens.device)
            logits[send(torch.tensor(alike), tokens.device)] = self._next(tokens[rows, :column])
        return logits + self.suppress

    def _matches(self, cache: CausalCache | None, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return (B,) int64: whether each row of `tokens` (B, L) begins with what the cache holds; () if none can."""
        if cache is None or cache.tokens.size(0) != len(tokens):
            return ()
        known = cache.tokens.size(1) - len(self.begin)
        if not 0 <= known <= tokens.size(1):
            return ()
        return ((cache.tokens[:, len(self.begin) :] == tokens[:, :known]).all(1).long(),)

    def _next(self, text: Tensor, cache: CausalCache | None = None, matches: bool = False) -> Tensor:
        """Return logits (B, V) of the token after `text` (B, n). `matches`: the text begins with what `cache` holds."""
        read = torch.cat((self.begin.expand(len(text), -1), text), 1)
        known, keys = 0, None
        if cache is not None and matches and cache.tokens.size(1) < read.size(1):
            known, keys = cache.tokens.size(1), cache.keys
        options: dict[str, Any] = {"logits_to_keep": 1} if self._last else {}
        if self._caches:
            options |= {"past_key_values": keys, "use_cache": cache is not None}
        output = self.model(input_ids=read[:, known:], return_dict=True, **options)
        if cache is not None:
            cache.keys, cache.tokens = output.past_key_values, read
        return F.pad(output.logits[:, -1].float(), (0, self.spec.vocab_size - output.logits.size(-1)))

    def log_likelihood(self, tokens: Tensor, scored: Tensor) -> Tensor:
        """Return log p (B, L) float32, in nats, of each token of `tokens` (B, L) given those before it; 0 where not
        `scored` (B, L) bool.

        It is exact, and the model's own: special tokens, which are never proposed, keep their probability. `scored`
        positions are `spec.scorable`; others may hold the mask.
        """
        mask_id = self.spec.mask_id
        read = torch.cat((self.begin.expand(len(tokens), -1), tokens.masked_fill(tokens == mask_id, 0)), 1)
        options: dict[str, Any] = {"use_cache": False} if self._caches else {}
        logits = self.model(input_ids=read, return_dict=True, **options).logits[:, :-1]
        late = tokens.size(1) - logits.size(1)
        target, where = tokens[:, late:], scored[:, late:]
        indices_of(where, len(indices_of(scored)))  # no position before them is scored
        log_p = -F.cross_entropy(select(logits, where).float(), select(target, where), reduction="none")
        return torch.zeros_like(tokens, dtype=log_p.dtype).masked_scatter(F.pad(where, (late, 0)), log_p)


@torch.inference_mode()
def looks_ahead(model: Any) -> bool:
    """Return whether the logits at a token change with what comes after it: then the model is not causal."""
    device = next(model.parameters()).device
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device) % model.config.vocab_size
    first, second = model(input_ids=tokens, return_dict=True).logits[:, :3]
    return not torch.allclose(first, second, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def _caches(model: Any) -> bool:
    """Return whether the model can continue from transformers' cache, with the same logits."""
    tokens = torch.tensor([[1, 2, 3, 4]], device=next(model.parameters()).device) % model.config.vocab_size
    expected = model(input_ids=tokens, return_dict=True).logits[:, -1]
    try:
        read = model(input_ids=tokens[:, :2], past_key_values=None, use_cache=True, return_dict=True)
        rest = model(input_ids=tokens[:, 2:], past_key_values=read.past_key_values, use_cache=True, return_dict=True)
        works = torch.allclose(rest.logits[:, -1], expected, rtol=1e-3, atol=1e-3)
        return read.past_key_values is not None and works
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError, KeyError):
        return False
