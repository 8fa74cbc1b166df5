"""Words within a line that say something of the numbers after them: a split, a metric of several splits, a total."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tdiff.patterns import lazy
from tdiff.watch.formats.found import Found, Span
from tdiff.watch.formats.names import Meaning, Role, is_split, is_symbol, meaning
from tdiff.watch.formats.standins import has_loss_term, is_bare_term, is_term, is_total

_WORD = lazy(r"[A-Za-z][\w-]*")
_AFTER_SPLIT = frozenset(["set", "data", "split", "metrics", "results", "phase"])
_TERMS = lazy(r"\s*(?:\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|=(?:\s?[^\s|;,])*)")
"""The terms behind a total."""
_SUM = 0.005
"""Share of a total by which the sum of its terms differs at most, as numbers are printed."""
_REPEATS = lazy(r"\b(?:best|lowest|final|so far|min|minimum)\b", re.IGNORECASE)
"""Words by which a line repeats values of an earlier one."""


class Group:
    """What the words before the newest number say of it, and of the numbers after it."""

    def __init__(self) -> None:
        self.over = False
        """The rest of the line repeats values of an earlier one."""
        self._split = ""  # `train: loss 1.2 | val: loss 1.3`
        self._metric = ""  # `loss: train 1.2, val 1.3`

    def named(
        self, name: str, before: str, known: Callable[[str], Meaning], *, after_loss: bool, measured: bool
    ) -> str:
        """A name with the split or the metric of its group; `before`: the text between it and the number before."""
        spelled = [word for word in _WORD.findall(before) if word.lower() not in _AFTER_SPLIT]
        if is_split(name):
            if spelled and (kind := known(spelled[-1])).role in (Role.LOSS, Role.OTHER) and not kind.split:
                self._metric = spelled[-1] if measured else ""
            return f"{name} {self._metric}" if self._metric and measured else name
        self._metric = ""
        if spelled and after_loss and (split := meaning(spelled[-1]).split) and is_split(spelled[-1]):
            self.over = _REPEATS.search(before) is not None
            self._split = split
        kind = known(name)
        if self._split and not kind.split and kind.role in (Role.LOSS, Role.OTHER):
            return f"{'val' if self._split == 'eval' else 'train'} {name}"
        return name


def promote_symbol(bare: Sequence[tuple[str, float, Span]], found: Found) -> None:
    """Make a value of the letter of a loss on a counted line or on one of an evaluation, though no sign gives it."""
    named = [one for one in bare if is_symbol(one[0]) and one[0] not in found.values]
    counted = any(meaning(name).role in (Role.STEP, Role.EPOCH) for name in found.values) if named else False
    for name, value, span in named:
        if counted or found.split == "eval" or meaning(name).split == "eval":
            found.values[name] = value
            found.spans.append(span)


def promote_total(bare: Sequence[tuple[str, float, Span]], found: Found, text: str, base: int) -> None:
    """Make values of a total and its terms on a counted line, though no sign gives them to their names.

    `text` begins at `base` of the line. Terms in brackets behind the total, or behind `=`, are all that it has.
    """
    totals = [one for one in bare if is_total(one[0])]
    totals += [(s.name, found.values[s.name], s) for s in found.spans if s.target == "value" and is_total(s.name)]
    if len(totals) != 1:
        return
    known = {name: meaning(name) for name in found.values}
    if not any(kind.role in (Role.STEP, Role.EPOCH) for kind in known.values()):
        return
    losses = [name for name, kind in known.items() if kind.role is Role.LOSS]
    terms = [one for one in bare if not is_total(one[0])]
    if (listed := _TERMS.match(text, totals[0][2].end - base)) is not None:
        terms = [one for one in terms if listed.start() <= one[2].start - base < listed.end()]
    summed = sum(value for _, value, _ in terms) + sum(found.values[name] for name in losses)
    if abs(summed - totals[0][1]) > _SUM * abs(totals[0][1]):
        terms = [one for one in terms if is_term(one[0])]
    known_terms = bool(losses) or has_loss_term(name for name, *_ in terms)
    values = [*(value for _, value, _ in terms), *(found.values[name] for name in losses)]
    if not all(map(is_bare_term, losses)) or len(values) < 2 or not known_terms or max(values) > totals[0][1]:
        return
    for name, value, span in (*totals, *terms):
        if name not in found.values:
            found.values[name] = value
            found.spans.append(span)
