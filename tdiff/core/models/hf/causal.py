"""A causal language model of transformers (GPT-2 and its kin), asked as a Denoiser is: for the leftmost masked place.

It sees what stands before a place and nothing behind it, so that it can write from left to right alone, a token a call.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tdiff.core.mask_indices import chosen, places, sent
from tdiff.core.models.hf.base import HFBackbone, Reach, longest_that_works
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.errors import TdiffError


class CausalLM(HFBackbone):
    """A causal model as a Denoiser. The mask is an id beyond the model's own: it stands for what is not written yet."""

    suppress: Tensor
    begin: Tensor

    def __init__(self, model: Any, tokenizer: HubTokenizer, positions: int, window: int = 0) -> None:
        """`positions` that the model has, of which one goes to its token of the beginning, where it has one.

        Raises ValueError where it is not causal, or has fewer than `window` places, and any exception where it does not
        give logits.
        """
        super().__init__(model)
        first = tokenizer.first_id
        suppress = torch.zeros(len(tokenizer))
        suppress[list(tokenizer.suppressed)] = -torch.inf
        self.register_buffer("suppress", suppress, persistent=False)
        self.register_buffer(
            "begin", torch.tensor([] if first is None else [first], dtype=torch.int64), persistent=False
        )

        def ask(places: int) -> None:
            model(input_ids=torch.zeros(1, places, dtype=torch.int64), return_dict=True)

        self.sees = longest_that_works(model, ask, positions) - len(self.begin)
        self.shape = Reach(len(tokenizer), tokenizer.mask_id, tokenizer.suppressed, self.sees)
        self.see(window or self.sees)
        if looks_ahead(model):
            raise ValueError("it looks at what comes after a token, and so does not write from left to right")
        self._goes_on = _goes_on(model)
        self._last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._cache: Any = None
        self._read = torch.empty(0, 0, dtype=torch.int64)

    def forward(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        """Logits (N, V), float32, at the places `where` (B, L) is true: in each row at most one, the leftmost masked.

        Raises TdiffError for other places. What stands behind them is not seen; see `check`.
        """
        place = where.int().argmax(1)
        early = (tokens == self.mask_id) & (torch.arange(tokens.size(1), device=tokens.device) < place[:, None])
        same = self._has_read(tokens)
        # The host waits for the device once, for all that it has to know.
        counts, at, wrong, *read = torch.stack((where.sum(1), place, early.any(1), *same)).tolist()
        asked = [row for row, count in enumerate(counts) if count]
        if any(counts[row] > 1 or wrong[row] for row in asked):
            raise TdiffError("a model that writes from left to right is asked for one place, the leftmost masked")
        if len(asked) == len(tokens) and len(set(at)) == 1:
            return self._next(tokens[:, : at[0]], all(read[0]) if read else None) + self.suppress
        logits = torch.empty(len(asked), self.shape.vocab_size, device=tokens.device)
        for column in {at[row] for row in asked}:
            alike = [n for n, row in enumerate(asked) if at[row] == column]
            rows = sent(torch.tensor([asked[n] for n in alike]), tokens.device)
            logits[sent(torch.tensor(alike), tokens.device)] = self._next(tokens[rows, :column])
        return logits + self.suppress

    def _has_read(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """(B,) int64 for each row of `tokens` (B, L): whether it begins as what was read last; () where it cannot."""
        known = self._read.size(1) - len(self.begin)
        if self._read.size(0) != len(tokens) or not 0 <= known <= tokens.size(1):
            return ()
        return ((self._read[:, len(self.begin) :] == tokens[:, :known]).all(1).long(),)

    def _next(self, text: Tensor, same: bool | None = None) -> Tensor:
        """Logits (B, V) of what follows `text` (B, n), computing only what the last call has not.

        `same`: whether it begins as what was read then, of as many rows; None: that is to be found out.
        """
        read = torch.cat((self.begin.expand(len(text), -1), text), 1)
        known = self._read.size(1)
        if self._read.size(0) != len(read) or known >= read.size(1):
            same = False
        elif same is None:
            same = torch.equal(self._read, read[:, :known])
        if not (self._goes_on and same):
            self._cache, known = None, 0
        more: dict[str, Any] = {"logits_to_keep": 1} if self._last else {}
        if self._goes_on:
            more |= {"past_key_values": self._cache, "use_cache": True}
        told = self.model(input_ids=read[:, known:], return_dict=True, **more)
        if self._goes_on:
            self._cache, self._read = told.past_key_values, read
        return F.pad(told.logits[:, -1].float(), (0, self.shape.vocab_size - told.logits.size(-1)))

    def scorable(self, places: Tensor) -> Tensor:
        """(B, L) bool: those of `places` whose likelihood it tells: not the first without a token of the beginning."""
        if len(self.begin):
            return places
        return places & (torch.arange(places.size(1), device=places.device) > 0)

    def check(self, canvas: Tensor) -> None:
        """Raises TdiffError where it cannot resolve the masks of `canvas` (B, L) int64."""
        masked = canvas == self.mask_id
        if not len(self.begin) and bool(masked[:, 0].any()):
            raise TdiffError("this model has no token for the beginning of a text: give it a prompt")
        if bool((masked[:, :-1] & ~masked[:, 1:]).any()):
            raise TdiffError(
                "this model writes from left to right and cannot see what follows a gap: give it a prompt, not a "
                "template or a suffix"
            )

    def nats(self, tokens: Tensor, scored: Tensor) -> Tensor:
        """(B, L) float32: -log p of each token of `tokens` (B, L) after those before it; 0 where not `scored`.

        Exact, where a masked model has a bound, and the model's own: special tokens, which are never proposed, keep
        their probability. `scored` (B, L) bool are `scorable` places; others may hold the mask.
        """
        read = torch.cat((self.begin.expand(len(tokens), -1), tokens.masked_fill(tokens == self.mask_id, 0)), 1)
        more: dict[str, Any] = {"use_cache": False} if self._goes_on else {}
        logits = self.model(input_ids=read, return_dict=True, **more).logits[:, :-1]
        late = tokens.size(1) - logits.size(1)
        target, wanted = tokens[:, late:], scored[:, late:]
        places(wanted, len(places(scored)))  # a place before them is not scored
        nats = F.cross_entropy(chosen(logits, wanted).float(), chosen(target, wanted), reduction="none")
        return torch.zeros_like(tokens, dtype=nats.dtype).masked_scatter(F.pad(wanted, (late, 0)), nats)


@torch.inference_mode()
def looks_ahead(model: Any) -> bool:
    """Whether what a model says of a token changes with what comes after it: then it is not causal."""
    device = next(model.parameters()).device
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device) % model.config.vocab_size
    one, other = model(input_ids=tokens, return_dict=True).logits[:, :3]
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def _goes_on(model: Any) -> bool:
    """Whether it can go on from what it has read, by transformers' cache, and says the same then."""
    tokens = torch.tensor([[1, 2, 3, 4]], device=next(model.parameters()).device) % model.config.vocab_size
    whole = model(input_ids=tokens, return_dict=True).logits[:, -1]
    try:
        read = model(input_ids=tokens[:, :2], past_key_values=None, use_cache=True, return_dict=True)
        rest = model(input_ids=tokens[:, 2:], past_key_values=read.past_key_values, use_cache=True, return_dict=True)
        return read.past_key_values is not None and torch.allclose(rest.logits[:, -1], whole, rtol=1e-3, atol=1e-3)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError, KeyError):
        return False
