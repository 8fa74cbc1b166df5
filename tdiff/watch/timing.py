"""When records came: by the dates in them, by the seconds since the start that they report, or by their arrival."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from tdiff.series.series import Series
from tdiff.watch import alerts
from tdiff.watch.formats.base import MAX_TIME

_USUAL_GAPS, _STORED_GAPS = 65, 513
"""Times that give the usual gap, and times that give the longest gaps."""
_MAX_ARRIVALS = 4_096
_NEWEST = 65
"""Records whose pace says when the last step comes."""
_BREAK = 20.0
"""A gap of this many usual ones between two records is a break, such as that before a restart, and no pace."""


class Timing:
    """Converts between steps and times, and measures the gaps between records."""

    def __init__(self, clock: Series) -> None:
        """`clock`: step -> seconds since the epoch, or since the start if the source reports only those."""
        self._clock = clock
        self.newest: float | None = None
        """The time of the newest record (s since the epoch); its arrival if records have no dates."""
        self.dated = False
        """Whether records have dates."""
        self.since_start: float | None = None
        """The newest seconds since the start, if the source reports only those."""
        self._epoch: float | None = None  # what turns values of the clock into seconds since the epoch
        self._times: deque[float] = deque(maxlen=_STORED_GAPS)  # of records
        self._own_times: deque[float] = deque(maxlen=_STORED_GAPS)  # since the start, by progress bars and columns
        self._seconds_per_step = 0.0  # by the progress bar
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_MAX_ARRIVALS)  # (time, step) of lines without dates

    def add_dates(self, times: Sequence[float]) -> None:
        """Dates of records (s since the epoch); NaN where a record has none."""
        self.use_dates()
        self._times.extend(times[-_STORED_GAPS:])

    def use_dates(self) -> None:
        """Records have dates: the clock holds seconds since the epoch."""
        self.dated, self._epoch = True, 0.0

    def add_elapsed(self, seconds: float) -> None:
        """Seconds since the start, as of the newest record or progress bar."""
        if math.isfinite(seconds):
            self._own_times.append(seconds)

    def advance(self, step: int, elapsed: float) -> None:
        """The step and the seconds since the start that a progress bar shows."""
        self._seconds_per_step = elapsed / step if step else 0.0
        self.since_start = elapsed

    def arrive(self, time: float, step: int) -> None:
        """Lines without dates arrived at `time` (s since the epoch), after which the newest step was `step`."""
        self._times.append(time)
        self._arrivals.append((time, step))
        if self.since_start is not None:
            self._epoch = time - self.since_start

    def see(self, time: float) -> None:
        """There is a record of this time."""
        if not math.isnan(time):
            self.newest = time

    @property
    def known(self) -> bool:
        """Whether steps have times."""
        return self._epoch is not None or bool(self._arrivals)

    @property
    def gap(self) -> float:
        """The usual seconds between records: the median of the newest 64; 0 if unknown."""
        usual = max(alerts.usual_gap(list(times)[-_USUAL_GAPS:]) for times in (self._times, self._own_times))
        return max(usual, self._seconds_per_step)

    @property
    def long_gap(self) -> float:
        """The longest gap between records that is not a single exception; 0 if unknown."""
        return max(alerts.long_gap(times) for times in (self._times, self._own_times))

    def left(self, step: float, total: float) -> float | None:
        """Seconds from the newest record, of `step`, until step `total`, at the pace of the newest records.

        None if the times of fewer than three records are known, or if the last step has come.
        """
        steps, times = self._clock.steps[-_NEWEST:], self._clock.mean[-_NEWEST:]
        if not len(steps):
            steps = array("d", [step for _, step in self._arrivals][-_NEWEST:])
            times = array("d", [time for time, _ in self._arrivals][-_NEWEST:])
        gaps = [
            (later - earlier, steps[n + 1] - steps[n])
            for n, (earlier, later) in enumerate(pairwise(times))
            if steps[n + 1] > steps[n] and later >= earlier
        ]
        if step >= total or len(gaps) < 2:
            return None
        longest = _BREAK * alerts.usual_gap(times)  # of the gaps that the resolution of the dates shows
        gaps = [(seconds, count) for seconds, count in gaps if seconds <= longest]
        left = (total - step) * sum(seconds for seconds, _ in gaps) / sum(count for _, count in gaps)
        return left if 0 < left < MAX_TIME else None

    def time_of(self, step: float) -> float | None:
        """Seconds since the epoch at which the run reached `step`; None if unknown."""
        times = self._clock.mean
        if self._epoch is None or not times:
            return None
        time = self._epoch + times[min(self._clock.index(step), len(times) - 1)]
        return time if 0 <= time < MAX_TIME else None

    def step_at(self, time: float) -> float:
        """The newest step at `time` (s since the epoch); 0 before the first."""
        if self._epoch is None:
            return next((step for arrival, step in reversed(self._arrivals) if arrival <= time), 0)
        index = bisect_right(self._clock.mean, time - self._epoch)
        return self._clock.steps[index - 1] if index else 0.0
