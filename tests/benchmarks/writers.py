"""Writers of texts after the same prompts: models by a rule, real text, a word-trigram sampler, shuffled real text.

A rule is a decoder with options, such as "confidence threshold=0.7", a preset such as `fast`, or `default`, the model's
own settings.
"""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.config.decoding import parse_decoder
from tdiff.config.decoding_presets import DECODING_PRESETS
from tdiff.core.diffusion.generate import default_prompt, generate, prompt_ids
from tdiff.core.evaluation.ngrams import WordNGrams, pieces
from tdiff.core.evaluation.quality import words
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError

PROMPT = 4
"""Words of a prompt."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text with its prompt."""

    prompt: str
    text: str
    """It begins with the prompt."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model spent on one text."""

    calls: int
    tokens: int
    """Generated tokens."""
    characters: int
    """Generated characters."""
    seconds: float


def passages(text: str, count: int, length: int, seed: int) -> list[Passage]:
    """`count` passages of `length` words that begin paragraphs and continue over the paragraphs after them.

    They are chosen at random by the seed and do not overlap. Raises SystemExit if the text has not so many.
    """
    starts = [match.start() for match in re.finditer(r"(?<=\n)(?=[^\n])", text)]
    random.Random(seed).shuffle(starts)
    chosen: list[Passage] = []
    taken: list[tuple[int, int]] = []
    for start in starts:
        if len(chosen) == count:
            return chosen
        part = pieces(text[start : start + 12 * length])
        prompt, passage = cut(part, PROMPT), cut(part, length)
        end = start + len(passage)
        if "\n" in prompt or len(words(passage)) != length or any(start < b and a < end for a, b in taken):
            continue
        chosen.append(Passage(prompt, passage))
        taken.append((start, end))
    if len(chosen) < count:
        raise SystemExit(f"the text has {len(chosen)} passages of {length} words that do not overlap; got {count}")
    return chosen


def cut(parts: Sequence[str], count: int) -> str:
    """The first `count` words with the marks between them."""
    text, left = "", count
    for part in parts:
        is_word = bool(words(part))
        if is_word and not left:
            break
        left -= is_word
        text += part
    return text.rstrip()


def options_of(rule: str) -> dict[str, Any]:
    """The fields of DecodeSettings of a rule. Raises TdiffError for one that is not valid."""
    if rule in ("", "default"):
        return {}
    return {"preset": rule} if rule in DECODING_PRESETS else parse_decoder(rule)


class Writers:
    """The writers of texts, by name; each writes a text of `length` words after a passage's prompt."""

    def __init__(self, folder: Path, length: int, seed: int) -> None:
        self.training = (folder / "train.txt").read_text("utf-8")
        self.tuning = (folder / "tuning.txt").read_text("utf-8")
        self.judge = WordNGrams(self.training)
        self.length, self.seed = length, seed
        self.costs: dict[str, list[Cost]] = {}
        self._models: dict[str, LoadedModel] = {}

    def write(self, name: str, passages: Sequence[Passage]) -> list[Passage]:
        """A text of exactly `length` words for each real passage by a writer: real, trigram, shuffled, or MODEL:RULE.

        They have the passages' prompts, unless the model's vocabulary lacks a character of them.
        """
        fixed: dict[str, Callable[[int, Passage], Passage]] = {
            "real": lambda n, passage: passage,
            "trigram": self._trigram,
            "shuffled": self._shuffled,
        }
        writer = fixed.get(name) or self._model(name)
        written = [writer(n, passage) for n, passage in enumerate(passages)]
        texts = [Passage(text.prompt, cut(pieces(text.text), self.length)) for text in written]
        if short := [n for n, text in enumerate(texts) if len(words(text.text)) < self.length]:
            raise SystemExit(
                f"{name}: {len(short)} texts are shorter than {self.length} words, the first is {short[0]}"
            )
        return texts

    def _trigram(self, n: int, passage: Passage) -> Passage:
        text = self.judge.sample(passage.prompt, 9 * self.length, self.seed + n)
        return Passage(passage.prompt, text)

    def _shuffled(self, n: int, passage: Passage) -> Passage:
        parts = pieces(passage.text[len(passage.prompt) :])
        random.Random(self.seed + n).shuffle(parts)
        return Passage(passage.prompt, passage.prompt + "".join(parts))

    def _model(self, name: str) -> Callable[[int, Passage], Passage]:
        model_name, _, rule = name.partition(":")
        if model_name not in self._models:
            self._models[model_name] = load_model(model_name)
        model = self._models[model_name]
        settings = model.decode_settings(options_of(rule), self.seed)

        def write(n: int, passage: Passage) -> Passage:
            try:
                prompt, tokens = passage.prompt, len(model.tokenizer.encode(passage.text))
            except TdiffError:  # it has other characters: its own prompt, and as many characters
                prompt, tokens = default_prompt(model, self.seed, n), len(passage.text)
            length = tokens * 5 // 4 + 8
            while True:
                start = time.perf_counter()
                step = deque(generate(model, [prompt], settings, length=length, rows=[n]), maxlen=1).pop()
                seconds = time.perf_counter() - start
                text = model.tokenizer.decode(step.tokens[0])
                if len(words(text)) > self.length or length > 16 * tokens:
                    break
                length *= 2
            generated = int(step.tokens.size(1)) - len(prompt_ids(model, prompt))
            cost = Cost(int(step.calls[0]), generated, max(1, len(text) - len(prompt)), seconds)
            self.costs.setdefault(name, []).append(cost)
            return Passage(prompt, text)

        return write
