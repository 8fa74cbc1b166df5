"""The displayed text of each token of a canvas, while some of its tokens are still masked.

Most tokens look the same at every position. There are two exceptions: at the beginning of a text a word has no space
before it, and in a byte-level vocabulary the bytes of one character may be split among several tokens. Such a token is
shown as � until its neighbours are unmasked; then the first of them shows the character, and the others nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tdiff.core.models.base import UNKNOWN_TEXT, Tokenizer
from tdiff.visible import visible

_LONGEST = 8  # tokens that one character may be split among: at least the bytes of a character


class Pieces:
    """The texts of the tokens of one canvas, as last reported."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._shown = tokenizer, dict[int, str]()
        self._parts = tokenizer.parts

    def of(self, position: int, token: int) -> str:
        """Return the text of a token at a position, independent of its neighbours."""
        return self._tokenizer.pieces[token] if position else visible(self._tokenizer.decode([token]))

    def changed(self, ids: Sequence[int], positions: Collection[int]) -> dict[int, str]:
        """Return the texts to report, by position, after the tokens at `positions` of the canvas `ids` (L,) changed.

        They are the texts of the unmasked tokens, and those of their neighbours that look different now.
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

    def _runs(self, ids: Sequence[int], positions: Iterable[int]) -> list[range]:
        """The runs of partial characters that contain one of `positions`."""
        runs: dict[int, range] = {}
        for position in positions:
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
        """The texts of a run of partial characters: each character is at the first of its tokens."""
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
