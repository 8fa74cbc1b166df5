"""Boxes of names and values, a line each, as programs of reinforcement learning draw them: one record a box.

    ---------------------------------
    | time/              |          |
    |    total_timesteps | 20000    |
    | train/             |          |
    |    loss            | 0.62     |
    ---------------------------------

A row without a value names the section of the rows below it. A ruler ends a box, unless the rows below it continue with
other names.
"""

from __future__ import annotations

from tdiff.patterns import lazy
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.numbers import parsed
from tdiff.watch.formats.prefix import without_colours

_SIDES = "|\u2502\u2503\u2551"
_LINES = "\u2500-\u257f"
STARTS = frozenset("|+-=_*#~ \x1b" + "".join(map(chr, range(0x2500, 0x2580))))
"""Characters with which a line of a box begins."""
_RULE = lazy(rf"\s*[-+=|_*#~{_LINES}][-+=|_*#~ {_LINES}]{{6,}}")
_ROW = lazy(rf"\s*[{_SIDES}](?P<name>[^{_SIDES}]*)(?:[{_SIDES}](?P<value>[^{_SIDES}]*))?[{_SIDES}]\s*")
_COUNT = r"(?P<value>\d[\d,]*)\s*(?:/|of)\s*(?P<total>\d[\d,]*)"
_TITLE = lazy(rf"\W*(?P<name>[A-Za-z][A-Za-z _-]{{0,30}}?)[\s:=#]*(?:{_COUNT}|(?P<alone>\d[\d,]*))\W*")
"""A count in a row of one cell (`Iteration 5 / 100`)."""
_OF_TOTAL = lazy(_COUNT)
_NAME = lazy(r"(?=.*[^\W\d])[\w ./()%:@|+-]{1,80}")
_COUNTS_NOW = {"total_timesteps": "env_steps", "total_env_steps": "env_steps"}
"""Counts of what has been done, whose names are elsewhere those of a plan."""
_STEPS_OF_AGENTS = frozenset(["env_steps", "timesteps"])
"""What is counted rather than the iterations of training."""
_WITHOUT_MEANING = frozenset(["time", "rollout"])
"""Sections that say nothing of their counts."""
_MOST = 200


class Boxes:
    """Collects the rows of boxes."""

    def __init__(self) -> None:
        self.open = False
        """A box may go on with the next line."""
        self._values: dict[str, float] = {}
        self._totals: dict[str, float] = {}
        self._names: set[str] = set()  # of rows and of sections, as they are there
        self._section = ""
        self._ruled = False  # a ruler has come after the newest row

    def take(self, line: str) -> tuple[Fields | None, bool]:
        """(the record that this line ends, whether the line is a row of a box)."""
        text = without_colours(line)
        if _RULE.fullmatch(text) is not None:
            record = self.settle() if self._ruled else None  # nothing continues behind two rulers
            self.open, self._ruled = True, bool(self._names)
            return record, False
        row = _ROW.fullmatch(text) if self.open else None
        if row is None or len(self._names) > _MOST:
            record = self.settle() if self._ruled else None
            self._begin()
            self.open = False
            return record, False
        name, value = row["name"].strip(), (row["value"] or "").strip()
        if not value and (title := _TITLE.fullmatch(name)) is not None:
            name, value = title["name"], title["alone"] or f"{title['value']}/{title['total']}"
        again = name in self._names
        record = self.settle() if self._ruled and again else None
        if self._ruled and again:
            self._begin()
        self._ruled = False
        self._row(name, value)
        return record, True

    def settle(self) -> Fields | None:
        """The record of a box that a ruler has closed, which no row continues."""
        record = self.closed
        self._begin()
        return record

    @property
    def closed(self) -> Fields | None:
        """The record of the box that the newest line, a ruler, has closed; it may go on."""
        if not self._ruled or not self._values:
            return None
        values, agents = self._values, _STEPS_OF_AGENTS & self._values.keys()
        values = {f"time/{name}" if agents and name == "iterations" else name: values[name] for name in values}
        return Fields(values=values, totals=self._totals, text="|")

    def _begin(self) -> None:
        self._values, self._totals, self._names, self._section, self._ruled = {}, {}, set(), "", False

    def _row(self, name: str, value: str) -> None:
        self._names.add(name)
        if not value:
            self._section = name.strip("/: ")
            return
        if _NAME.fullmatch(name) is None:
            return
        name = name.removeprefix("time/")
        name = _COUNTS_NOW.get(name.removeprefix("train/"), name)
        if self._section and self._section.lower() not in _WITHOUT_MEANING and "/" not in name:
            name = f"{self._section}/{name}"
        of_total = _OF_TOTAL.fullmatch(value)
        number = parsed(of_total["value"] if of_total is not None else value.rstrip(" %"))
        if number is None or name in self._values:
            return
        self._values[name] = number
        if of_total is not None and (total := parsed(of_total["total"])) is not None:
            self._totals[name] = total
