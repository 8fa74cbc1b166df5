"""The method `cloze`: the words of the classes in a masked slot after the text, without any training (Schick and
Schütze 2021, arXiv:2001.07676).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tdiff.core.classification.classifier import Classifier
from tdiff.core.classification.prediction import Effort, Prediction, Progress, exact_prediction
from tdiff.core.models.base import Inputs, LoadedModel
from tdiff.errors import TdiffError

PATTERN = "{text} All in all, it was {mask}."
"""The default pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClozeClassifier(Classifier):
    """One masked model that fills a slot after the text."""

    method: ClassVar[str] = "cloze"
    words: tuple[tuple[int, ...], ...]
    """The ids of each class's words."""
    before: Tensor
    """Ids between the text and the slot."""
    after: Tensor
    """Ids after the slot."""

    def predict(self, texts: Sequence[Tensor], effort: Effort, names: Sequence[int] = ()) -> Iterator[Progress]:
        """See `Classifier.predict`; one update for each text."""
        for n, ids in enumerate(texts):
            begin = time.perf_counter()
            with torch.inference_mode(), self.autocast():
                prediction = self._predict(ids)
            yield Progress(n, prediction, True, time.perf_counter() - begin)

    def _predict(self, ids: Tensor) -> Prediction:
        """The mean over the windows of the text; the slot comes after each of them."""
        before, after = self.before, self.after
        network = self.networks[0]
        room = self.window - len(before) - len(after) - 1
        slot = torch.tensor([network.spec.mask_id])
        lines = [torch.cat((ids[at : at + room], before, slot, after)) for at in range(0, len(ids), room)]
        nats = torch.zeros(len(self.classes), dtype=torch.float64)
        for line in lines:
            row = line[None].to(self.device)
            where = torch.zeros_like(row, dtype=torch.bool)
            where[0, len(line) - len(after) - 1] = True
            logits = network.logits(Inputs(row, where.sum(1) / row.size(1), where))[0].cpu().double()
            known = torch.stack([logits[list(words)].logsumexp(0) for words in self.words])
            nats -= known.log_softmax(0) / len(lines)
        return exact_prediction(nats, self.priors, self.temperature, 1)


def from_words(
    model: LoadedModel, words: Mapping[str, Sequence[str]], pattern: str, device: str, bfloat16: bool = False
) -> ClozeClassifier:
    """A classifier from the words of each class. `pattern` begins with {text} and contains {mask} once after it.

    Raises TdiffError for another pattern, for a causal model, and for a word that is not a single token of the model.
    """
    if model.spec.causal:
        raise TdiffError(f"{model.name} is autoregressive; --method cloze requires a masked model, which fills a slot")
    if len(words) < 2:
        raise TdiffError("--method cloze requires at least two classes: --words 'good=great,fine bad=terrible'")
    # A long text is cut into windows, and the slot comes after each: so nothing can precede the text.
    lead, _, rest = pattern.partition("{text}")
    if lead or pattern.count("{text}") != 1 or rest.count("{mask}") != 1:
        raise TdiffError(f"--pattern must begin with {{text}} and contain {{mask}} once after it; got {pattern!r}")
    between, _, after = rest.partition("{mask}")
    space = " " if between.endswith(" ") else ""
    ids = tuple(tuple(_token(model, space + word, word) for word in names) for names in words.values())
    around = [
        model.tokenizer.encode(part, "the pattern", inside=True) if part else torch.zeros(0, dtype=torch.int64)
        for part in (between.rstrip(" "), after)
    ]
    if len(around[0]) + len(around[1]) + 2 > model.spec.context:
        window = model.spec.context
        raise TdiffError(f"--pattern leaves no room for a text: the context length of {model.name} is {window} tokens")
    return ClozeClassifier(
        name=model.name,
        classes=tuple(words),
        priors=(1 / len(words),) * len(words),
        tokenizer=model.tokenizer,
        networks=(model.network,),
        device=device,
        bfloat16=bfloat16,
        words=ids,
        before=around[0],
        after=around[1],
    )


def _token(model: LoadedModel, in_slot: str, word: str) -> int:
    """The id of a word, with the space before it that it has in the slot, if there is such a token."""
    tokenizer = model.tokenizer
    for text in (in_slot, word):
        ids = tokenizer.encode(text, f"the word {word!r}").tolist()
        if len(ids) == 1 and ids[0] not in model.spec.suppressed:
            return int(ids[0])
    pieces = "|".join(tokenizer.pieces[i] for i in tokenizer.encode(in_slot).tolist())
    raise TdiffError(f"the word {word!r} must be one token of {model.name}; it is {pieces!r}")
