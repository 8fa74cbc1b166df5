"""One or two recorded generations on one timeline, counted in model calls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tdiff.config.decoding import label
from tdiff.errors import TdiffError
from tdiff.visible import visible_line
from tdiff.watch.generation.recording import Recording, recordings

MAX_FRAMES = 240
"""Frames of an animation; of more steps, evenly spread ones are shown."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is shown at one time: a step of each recording."""

    steps: tuple[int, ...]
    """For each recording the number of its step, 0 before the first."""
    seconds: float
    """How long it is shown."""


def read(path: Path, sample: int = 1) -> Recording:
    """The generation in a trace file; of several, the one with this number, from 1.

    Raises TdiffError for a file that cannot be read, holds no generation, or fewer than `sample`.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = list(recordings(file))
    except OSError as error:
        raise TdiffError(f"the trace {str(path)!r} cannot be read: {error.strerror}") from None
    if not found:
        raise TdiffError(f"{str(path)!r} holds no generation: a trace is what `tdiff generate --trace FILE` writes")
    if not 1 <= sample <= len(found):
        raise TdiffError(f"{str(path)!r} holds {len(found)} generation{'s' * (len(found) > 1)}; got --sample {sample}")
    return found[sample - 1]


def moments(recorded: Sequence[Recording], fps: float, hold: float, max_frames: int = MAX_FRAMES) -> list[Moment]:
    """All moments of an animation: first the masks alone, last the finished texts, which are shown for `hold` seconds.

    Time is counted in model calls, so that a recording with fewer calls is finished earlier.
    """
    calls = [[recording.calls(step) for step in range(1, recording.steps + 1)] for recording in recorded]
    times = sorted({0, *(call for each in calls for call in each)})
    if len(times) > max_frames:
        last = len(times) - 1
        times = sorted({times[round(n * last / (max_frames - 1))] for n in range(max_frames)})
    steps = [tuple(bisect_right(each, time) for each in calls) for time in times]
    return [Moment(each, 1 / fps) for each in steps[:-1]] + [Moment(steps[-1], hold)]


def moment_at(recorded: Sequence[Recording], step: int | None) -> Moment:
    """A still: each recording after this step of its own, or as it ended for None."""
    return Moment(tuple(r.steps if step is None else min(step, r.steps) for r in recorded), 0.0)


def footer(recording: Recording) -> str:
    """Model, decoder with its most important setting, seed and number of calls."""
    header = recording.header
    parts = [header.model, label(header.decoder, header.settings), f"seed {header.seed}"]
    if recording.ended is not None:
        parts.append(f"{recording.ended.model_calls} model calls")
    return " · ".join(visible_line(part) for part in parts if part)
