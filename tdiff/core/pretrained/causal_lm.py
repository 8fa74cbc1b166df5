"""A causal language model of transformers (GPT-2 and its kin), asked as a Denoiser is: for the leftmost masked place.

It sees what stands before a place and nothing behind it, so that it can write from left to right alone, a token a call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.core.pretrained.hub_tokenizer import HubTokenizer
from tdiff.core.pretrained.masked_lm import Extent, practise
from tdiff.errors import TdiffError


class CausalLM(nn.Module):
    """A causal model as a Denoiser. The mask is an id beyond the model's own: it stands for what is not written yet."""

    suppress: Tensor
    begin: Tensor

    def __init__(self, model: Any, tokenizer: HubTokenizer, positions: int, window: int = 0) -> None:
        """`positions` that the model has, of which one goes to its token of the beginning, where it has one."""
        super().__init__()
        self.model = model
        first = tokenizer.first_id
        suppress = torch.zeros(len(tokenizer))
        suppress[list(tokenizer.suppressed)] = -torch.inf
        self.register_buffer("suppress", suppress, persistent=False)
        self.register_buffer(
            "begin", torch.tensor([] if first is None else [first], dtype=torch.int64), persistent=False
        )
        self._sees = positions - len(self.begin)
        self.shape = Extent(len(tokenizer), tokenizer.mask_id, tokenizer.suppressed, self._sees)
        self.see(window or self._sees)
        self._cache: Any = None
        self._read = torch.empty(0, 0, dtype=torch.int64)

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.shape.mask_id

    def see(self, window: int) -> None:
        """Be asked for so many places of text at once and no more. Raises ValueError for more than it sees."""
        if window > self._sees:
            raise ValueError(f"it sees {self._sees} places of text at once; got {window}")
        self.shape = replace(self.shape, window=window)

    def practise(self, dropout: float, checkpointing: bool) -> None:
        """Make ready to be trained: all weights may change, and every dropout there is has that rate.

        Raises ValueError where activations cannot be computed again.
        """
        practise(self, dropout, checkpointing)

    def matrices(self) -> list[nn.Parameter]:
        """The weights that decay in training: all matrices but those of embeddings."""
        tables = {id(m.weight) for m in self.model.modules() if isinstance(m, nn.Embedding)}
        return [p for p in self.parameters() if p.ndim == 2 and id(p) not in tables]

    def forward(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        """Logits (N, V), float32, at the places `where` (B, L) is true: in each row at most one, the leftmost masked.

        Raises TdiffError for other places. What stands behind them is not seen; see `check`.
        """
        asked = where.any(1)
        rows, place = tokens[asked], where[asked].int().argmax(1)
        before = torch.arange(tokens.size(1), device=tokens.device) < place[:, None]
        if bool((where.sum(1) > 1).any()) or bool(((rows == self.mask_id) & before).any()):
            raise TdiffError("a model that writes from left to right is asked for one place, the leftmost masked")
        logits = torch.empty(len(rows), self.shape.vocab_size, device=tokens.device)
        for at in set(place.tolist()):
            some = place == at
            logits[some] = self._next(rows[some, :at])
        return logits + self.suppress

    def _next(self, text: Tensor) -> Tensor:
        """Logits (B, V) of what follows `text` (B, n), computing only what the last call has not."""
        read = torch.cat((self.begin.expand(len(text), -1), text), 1)
        known = self._read.size(1)
        goes_on = self._read.size(0) == len(read) and known < read.size(1) and torch.equal(self._read, read[:, :known])
        if not goes_on:
            self._cache, known = None, 0
        told = self.model(input_ids=read[:, known:], past_key_values=self._cache, use_cache=True, return_dict=True)
        self._cache, self._read = told.past_key_values, read
        return F.pad(told.logits[:, -1].float(), (0, self.shape.vocab_size - told.logits.size(-1)))

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

        Exact, where a masked model has a bound. The first token of all is not scored where the model has no token of
        the beginning.
        """
        read = torch.cat((self.begin.expand(len(tokens), -1), tokens), 1)
        logits = self.model(input_ids=read, use_cache=False, return_dict=True).logits[:, :-1]
        late = tokens.size(1) - logits.size(1)
        target, wanted = tokens[:, late:], scored[:, late:]
        nats = F.cross_entropy(
            logits[wanted].float() + self.suppress[: logits.size(-1)], target[wanted], reduction="none"
        )
        return torch.zeros_like(tokens, dtype=nats.dtype).masked_scatter(F.pad(wanted, (late, 0)), nats)
