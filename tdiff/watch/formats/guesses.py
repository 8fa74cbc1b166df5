"""Numbers without a name of their own that are the loss, as their values show: `Epoch 3 | train 1.2 | valid 1.3`.

A number after a count (`it 300: 2.31`) and the numbers of a split alone may be anything, an accuracy too. They are the
loss if those of training fall from the first records on; else they remain what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from tdiff.watch.formats.choice import Names
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import Meaning, Role, is_split, is_symbol
from tdiff.watch.formats.standins import STAND_IN

UNNAMED = "value"
"""The name of a number that follows a count and has none of its own."""
_RATE = 0.15
"""A number without any name that begins no higher may be a learning rate."""
_EVEN = 0.01
"""Share by which the steps of a schedule differ at most."""
_FEWEST, _MOST, _LONGEST = 3, 8, 200
"""Values that can show that a number falls, after which it does not, and records among which they are looked for."""


class Guesses:
    """Watches such numbers until they have shown what they are."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._values: dict[str, list[float]] = {}
        self._records = 0
        self._open = not names.choice.loss

    def take(self, fields: Fields) -> dict[str, str]:
        """Watch the numbers of a line. Returns name -> metric (`train/loss` or `eval/loss`) once they are the loss."""
        if not self._open or len(fields.values) < 2 or fields.bar is not None:
            return {}
        meaning = self._names.meaning
        known = {name: meaning(name) for name in fields.values}
        self._records += 1
        self._open = self._records < _LONGEST
        if not any(kind.role in (Role.STEP, Role.EPOCH, Role.LOSS) for kind in known.values()):
            return {}
        losses = [name for name, kind in known.items() if kind.role is Role.LOSS]
        alone = [name for name in fields.values if is_split(name) and name not in losses]
        if not alone and not losses and UNNAMED in fields.values and fields.split != "eval" and not fields.structured:
            alone = [UNNAMED]
        symbols = [name for name in fields.values if is_symbol(name)] if not losses and not alone else []
        alone = alone or symbols
        trains = [name for name in alone if known[name].split != "eval"]
        if losses:
            return self._beside_loss(losses, alone, known, fields)
        if len(trains) != 1 or not self._has_fallen(trains[0], fields.values[trains[0]]):
            return {}
        return self._assume({name: known[name].split or "train" for name in alone})

    def _beside_loss(
        self, losses: list[str], alone: list[str], known: Mapping[str, Meaning], fields: Fields
    ) -> dict[str, str]:
        """A lone `val` beside the training loss is that of the validation if it falls and is about as large."""
        if len(alone) != 1 or len(losses) != 1 or known[alone[0]].split != "eval" or known[losses[0]].split == "eval":
            return {}
        value, loss = fields.values[alone[0]], fields.values[losses[0]]
        alike = 0 < value < 3 * loss < 9 * value
        self._open = self._open and alike
        return self._assume({alone[0]: "eval"}) if alike and self._has_fallen(alone[0], value) else {}

    def _has_fallen(self, name: str, value: float) -> bool:
        values = self._values.setdefault(name, [])
        values.append(value)
        certain = name != UNNAMED or (len(values) > _FEWEST and values[0] > _RATE)
        if len(values) >= _FEWEST and certain and _falls(values):
            self._open = False
            return True
        self._open = self._open and len(values) < _MOST
        return False

    def _assume(self, splits: dict[str, str]) -> dict[str, str]:
        for name, split in splits.items():
            own = "" if name == UNNAMED or is_symbol(name) else split
            self._names.assume(name, Meaning(Role.LOSS, own, STAND_IN))
        firsts: dict[str, str] = {}
        for name, split in splits.items():
            firsts.setdefault(f"{split}/loss", name)
        return {name: metric for metric, name in firsts.items()}


def _falls(values: list[float]) -> bool:
    """Whether values fall, though not evenly, as those of a schedule do (0.1, 0.05, 0.025)."""
    changes = [after - before for before, after in pairwise(values)]
    ratios = [after / before if before else 0.0 for before, after in pairwise(values)]
    even = any(max(row) - min(row) < _EVEN * max(map(abs, row)) for row in (changes, ratios))
    return values[-1] < values[0] and sum(c < 0 for c in changes) > len(changes) / 2 and not even
