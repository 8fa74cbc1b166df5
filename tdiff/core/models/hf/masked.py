"""A masked language model of transformers as a Denoiser.

What it wants around its text (`[CLS] ... [SEP]`) is put there here; who calls sees a canvas of text alone. It may be
told the time, which such models were not in their pretraining, by a small network of ours beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.core.mask_indices import chosen, places
from tdiff.core.models.hf.base import HFBackbone, Reach, longest_that_works
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.core.models.labels import with_bias

_UNSAID = 512
"""Places of a model that says nothing of how far it sees."""


class Time(nn.Module):
    """The share of maskable places that are masked, as a vector to add to the embedding at every place.

    Cosines of the share, a hidden layer, and a last layer that is zero at the start, so that a pretrained model to
    which it is given is at first what it was.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(_COSINES, width), nn.Linear(width, width)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        nn.init.normal_(self.hidden.weight, std=1 / math.sqrt(_COSINES), generator=generator)
        for zero in (self.hidden.bias, self.out.weight, self.out.bias):
            nn.init.zeros_(zero)

    def forward(self, share: Tensor) -> Tensor:
        """`share` (B,) in [0, 1] to (B, 1, width)."""
        waves = torch.cos(math.pi * share[:, None] * torch.arange(_COSINES, device=share.device))
        told: Tensor = self.out(F.silu(self.hidden(waves.to(self.hidden.weight.dtype))))
        return told[:, None]


_COSINES = 32


class MaskedLM(HFBackbone):
    """A model of transformers as a Denoiser."""

    suppress: Tensor
    begin: Tensor
    end: Tensor

    def __init__(
        self, model: Any, tokenizer: HubTokenizer, window: int = 0, timed: bool = False, classes: int = 0
    ) -> None:
        """Asks the model for a few tokens, to learn how far its positions reach, and whether places can be left out.

        It is asked for `window` places of text at most, or for as many as it sees; `timed` gives it the time,
        and it is told of `classes` of texts. Raises
        ValueError for more than it sees, and any exception where it does not give logits.
        """
        super().__init__(model)
        self.time: Time | None = None
        self.labels: nn.Embedding | None = None
        self.label_bias: nn.Embedding | None = None
        if timed:
            self.tell_time()
        size, device = len(tokenizer), next(model.parameters()).device
        suppress = torch.zeros(size)
        suppress[list(tokenizer.suppressed)] = -torch.inf
        for name, value in (
            ("suppress", suppress),
            ("begin", torch.tensor(tokenizer.begin, dtype=torch.int64)),
            ("end", torch.tensor(tokenizer.end, dtype=torch.int64)),
        ):
            self.register_buffer(name, value.to(device), persistent=False)
        self.tell_classes(classes)
        self.narrow = False
        tokens = torch.full((2, 2), tokenizer.mask_id, device=device)
        where = torch.tensor([[True, False], [True, True]], device=device)
        with torch.inference_mode(), _positions(model, len(self.begin) + 2 + len(self.end)) as reach:
            logits = self._logits(tokens, where)
            if logits.shape != (3, size):
                raise ValueError(f"logits of shape {tuple(logits.shape)} for 3 places and {size} tokens")
            self.narrow = True
            try:
                self.narrow = torch.allclose(self._logits(tokens, where), logits, rtol=1e-3, atol=1e-3)
            except (RuntimeError, IndexError, TypeError, ValueError):
                self.narrow = False
        self.shape = Reach(size, tokenizer.mask_id, tokenizer.suppressed, 0)
        sees = min(reach, default=_positions_of(model.config)) - len(self.begin) - len(self.end)
        sees = longest_that_works(model, self._ask_for, sees)
        if sees < 1:
            raise ValueError(f"its special tokens leave {sees} places for a text")
        self.sees = sees
        self.shape = replace(self.shape, window=sees)
        self.see(window or sees)

    def _ask_for(self, places: int) -> None:
        """Run the model on so many masks."""
        tokens = torch.full((1, places), self.shape.mask_id, device=self.suppress.device)
        self._logits(tokens, torch.arange(places, device=tokens.device)[None] == 0)

    def tell_time(self, generator: torch.Generator | None = None) -> None:
        """Have it told the time from now on; with a `generator` by fresh weights, which change nothing yet."""
        table = self.model.get_input_embeddings().weight
        self.time = Time(table.size(1)).to(table.device)
        if generator is not None:
            self.time.initialise(generator)

    def tell_classes(self, count: int) -> None:
        """Have it told of so many classes from now on, by weights that change nothing yet; 0: of none."""
        table = self.model.get_input_embeddings().weight
        self.labels = nn.Embedding(count + 1, table.size(1), device=table.device) if count else None
        self.label_bias = nn.Embedding(count + 1, len(self.suppress), device=table.device) if count else None
        for told in (self.labels, self.label_bias):
            if told is not None:
                nn.init.zeros_(told.weight)

    def beside(self) -> nn.ModuleDict | None:
        """What tells it the time and of classes, which is no part of the model of transformers; None for nothing."""
        parts = {"time": self.time, "labels": self.labels, "label_bias": self.label_bias}
        there = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
        return there if len(there) else None

    def ignores_padding(self) -> bool:
        """Whether padding changes nothing of what it says of a text, as is tried here; some kinds know no padding."""
        tokens = torch.full((1, 6), self.mask_id, device=self.suppress.device)
        places = torch.arange(6, device=tokens.device)[None]
        training = self.training
        with torch.inference_mode():
            self.eval()
            short = self._logits(tokens[:, :3], places[:, :3] == 1)
            padded = self._logits(tokens, places == 1, attention=places < 3)
            self.train(training)
        return torch.allclose(short, padded, rtol=1e-3, atol=1e-3)

    def forward(
        self,
        tokens: Tensor,
        share: Tensor,
        where: Tensor,
        attention: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, V), float32, at the N places, row by row, where `where` (B, L) is true; L <= window.

        `share` (B,) is the time; `attention` (B, L) bool is false at padding, which no place attends to; `label` (B,)
        int64 is the class of each text, one above the last for none.
        """
        logits = self._logits(tokens, where, share, attention, label).float() + self.suppress
        if self.label_bias is not None:
            logits = with_bias(logits, self.label_bias.weight, label, where)
        return logits

    def _logits(
        self,
        tokens: Tensor,
        where: Tensor,
        share: Tensor | None = None,
        attention: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        framed, wanted, attention = self._framed(tokens, where, attention)
        more: dict[str, Any] = {"input_ids": framed}
        if attention is not None:
            more["attention_mask"] = attention.long()
        with ExitStack() as hooks:
            # For this call alone: a hook that stayed would, in a copy of this model, look at the original.
            told = self._told(len(tokens), share, label)
            if told is not None:
                table = self.model.get_input_embeddings()
                hooks.callback(table.register_forward_hook(lambda _module, _given, output: output + told).remove)
            if not self.narrow:
                logits: Tensor = chosen(self.model(**more, return_dict=True).logits, wanted)
                return logits

            def leave_out(module: nn.Module, arguments: Any, output: Any) -> Any:
                output[next(iter(output))] = chosen(output[0], wanted)[None]
                return output

            # The head, much of the work where the vocabulary is large, is handed those places only, as one row.
            hooks.callback(self.model.base_model.register_forward_hook(leave_out).remove)
            return self.model(**more, return_dict=True).logits[0]  # type: ignore[no-any-return]

    def _told(self, rows: int, share: Tensor | None, label: Tensor | None) -> Tensor | None:
        """What is added to the embedding at every place, (B, 1, width); None for nothing."""
        told: Tensor | None = self.time(share) if self.time is not None and share is not None else None
        if self.labels is not None:
            none = torch.full((rows,), self.labels.num_embeddings - 1, device=self.labels.weight.device)
            kind: Tensor = self.labels(none if label is None else label)
            told = kind[:, None] if told is None else told + kind[:, None]
        return told

    def _framed(self, tokens: Tensor, where: Tensor, attention: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same with what stands around a text; behind a padded one its end comes before the padding."""
        rows, frame = tokens.size(0), (len(self.begin), len(self.end))
        framed = torch.cat((self.begin.expand(rows, -1), tokens, self.end.expand(rows, -1)), 1)
        if attention is not None:
            place = torch.arange(len(self.end), device=tokens.device) + frame[0] + attention.sum(1)[:, None]
            framed = framed.scatter(1, place, self.end.expand(rows, -1))
            inside = torch.arange(framed.size(1), device=tokens.device)
            attention = inside < frame[0] + attention.sum(1)[:, None] + frame[1]
        wanted = F.pad(where, frame)
        places(wanted, len(places(where)))
        return framed, wanted, attention


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
