"""The texts that the user can step through: the samples of a run by step, then the texts generated in this view."""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tdiff.protocol.events import Sample
from tdiff.watch.generation.recording import Recording

_LARGEST = 64 << 20
"""Largest size of a trace in bytes; a larger file is not a trace of tdiff."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One text."""

    label: str
    step: int | None
    """Training step, where it is known."""
    sample: Sample | None
    folder: Path | None
    """The run's folder, where its files are on this machine."""
    live: bool = False
    _recording: Recording | None = None

    def recording(self) -> Recording:
        """Its steps; only the finished text where its trace cannot be read."""
        if self._recording is not None:
            return self._recording
        assert self.sample is not None
        read = self._read() if self.folder is not None else None
        return read or Recording.of_text(self.sample.prompt, self.sample.text)

    def _read(self) -> Recording | None:
        """Its trace. The path comes from a log, so only a regular file in the run's folder is read."""
        assert self.sample is not None and self.folder is not None
        try:
            path = (self.folder / self.sample.path).resolve()
            if not path.is_relative_to(self.folder.resolve()) or not stat.S_ISREG((status := path.stat()).st_mode):
                return None
            if status.st_size > _LARGEST:
                return None
            return Recording.read(path.read_text("utf-8", errors="replace").splitlines())
        except (OSError, RuntimeError, ValueError):  # a missing file, an impossible name, a circle of links
            return None


class Gallery:
    """The entries, and the one that is selected."""

    def __init__(self) -> None:
        self._recorded: list[Entry] = []
        self._known: list[Sample] = []
        self._live: list[Entry] = []
        self._written = 0  # texts so far, including those that are no longer stored
        self.selected: Entry | None = None
        """The entry that the user went to; None: the live edge."""

    def update(self, samples: Sequence[Sample], folder: Path | None) -> None:
        """Set the samples of the run."""
        if list(samples) == self._known:
            return
        before = {id(sample): entry for sample, entry in zip(self._known, self._recorded, strict=True)}
        self._known = list(samples)
        self._recorded = [
            before.get(id(sample)) or Entry(f"sample of step {sample.step:,}", sample.step, sample, folder)
            for sample in self._known
        ]

    def add_live(self, recording: Recording, step: int | None) -> None:
        """Add a text that is being generated."""
        at = f" by step {step:,}" if step is not None else ""
        from tdiff.watch.generation.session import KEPT

        self._written += 1
        self._live.append(Entry(f"text {self._written}{at}", None, None, None, True, recording))
        del self._live[:-KEPT]

    @property
    def entries(self) -> list[Entry]:
        """All, in order."""
        return [*self._recorded, *self._live]

    @property
    def selected_sample(self) -> int | None:
        """The number of the run's sample that is selected; None where it is not one."""
        return self._recorded.index(self.selected) if self.selected in self._recorded else None

    def newest_recorded(self) -> Entry | None:
        """The run's last sample."""
        return self._recorded[-1] if self._recorded else None

    def move(self, count: int) -> Entry | None:
        """Go `count` entries forward; from the live edge the first step back is to the entry before the last."""
        entries = self.entries
        if not entries:
            return None
        at = entries.index(self.selected) if self.selected in entries else len(entries) - bool(self._live)
        self.selected = entries[min(max(at + count, 0), len(entries) - 1)]
        return self.selected

    def at(self, step: float) -> Entry | None:
        """The run's last sample at `step` or before, or its first."""
        if not self._recorded:
            return None
        at = bisect_right([entry.step or 0 for entry in self._recorded], step)
        return self._recorded[max(0, at - 1)]
