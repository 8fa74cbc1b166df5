"""Which of the losses of a log's records is drawn as the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdiff.watch.formats.choice import BY_HAND, Names
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.names import Meaning, Role
from tdiff.watch.formats.plan import Plan, shown
from tdiff.watch.formats.standins import STAND_IN, is_total


class Losses:
    """Chooses one name for the loss of training, and one for that of the evaluation, and stays with them."""

    def __init__(self, curves: Curves, names: Names) -> None:
        self._curves, self._reads = curves, names
        self._names: dict[str, str] = {}  # `train/loss` or `eval/loss` -> the name that stands for it
        self._beside_eval = False  # every row of that name has had a validation loss beside it
        self._stands_in: dict[str, object] = {}  # metric -> the newest count, where its name only stands for the loss
        self.assumed = False
        """A name has got another meaning since this was last set to False."""
        self._of_terms: set[str] = set()  # metrics that have terms only

    @property
    def trains(self) -> bool:
        """Whether there is a loss of training."""
        return "train/loss" in self._names

    def be(self, metric: str, name: str) -> None:
        """Draw a name, which has been a metric of its own, as this loss."""
        self._curves.rename(shown(name), metric)
        self._names[metric] = name.lower()

    def choose(self, plan: Plan, read: Mapping[str, float], values: dict[str, float], count: object) -> None:
        """Put the losses of a record into `values`: one of each split as the curve, the others under their own names.

        `count`: the step and the epoch of the record.
        """
        beside_eval = bool(plan.losses["eval"])
        for split, names in plan.losses.items():
            if names:
                self._choose(split, names, read, values, plan.stands_in, count, beside_eval=beside_eval)

    def _choose(
        self,
        split: str,
        names: Sequence[str],
        read: Mapping[str, float],
        values: dict[str, float],
        stands_in: frozenset[str],
        count: object,
        *,
        beside_eval: bool,
    ) -> None:
        metric = f"{split}/loss"
        if self._reads.chosen(split):
            for name in names:
                by_hand = self._reads.meaning(name).precedence == BY_HAND
                values[metric if by_hand else shown(name)] = read[name]
                if by_hand:
                    self._names[metric] = name
            return
        spelled, stands = names[0].lower(), names[0] in stands_in
        chosen = self._names.get(metric)
        if chosen is not None and chosen != spelled and metric in self._stands_in:
            if not stands:
                self._be_own(metric, chosen)
                chosen = None
            elif self._stands_in[metric] == count:  # two terms of one step, on two lines
                self._be_own(metric, chosen)
                self._of_terms.add(metric)
                chosen = None
        if chosen is None and not (stands and metric in self._of_terms):
            self._names[metric] = chosen = spelled
            if split == "train":
                self._beside_eval = beside_eval
        elif split == "train" and chosen == spelled:
            self._beside_eval = self._beside_eval and beside_eval
        elif split == "train" and chosen is not None and self._beside_eval and not beside_eval and not stands:
            # The rows before were evaluations that estimate the training loss too; these are the training itself.
            self._be_own(metric, chosen)
            self._names[metric] = chosen = spelled
            self._beside_eval = False
        if chosen == spelled and stands:
            self._stands_in[metric] = count
            if is_total(names[0]):  # in an evaluation too, where no terms may be beside it
                self._reads.assume(names[0], Meaning(Role.LOSS, "", STAND_IN))
                self.assumed = True
        for n, name in enumerate(names):
            if n == 0 and chosen == spelled:
                values[metric] = read[name]
                continue
            other = shown(name)
            values[f"eval/{other}" if split == "eval" and not self._reads.meaning(name).split else other] = read[name]

    def _be_own(self, metric: str, name: str) -> None:
        """Draw what has been the loss under its own name."""
        self._curves.rename(metric, shown(name))
        del self._names[metric]
        self._stands_in.pop(metric, None)
