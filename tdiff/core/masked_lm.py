"""A masked language model of transformers as a Denoiser.

What it wants around its text (`[CLS] ... [SEP]`) is put there here; who calls sees a canvas of text alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.core.hub_tokenizer import HubTokenizer

_UNSAID = 512
"""Places of a model that says nothing of how far it sees."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What may be asked of a model without knowing how it is built; see `models.Shape`."""

    vocab_size: int
    mask_id: int
    suppressed: tuple[int, ...]
    window: int
    """Places of text that it sees at once."""


class MaskedLM(nn.Module):
    """A model of transformers as a Denoiser. It is not told the time: such models were trained without."""

    suppress: Tensor
    begin: Tensor
    end: Tensor

    def __init__(self, model: Any, tokenizer: HubTokenizer) -> None:
        """Asks the model for a few tokens, to learn how far its positions reach, and whether places can be left out.

        Raises any exception where it does not give logits for them.
        """
        super().__init__()
        self.model = model
        size, device = len(tokenizer), next(model.parameters()).device
        suppress = torch.zeros(size)
        suppress[list(tokenizer.suppressed)] = -torch.inf
        for name, value in (
            ("suppress", suppress),
            ("begin", torch.tensor(tokenizer.begin, dtype=torch.int64)),
            ("end", torch.tensor(tokenizer.end, dtype=torch.int64)),
        ):
            self.register_buffer(name, value.to(device), persistent=False)
        self._narrow = False
        tokens = torch.full((2, 2), tokenizer.mask_id, device=device)
        where = torch.tensor([[True, False], [True, True]], device=device)
        with torch.inference_mode(), _positions(model, len(self.begin) + 2 + len(self.end)) as reach:
            logits = self._logits(tokens, where)
            if logits.shape != (3, size):
                raise ValueError(f"logits of shape {tuple(logits.shape)} for 3 places and {size} tokens")
            self._narrow = True
            try:
                self._narrow = torch.allclose(self._logits(tokens, where), logits, rtol=1e-3, atol=1e-3)
            except (RuntimeError, IndexError, TypeError, ValueError):
                self._narrow = False
        window = min(reach, default=_positions_of(model.config)) - len(self.begin) - len(self.end)
        if window < 1:
            raise ValueError(f"its special tokens leave {window} places for a text")
        self.shape = Extent(size, tokenizer.mask_id, tokenizer.suppressed, window)

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.shape.mask_id

    def forward(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        """Logits (N, V), float32, at the N places, row by row, where `where` (B, L) is true; L <= window."""
        return self._logits(tokens, where).float() + self.suppress

    def _logits(self, tokens: Tensor, where: Tensor) -> Tensor:
        rows = tokens.size(0)
        framed = torch.cat((self.begin.expand(rows, -1), tokens, self.end.expand(rows, -1)), 1)
        wanted = F.pad(where, (len(self.begin), len(self.end)))
        if not self._narrow:
            logits: Tensor = self.model(input_ids=framed, return_dict=True).logits[wanted]
            return logits

        def leave_out(module: nn.Module, arguments: Any, output: Any) -> Any:
            output[next(iter(output))] = output[0][wanted][None]
            return output

        # The head, much of the work where the vocabulary is large, is handed those places only, as one row.
        hook = self.model.base_model.register_forward_hook(leave_out)
        try:
            return self.model(input_ids=framed, return_dict=True).logits[0]  # type: ignore[no-any-return]
        finally:
            hook.remove()


@contextmanager
def _positions(model: nn.Module, length: int) -> Iterator[list[int]]:
    """How many places each table of positions has room for, as seen in calls with `length` places.

    RoBERTa's begins two rows late, others' do not; the rows that are asked for tell.
    """
    room: list[int] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding) and arguments and isinstance(arguments[0], Tensor) and arguments[0].ndim:
            rows = arguments[0].reshape(-1, length) if arguments[0].size(-1) == length else None
            if rows is not None and bool((rows == rows[0, 0] + torch.arange(length, device=rows.device)).all()):
                room.append(module.num_embeddings - int(rows[0, 0]))

    tables = (m for name, m in model.named_modules() if isinstance(m, nn.Embedding) and "position" in name)
    hooks = [table.register_forward_pre_hook(note) for table in tables]
    try:
        yield room
    finally:
        for hook in hooks:
            hook.remove()


def _positions_of(config: Any) -> int:
    """Places that a model without a table of positions says it was made for."""
    return int(getattr(config, "max_position_embeddings", None) or _UNSAID)
