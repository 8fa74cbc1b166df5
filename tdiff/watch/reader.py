"""Read the lines of one source into a run state: detect their format, and say what they lack."""

from __future__ import annotations

from tdiff.watch.formats.choice import Choice
from tdiff.watch.formats.detect import Detector
from tdiff.watch.run_state import RunState


class Reader:
    """Reads the lines of one source into a run state."""

    def __init__(self, name: str = "", state: RunState | None = None, choice: Choice | None = None) -> None:
        """Fill `state`, by default an empty one with this name. `choice`: what the user says about its numbers."""
        self.state = state or RunState(name)
        self._choice = choice
        self._begin()

    def feed(self, lines: list[str], arrived: float | None = None) -> None:
        """Read the next complete lines, without their line ends.

        `arrived` is when they came or were written (s since the epoch), for formats whose records have no dates; None
        if unknown, as for lines that are not the newest.
        """
        self._detector.feed(lines)
        self._remark()
        if arrived is not None and lines:
            self.state.arrive(arrived)

    def settle(self, *, over: bool = False) -> bool:
        """No line has come for a while: report what waits for the next line. Returns whether anything did.

        `over`: no line will ever come.
        """
        new = self._detector.settle(over)
        self._remark()
        return new

    @property
    def missing(self) -> str:
        """What the user named that has not occurred so far, in words; "" where everything has."""
        if not self._choice:
            return ""
        state, names = self.state, self._detector.names
        if names.choice.pattern:
            return state.note
        from tdiff.watch.formats.survey import missing

        return missing(names, [*state.metrics, *self._detector.survey.names]) if state.format else ""

    def _remark(self) -> None:
        """Say what was looked for while there is no loss."""
        state = self.state
        if self._detector.trouble:
            state.note = self._detector.trouble
            return
        if "train/loss" in state.metrics or "eval/loss" in state.metrics or state.format in ("", "tdiff", "trace"):
            state.note = ""
            return
        from tdiff.watch.formats.survey import not_found

        records = state.logged - bool(self._choice)
        state.note = not_found(self._detector.survey, state.format, records, state.metrics, self._detector.names)

    def close(self) -> None:
        """The source has ended."""
        self.settle(over=True)
        self.state.closed = True

    def reset(self) -> None:
        """The source was replaced or truncated: read it anew. Its curves become an earlier attempt."""
        self.state.reset(rewritten=True)
        self._begin()

    def forget(self) -> None:
        """Another source is read from now on: forget everything."""
        self.state.reset()
        self._begin()

    def _begin(self) -> None:
        self._detector = Detector(self.state, self._choice)
        if self._choice:
            self.state.write(f"-- read with {self._choice.words}")
