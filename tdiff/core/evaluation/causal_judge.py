"""A causal language model of Hugging Face as a judge of generated text: the nats that another model needs for it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from tdiff import hub
from tdiff.core.models.files import read_config
from tdiff.core.models.hf import backend
from tdiff.core.models.hf.causal import looks_ahead
from tdiff.errors import TdiffError


class CausalJudge:
    """The nats a character that a causal model needs for the text after a prompt."""

    def __init__(self, name: str, device: str = "cpu", progress: hub.Progress | None = None) -> None:
        """Load the model with that name or path, which `hub.find` locates; downloads are reported to `progress`.

        Raises TdiffError if there is no such model, or if it is not causal.
        """
        folder = hub.find(name, progress)
        config = read_config(folder / "config.json")
        kind = config.get("model_type")
        what = f"model {name!r} is of type {kind!r}"
        settings = backend.causal(what, config)
        if settings is None:
            raise TdiffError(f"{what}, which is not autoregressive: --judge requires a causal model such as gpt2")
        backend.weights(name, folder)
        self._tokenizer: Any = backend.tokenizer(folder, settings)
        if not self._tokenizer.is_fast:
            raise TdiffError(f"--judge requires a tokenizer that reports token positions; that of {name!r} does not")
        known = backend.vocabulary(what, settings)
        if len(self._tokenizer) > known:
            raise TdiffError(f"{what} and has {known:,} tokens, but its tokenizer has {len(self._tokenizer):,}")
        build = "MODEL_FOR_CAUSAL_LM_MAPPING"
        self._model = backend.build(build, what, name, folder, settings, "language-model head").to(device)
        if looks_ahead(self._model):
            raise TdiffError(f"{what}, which attends to later tokens: --judge requires a causal model such as gpt2")
        self.name, self._device = hub.repository(folder) or folder.resolve().name, device
        self._longest = backend.positions(settings)

    @torch.inference_mode()
    def nats(self, prompt: str, text: str) -> float:
        """Nats a character of `text` after `prompt`, its beginning; a token across the end of the prompt counts.

        A text longer than the context length is read in windows, each of which overlaps half of the one before.
        """
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        first = self._tokenizer.bos_token_id
        ids = torch.tensor(([] if first is None else [first]) + encoded["input_ids"], device=self._device)
        # Without a begin-of-text token the model cannot score the first token of the text.
        ends = torch.tensor([end for _, end in encoded["offset_mapping"]][0 if first is not None else 1 :])
        after = (ends > len(prompt)).to(self._device)
        longest, total, done, start = self._longest or len(ids), 0.0, 0, 0
        while done < len(after):
            window = ids[start : start + longest]
            log_p = F.log_softmax(self._model(window[None]).logits[0, :-1].float(), -1)
            nats = -log_p.gather(-1, window[1:, None])[:, 0]
            total += float((nats * after[start : start + len(nats)])[done - start :].sum())
            done, start = start + len(nats), start + max(1, longest // 2)
        return total / max(1, len(text) - len(prompt))
