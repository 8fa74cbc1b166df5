"""A masked language model of transformers.

The special tokens around a text (`[CLS] ... [SEP]`) are added here; callers see a canvas of text alone. Time
conditioning, which such models do not have after pretraining, is a small network beside the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.core.mask_indices import indices_of, select
from tdiff.core.models.base import Cache, Inputs, ModelSpec, suppression
from tdiff.core.models.conditioning import TimeNetwork, conditioning_vectors
from tdiff.core.models.hf import backend
from tdiff.core.models.hf.base import HFBackbone, longest_that_works
from tdiff.core.models.hf.tokenizer import HubTokenizer
from tdiff.core.models.labels import with_bias

_DEFAULT_POSITIONS = 512
"""Positions of a model whose config does not give their number."""
_FAILURES = (RuntimeError, IndexError, TypeError, ValueError)


class MaskedLM(HFBackbone):
    """A masked model of transformers."""

    begin: Tensor
    end: Tensor

    def __init__(
        self, model: Any, tokenizer: HubTokenizer, context: int = 0, timed: bool = False, classes: int = 0
    ) -> None:
        """Run the model, which is in evaluation mode, on a few tokens to learn its context length, whether its head can
        run at some positions only, and whether it honours a padding mask.

        `context` limits the context length, 0 for the longest that its positions allow; `timed` adds time conditioning
        and `classes` class conditioning. Raises ValueError for a longer context, and any exception for a model that
        does not return logits.
        """
        super().__init__(model)
        self.time: TimeNetwork | None = None
        self.labels: nn.Embedding | None = None
        size, device = len(tokenizer), next(model.parameters()).device
        self.spec = ModelSpec(
            family="masked-lm",
            vocab_size=size,
            mask_id=tokenizer.mask_id,
            suppressed=tokenizer.suppressed,
            context=0,
            classes=classes,
        )
        if timed:
            self.add_time()
        for name, value in (
            ("suppress", suppression(size, tokenizer.suppressed)),
            ("begin", torch.tensor(tokenizer.begin, dtype=torch.int64)),
            ("end", torch.tensor(tokenizer.end, dtype=torch.int64)),
        ):
            self.register_buffer(name, value.to(device), persistent=False)
        self.add_classes(classes)
        self.narrow = False
        """Whether the head runs only at the positions asked for."""
        tokens = torch.full((2, 2), tokenizer.mask_id, device=device)
        where = torch.tensor([[True, False], [True, True]], device=device)
        with torch.inference_mode(), _positions(model, len(self.begin) + 2 + len(self.end)) as room:
            logits = self._logits(tokens, where)
            if logits.shape != (3, size):
                raise ValueError(f"logits of shape {tuple(logits.shape)} for 3 positions and {size} tokens")
            self.narrow = True
            try:
                self.narrow = torch.allclose(self._logits(tokens, where), logits, rtol=1e-3, atol=1e-3)
            except _FAILURES:
                self.narrow = False
        positions = min(room, default=backend.positions(model.config) or _DEFAULT_POSITIONS)
        longest = longest_that_works(model, self._run_masks, positions - len(self.begin) - len(self.end))
        if longest < 1:
            raise ValueError(f"its special tokens leave {longest} positions for a text")
        self.longest = longest
        self.set_context(context or longest)
        self.spec = replace(self.spec, pads=self._honours_padding())

    @property
    def timed(self) -> bool:
        """Whether it has time conditioning."""
        return self.time is not None

    def _run_masks(self, length: int) -> None:
        """Run the model on one row of this number of masks."""
        tokens = torch.full((1, length), self.spec.mask_id, device=self.device)
        self._logits(tokens, torch.arange(length, device=tokens.device)[None] == 0)

    def add_time(self, generator: torch.Generator | None = None) -> None:
        """Add time conditioning; with a `generator` by fresh weights, which have no effect before training."""
        table = self.model.get_input_embeddings().weight
        self.time = TimeNetwork(table.size(1)).to(table.device)
        if generator is not None:
            self.time.initialise(generator)

    def add_classes(self, count: int) -> None:
        """Replace the class conditioning by one of `count` classes, which has no effect before training; 0: remove
        it.
        """
        table = self.model.get_input_embeddings().weight
        self.labels = nn.Embedding(count + 1, table.size(1), device=table.device) if count else None
        self.label_bias = nn.Embedding(count + 1, len(self.suppress), device=table.device) if count else None
        for weights in (self.labels, self.label_bias):
            if weights is not None:
                nn.init.zeros_(weights.weight)
        self.spec = replace(self.spec, classes=count)

    def conditioning(self) -> nn.ModuleDict | None:
        """Return the weights for time and classes, which transformers does not know; None if there are none."""
        parts = {"time": self.time, "labels": self.labels, "label_bias": self.label_bias}
        present = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
        return present if len(present) else None

    @torch.inference_mode()
    def _honours_padding(self) -> bool:
        """Return whether padding changes nothing in the logits of a text; some architectures take no padding mask."""
        length = min(6, self.spec.context)
        if length < 2:
            return False
        tokens = torch.full((1, length), self.spec.mask_id, device=self.device)
        index, real = torch.arange(length, device=tokens.device)[None], length // 2
        at = min(1, real - 1)
        try:
            short = self._logits(tokens[:, :real], index[:, :real] == at)
            padded = self._logits(tokens, index == at, attention=index < real)
        except _FAILURES:
            return False
        return torch.allclose(short, padded, rtol=1e-3, atol=1e-3)

    def logits(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Return logits (N, V) float32; see `Model.logits`. There is no cache. Raises ValueError for positions."""
        if inputs.positions is not None:
            raise ValueError("a masked model of transformers takes no positions")
        logits: Tensor = self(inputs.tokens, inputs.mask_ratio, inputs.where, inputs.attention, inputs.label)
        return logits

    def forward(
        self,
        tokens: Tensor,
        mask_ratio: Tensor,
        where: Tensor,
        attention: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Return logits (N, V) float32 at the N positions, row by row, where `where` (B, L) is true; see `Inputs`."""
        logits = self._logits(tokens, where, mask_ratio, attention, label).float() + self.suppress
        if self.label_bias is not None:
            logits = with_bias(logits, self.label_bias.weight, label, where)
        return logits

    def _logits(
        self,
        tokens: Tensor,
        where: Tensor,
        mask_ratio: Tensor | None = None,
        attention: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Return the logits (N, V) of the model itself, without bias and suppression."""
        framed, framed_where, attention = self._framed(tokens, where, attention)
        arguments: dict[str, Any] = {"input_ids": framed}
        if attention is not None:
            arguments["attention_mask"] = attention.long()
        with ExitStack() as hooks:
            # For this call alone: a hook that stayed would, in a copy of this model, refer to the original.
            vectors = conditioning_vectors(self.time, self.labels, mask_ratio, label, len(tokens))
            if vectors:
                shift, table = sum(vectors[1:], vectors[0]), self.model.get_input_embeddings()
                hooks.callback(table.register_forward_hook(lambda _module, _inputs, output: output + shift).remove)
            if not self.narrow:
                logits: Tensor = select(self.model(**arguments, return_dict=True).logits, framed_where)
                return logits

            def keep_asked(module: nn.Module, arguments: Any, output: Any) -> Any:
                output[next(iter(output))] = select(output[0], framed_where)[None]
                return output

            # The head, much of the work for a large vocabulary, runs on those positions only, as one row.
            hooks.callback(self.model.base_model.register_forward_hook(keep_asked).remove)
            return self.model(**arguments, return_dict=True).logits[0]  # type: ignore[no-any-return]

    def _framed(self, tokens: Tensor, where: Tensor, attention: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return tokens, asked positions and padding mask with the special tokens around each text.

        The end tokens of a padded text come before its padding.
        """
        rows, frame = tokens.size(0), (len(self.begin), len(self.end))
        framed = torch.cat((self.begin.expand(rows, -1), tokens, self.end.expand(rows, -1)), 1)
        if attention is not None:
            end_at = torch.arange(len(self.end), device=tokens.device) + frame[0] + attention.sum(1)[:, None]
            framed = framed.scatter(1, end_at, self.end.expand(rows, -1))
            index = torch.arange(framed.size(1), device=tokens.device)
            attention = index < frame[0] + attention.sum(1)[:, None] + frame[1]
        framed_where = F.pad(where, frame)
        indices_of(framed_where, len(indices_of(where)))
        return framed, framed_where, attention


@contextmanager
def _positions(model: nn.Module, length: int) -> Iterator[list[int]]:
    """Collect how many positions each position table has room for, in calls with `length` tokens.

    RoBERTa's table begins two rows late, others do not; the rows that a call looks up show it.
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
