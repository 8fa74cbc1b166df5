"""Numbers without a name of their own that are the loss, as their values show: `Epoch 3 | train 1.2 | valid 1.3`.

A number after a count (`it 300: 2.31`) and the numbers of a split alone may be anything, an accuracy too. They are the
loss if those of training fall from the first records on; else they remain what they are.
"""

from __future__ import annotations

from itertools import pairwise

from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import Meaning, Role, is_split
from tdiff.watch.formats.standins import STAND_IN

UNNAMED = "value"
"""The name of a number that follows a count and has none of its own."""
_FEWEST, _MOST = 3, 8
"""Values that can show that a number falls, and after which it does not."""


class Guesses:
    """Watches such numbers until they have shown what they are."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._values: dict[str, list[float]] = {}
        self._open = not names.choice.loss

    def take(self, fields: Fields) -> dict[str, str]:
        """Watch the numbers of a line. Returns name -> metric (`train/loss` or `eval/loss`) once they are the loss."""
        if not self._open or len(fields.values) < 2 or fields.bar is not None:
            return {}
        meaning = self._names.meaning
        known = {name: meaning(name) for name in fields.values}
        if any(kind.role is Role.LOSS for kind in known.values()):
            return {}
        if not any(kind.role in (Role.STEP, Role.EPOCH) for kind in known.values()):
            return {}
        alone = [name for name in fields.values if is_split(name)]
        if not alone and UNNAMED in fields.values and fields.split != "eval" and not fields.structured:
            alone = [UNNAMED]
        trains = [name for name in alone if known[name].split != "eval"]
        if len(trains) != 1:
            return {}
        values = self._values.setdefault(trains[0], [])
        values.append(fields.values[trains[0]])
        if len(values) >= _FEWEST and _falls(values):
            self._open = False
            return self._assume({name: known[name].split or "train" for name in alone})
        self._open = len(values) < _MOST
        return {}

    def _assume(self, splits: dict[str, str]) -> dict[str, str]:
        for name, split in splits.items():
            own = "" if name == UNNAMED else split
            self._names.assume(name, Meaning(Role.LOSS, own, STAND_IN))
        firsts: dict[str, str] = {}
        for name, split in splits.items():
            firsts.setdefault(f"{split}/loss", name)
        return {name: metric for metric, name in firsts.items()}


def _falls(values: list[float]) -> bool:
    changes = [after - before for before, after in pairwise(values)]
    return values[-1] < values[0] and sum(c < 0 for c in changes) > len(changes) / 2
