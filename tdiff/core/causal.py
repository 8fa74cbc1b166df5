"""A causal language model of Hugging Face as a judge: how surprised another model is by a text."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from tdiff import runs
from tdiff.core import hub
from tdiff.core.checkpoint import read_config
from tdiff.errors import TdiffError


class CausalJudge:
    """The nats a character that a causal model needs for what follows a prompt."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        """The model in the folder `name`. Raises TdiffError where it is none, or of another kind."""
        folder = runs.find_model(name)
        config = read_config(folder / "config.json")
        kind = config.get("model_type")
        what = f"model {name!r} is of type {kind!r}"
        known = hub.library().models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if not isinstance(kind, str) or kind not in known:
            raise TdiffError(f"{what}, which does not write from left to right: a judge is a causal model such as gpt2")
        settings = hub.settings(what, config)
        hub.weights(name, folder)
        hub.has_tokenizer(folder)
        with hub.one_line(f"the tokenizer of {name!r} is damaged or of a kind that is not known"):
            self._tokenizer: Any = hub.library().AutoTokenizer.from_pretrained(
                str(folder), config=settings, local_files_only=True, trust_remote_code=False
            )
        if not self._tokenizer.is_fast:
            raise TdiffError(f"the tokenizer of {name!r} cannot say where its tokens stand in a text")
        build = hub.library().MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)]
        self._model = hub.build(build, what, name, folder, settings, "language-model head").to(device)
        self.name, self._device = folder.resolve().name, device
        self._longest = getattr(settings, "max_position_embeddings", None) or getattr(settings, "n_positions", None)

    @torch.inference_mode()
    def nats(self, prompt: str, text: str) -> float:
        """Nats a character of `text` after `prompt`, with which it begins; tokens that reach beyond it count.

        Raises TdiffError for a text longer than the model can read.
        """
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        first = self._tokenizer.bos_token_id
        ids = ([] if first is None else [first]) + found["input_ids"]
        if self._longest and len(ids) > self._longest:
            raise TdiffError(f"a text has {len(ids)} tokens; {self.name} reads {self._longest} at once")
        tokens = torch.tensor([ids], device=self._device)
        log_p = F.log_softmax(self._model(tokens).logits[0, :-1].float(), -1)
        nats = -log_p.gather(-1, tokens[0, 1:, None])[:, 0]
        # Without a first token of its own the model is not asked for the text's first.
        ends = [end for _, end in found["offset_mapping"]][0 if first is not None else 1 :]
        after = torch.tensor([end > len(prompt) for end in ends], device=self._device)
        return float(nats[after].sum()) / max(1, len(text) - len(prompt))
