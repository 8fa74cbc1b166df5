"""The texts one can go through: the samples of a run in the order of their steps, then what was generated here."""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tdiff.protocol.events import Sample
from tdiff.watch.generation.recording import Recording
from tdiff.watch.generation.session import KEPT

_LARGEST = 64 << 20
"""Bytes of a trace that is read; a larger one is none of ours."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One text."""

    label: str
    step: int | None
    """Of the training, where it is known."""
    sample: Sample | None
    folder: Path | None
    """The run's folder, where its files can be read here."""
    live: bool = False
    _recording: Recording | None = None

    def recording(self) -> Recording:
        """Its steps; where its trace cannot be read, the finished text alone."""
        if self._recording is not None:
            return self._recording
        assert self.sample is not None
        read = self._read() if self.folder is not None else None
        return read or Recording.of_text(self.sample.prompt, self.sample.text)

    def _read(self) -> Recording | None:
        """Its trace. The path comes from a log: it may only name a file of the run's own, and anything may be there."""
        assert self.sample is not None and self.folder is not None
        try:
            path = (self.folder / self.sample.path).resolve()
            if not path.is_relative_to(self.folder.resolve()) or not stat.S_ISREG((found := path.stat()).st_mode):
                return None
            if found.st_size > _LARGEST:
                return None
            return Recording.read(path.read_text("utf-8", errors="replace").splitlines())
        except (OSError, RuntimeError, ValueError):  # not there, a name that none can have, links in a circle
            return None


class Gallery:
    """Entries, and the one that is looked at."""

    def __init__(self) -> None:
        self._recorded: list[Entry] = []
        self._known: list[Sample] = []
        self._live: list[Entry] = []
        self._written = 0  # texts so far, with those that are not kept any more
        self.selected: Entry | None = None
        """What the user went to; None: the live edge."""

    def know(self, samples: Sequence[Sample], folder: Path | None) -> None:
        """The samples of the run as they are now."""
        if list(samples) == self._known:
            return
        before = {id(sample): entry for sample, entry in zip(self._known, self._recorded, strict=True)}
        self._known = list(samples)
        self._recorded = [
            before.get(id(sample)) or Entry(f"sample of step {sample.step:,}", sample.step, sample, folder)
            for sample in self._known
        ]

    def add_live(self, recording: Recording, step: int | None) -> None:
        """A text that is being generated here."""
        at = f" by step {step:,}" if step is not None else ""
        self._written += 1
        self._live.append(Entry(f"text {self._written}{at}", None, None, None, True, recording))
        del self._live[:-KEPT]

    @property
    def entries(self) -> list[Entry]:
        """All, in order."""
        return [*self._recorded, *self._live]

    @property
    def selected_sample(self) -> int | None:
        """The number of the run's sample that is looked at."""
        return self._recorded.index(self.selected) if self.selected in self._recorded else None

    def newest_recorded(self) -> Entry | None:
        """The run's last sample."""
        return self._recorded[-1] if self._recorded else None

    def move(self, ways: int) -> Entry | None:
        """Go so many entries on; from the live edge the first step back is to the entry before the last."""
        entries = self.entries
        if not entries:
            return None
        here = entries.index(self.selected) if self.selected in entries else len(entries) - bool(self._live)
        self.selected = entries[min(max(here + ways, 0), len(entries) - 1)]
        return self.selected

    def at(self, step: float) -> Entry | None:
        """The run's last sample that was written at `step` or before, or its first."""
        if not self._recorded:
            return None
        at = bisect_right([entry.step or 0 for entry in self._recorded], step)
        return self._recorded[max(0, at - 1)]
