"""Event files in the run's folder that TensorBoard reads, without its package."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import IO

import tomli_w

from tdiff.protocol import event_file
from tdiff.protocol.events import Event, Resume, Sample, Start
from tdiff.runs.trackers.base import measurements

PREFIX = "events.out.tfevents."
"""How the names of event files begin."""


class TensorBoard:
    """Writes the numbers and samples of a run into a new event file of `folder` each time that training starts."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def record(self, event: Event) -> None:
        """Append what the record tells and flush it. Raises OSError where it cannot be written."""
        parts = []
        if isinstance(event, Start):
            settings = "".join(f"    {line}\n" for line in tomli_w.dumps(event.settings).splitlines())
            parts.append(event_file.text(0, event.time, "settings", settings))
        elif isinstance(event, Resume):
            parts.append(event_file.restart(event.step + 1, event.time))
        elif isinstance(event, Sample):
            # Four blanks make Markdown keep the lines of the text.
            content = "".join(f"    {line}\n" for line in event.text.splitlines())
            parts.append(event_file.text(event.step, event.time, "sample", content))
        elif values := measurements(event):
            parts.append(event_file.scalars(event.step, event.time, values))
        if parts:
            file = self._file or self._begin(event.time)
            file.write(b"".join(parts))
            file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _begin(self, time: float) -> IO[bytes]:
        # TensorBoard reads the files of a folder in the order of their names, so a clock that was set back must not
        # give the new file an earlier name.
        latest = max((_seconds(path) for path in self._folder.glob(f"{PREFIX}*")), default=0)
        seconds = max(int(time), latest + 1)
        path = self._folder / f"{PREFIX}{seconds:010}.{platform.node()}.{os.getpid()}.0"
        self._file = path.open("xb")
        self._file.write(event_file.first_record(time))
        return self._file


def _seconds(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX).split(".")[0]
    return int(digits) if digits.isdecimal() else 0
