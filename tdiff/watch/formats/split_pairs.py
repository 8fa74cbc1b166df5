"""Two values of one loss, of training and of an evaluation: `train/val loss: 2.3/2.4`, `loss (train/val) 2.3 / 2.4`."""

from __future__ import annotations

import re
from typing import NamedTuple

from tdiff.patterns import lazy
from tdiff.watch.formats.found import Found, Span
from tdiff.watch.formats.names import is_split, split_of

_SPLITS = r"(?P<first{0}>[A-Za-z]+)\s?[/|]\s?(?P<second{0}>[A-Za-z]+)"
_LOSS = r"(?:(?:mean|avg|average)\s+)?loss(?:es)?"
_NUMBER = r"[-+]?\d+\.\d+(?:[eE][-+]?\d+)?(?![\w.])"
_PAIR = lazy(
    rf"(?<![\w/])(?:{_SPLITS.format('')}\s+{_LOSS}|{_LOSS}\s*[(\[]?\s*{_SPLITS.format('_after')}\s*[)\]]?)"
    rf"\s*[:=]?\s*(?P<one>{_NUMBER})\s*[/|,]\s*(?P<other>{_NUMBER})",
    re.IGNORECASE,
)


class SplitPair(NamedTuple):
    """The two values of a loss, and where they stand in a text."""

    values: tuple[tuple[str, float, int, int], ...]
    """(name, value, start, end) of each."""
    start: int
    end: int

    def store(self, found: Found) -> None:
        """Add the values to those of a line."""
        for name, value, start, end in self.values:
            if name not in found.values:
                found.values[name] = value
                found.spans.append(Span(start, end, "value", name))


def split_pair(text: str) -> SplitPair | None:
    """The pair of losses that a text holds."""
    match = _PAIR.search(text) if "loss" in text or "Loss" in text or "LOSS" in text else None
    if match is None:
        return None
    names = [(match["first"] or match["first_after"]).lower(), (match["second"] or match["second_after"]).lower()]
    if not all(map(is_split, names)) or {split_of(name) for name in names} != {"train", "eval"}:
        return None
    values = tuple(
        (f"{'val' if split_of(name) == 'eval' else 'train'} loss", float(match[group]), *match.span(group))
        for name, group in zip(names, ("one", "other"), strict=True)
    )
    return SplitPair(values, *match.span())
