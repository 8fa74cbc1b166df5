"""Races and batches of a view: what they are made of, and the screen that shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tdiff.draw.palettes import Theme

if TYPE_CHECKING:  # the first frame shows no race
    from tdiff.tui.race_screen import RaceScreen
    from tdiff.watch.generation.lane import Entry
    from tdiff.watch.generation.race import Race
    from tdiff.watch.generation.session import Live


class Racing:
    """Opens the screen of a race, with the prompt, the seed and the length of the text that is shown."""

    def __init__(self, changed_keys: Mapping[str, str], ready: Callable[[], bool], clock: Callable[[], float]) -> None:
        """`ready` says whether a frame can be drawn now."""
        self._changed_keys, self._ready, self._clock = changed_keys, ready, clock
        self.screen: RaceScreen | None = None
        """The screen that is open."""
        self._halted = False

    def race(self, live: Live, chosen: Sequence[Entry], theme: Theme) -> RaceScreen:
        """The screen of a race between these entries, for the model of `live` unless they name another one."""
        from tdiff.tui.race_screen import RaceScreen

        self.screen = RaceScreen(
            _race(live, chosen), theme, changed_keys=self._changed_keys, ready=self._ready, clock=self._clock, save=save
        )
        return self.screen

    def batch(self, live: Live, count: int, theme: Theme) -> RaceScreen:
        """The screen of so many texts of one batch, with the settings of `live`."""
        from tdiff.tui.race_screen import RaceScreen
        from tdiff.watch.generation.lane import Entry

        def of(count: int) -> Race:
            settings = live.options
            rows = [Entry(f"row {row}", settings, row=row) for row in range(count)]
            return _race(live, rows, measures=False)  # rows of one batch do not compete

        self.screen = RaceScreen(
            of(count),
            theme,
            changed_keys=self._changed_keys,
            ready=self._ready,
            clock=self._clock,
            save=save,
            recount=of,
        )
        return self.screen

    def halt(self) -> None:
        """Stop the processes until `resume`: the view is suspended."""
        if self.screen is not None and not self._halted:
            self._halted = True
            self.screen.race.halt()

    def resume(self) -> None:
        """Continue the halted processes."""
        if self.screen is not None and self._halted:
            self.screen.race.resume()
        self._halted = False


def _race(live: Live, chosen: Sequence[Entry], *, measures: bool = True) -> Race:
    """The race from the prompt of the newest text of `live`, or from that of its next one."""
    prompt, length, seed, row = live.prompt, live.length, live.seed, 0
    recording = live.recording
    if (
        recording is not None
        and live.branch is None
        and (live.prompt is None or recording.header.prompt == live.prompt)
    ):
        header = recording.header
        prompt, length, row = header.prompt, header.cells - len(header.given), header.row
    from tdiff.watch.generation.race import Race

    return Race(live.another_process, chosen, prompt=prompt, length=length, seed=seed, row=row, measures=measures)


def save(race: Race) -> str:
    """Save the trace of every text to files in the working directory; a notice."""
    from tdiff.watch.generation import recording as files

    saved = []
    for lane in race.lanes:
        if lane.recording is None:
            continue
        path = files.free_path()
        try:
            files.save(lane.recording, path)
        except OSError as why:
            return f"{path} cannot be written: {why.strerror}"
        saved.append(str(path))
    return f"saved {', '.join(saved)}" if saved else "there is no trace to save yet"
