"""What the tokens of one text look like, place by place, while some of them are still masked.

Most tokens look the same wherever they stand. Two things depend on the place: the space before a word is none at the
beginning of a text, and the bytes of one character may be shared out among several tokens of a byte-level vocabulary.
Such a token is shown as � until its neighbours are there; then the first of them shows the character, the rest nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tdiff.core.models.base import UNKNOWN_TEXT, Tokenizer
from tdiff.visible import visible

_LONGEST = 8  # tokens that one character is shared out among: no more than it has bytes, and some to spare


class Pieces:
    """The texts of one canvas, as they were told last."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._told = tokenizer, dict[int, str]()
        self._parts = tokenizer.parts

    def of(self, place: int, token: int) -> str:
        """The text of a token in a place, whatever stands beside it."""
        return self._tokenizer.pieces[token] if place else visible(self._tokenizer.decode([token]))

    def changed(self, ids: Sequence[int], places: Collection[int]) -> dict[int, str]:
        """What is to be told after the tokens of `places` changed: the texts of those revealed, and of their neighbours
        where these look different now. `ids` (L,) is the whole canvas.
        """
        texts = {place: self.of(place, ids[place]) for place in places if ids[place] != self._tokenizer.mask_id}
        if not self._parts:
            return texts
        near = {n for place in places for n in (place - 1, place, place + 1) if 0 <= n < len(ids)}
        for run in self._runs(ids, near):
            for place, text in zip(run, self._joined([ids[place] for place in run], run[0]), strict=True):
                if place in texts or self._told.get(place, UNKNOWN_TEXT) != text:
                    texts[place] = text
                    self._told[place] = text
        for place in places:
            if ids[place] == self._tokenizer.mask_id:
                self._told.pop(place, None)
        return texts

    def _runs(self, ids: Sequence[int], near: Iterable[int]) -> list[range]:
        """The runs of parts of characters that touch a place of `near`."""
        runs: dict[int, range] = {}
        for place in near:
            if ids[place] not in self._parts:
                continue
            begin = end = place
            while begin > 0 and ids[begin - 1] in self._parts:
                begin -= 1
            while end + 1 < len(ids) and ids[end + 1] in self._parts:
                end += 1
            runs[begin] = range(begin, end + 1)
        return list(runs.values())

    def _joined(self, tokens: Sequence[int], first: int) -> list[str]:
        """The texts of a run of parts: each character stands at the first of its tokens."""
        texts, start = [], 0
        while start < len(tokens):
            for end in range(start + 1, min(len(tokens), start + _LONGEST) + 1):
                text = self._tokenizer.between(tokens[start:end])
                if UNKNOWN_TEXT not in text:
                    texts += [visible(text), *[""] * (end - start - 1)]
                    break
            else:
                end = start + 1
                texts.append(self.of(first + start, tokens[start]))
            start = end
        return texts
