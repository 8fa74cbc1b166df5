"""Whether the records of a log say what they are of, so that one which says something else is no training."""

from __future__ import annotations

from collections.abc import Callable

from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import Meaning
from tdiff.watch.formats.plan import Plan
from tdiff.watch.formats.splits import NEITHER, UNKNOWN


class Said:
    """Remembers what records have said."""

    def __init__(self, meaning: Callable[[str], Meaning]) -> None:
        self._meaning = meaning
        self._split = False  # of a split
        self._train = False  # of training, with a loss

    def is_neither(self, fields: Fields, planned: Callable[[Fields, str], Plan]) -> bool:
        """Whether a record is neither of training nor of an evaluation; else its split is one of these, or none."""
        if fields.split not in NEITHER:
            self._split = self._split or bool(fields.split and fields.values)
            return False
        unknown, fields.split = fields.split == UNKNOWN, ""
        return self._split if unknown else self._train and self._only_trains(planned(fields, ""))

    def hear(self, split: str, plan: Plan) -> None:
        """A record of this split has come."""
        self._train = self._train or (split == "train" and bool(plan.losses["train"]))

    def _only_trains(self, plan: Plan) -> bool:
        """Whether the losses of a record are of training, though no name says so."""
        named = any(self._meaning(name).split for name in plan.losses["train"])
        return bool(plan.losses["train"]) and not plan.losses["eval"] and not named
