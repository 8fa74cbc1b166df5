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
        self._tokenizer, self._shown = tokenizer, dict[int, str]()
        self._parts = tokenizer.parts

    def of(self, position: int, token: int) -> str:
        """The text of a token in a place, whatever stands beside it."""
        return self._tokenizer.pieces[token] if position else visible(self._tokenizer.decode([token]))

    def changed(self, ids: Sequence[int], positions: Collection[int]) -> dict[int, str]:
        """What is to be told after the tokens of `places` changed: the texts of those revealed, and of their neighbours
        where these look different now. `ids` (L,) is the whole canvas.
        """
        texts = {
            position: self.of(position, ids[position])
            for position in positions
            if ids[position] != self._tokenizer.mask_id
        }
        if not self._parts:
            return texts
        neighbours = {n for position in positions for n in (position - 1, position, position + 1) if 0 <= n < len(ids)}
        for run in self._runs(ids, neighbours):
            for position, text in zip(run, self._joined([ids[position] for position in run], run[0]), strict=True):
                if position in texts or self._shown.get(position, UNKNOWN_TEXT) != text:
                    texts[position] = text
                    self._shown[position] = text
        for position in positions:
            if ids[position] == self._tokenizer.mask_id:
                self._shown.pop(position, None)
        return texts

    def _runs(self, ids: Sequence[int], near: Iterable[int]) -> list[range]:
        """The runs of parts of characters that touch a place of `near`."""
        runs: dict[int, range] = {}
        for position in near:
            if ids[position] not in self._parts:
                continue
            begin = end = position
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
