"""The screen of several texts that are generated at once: a race of settings or models, or the texts of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual import events
from textual.app import ComposeResult
from textual.containers import Container

from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line, legend
from tdiff.draw.steps_line import scrub_line
from tdiff.protocol.messages import MAX_LANES
from tdiff.tui.key import bindings
from tdiff.tui.panes.lane import LanePane
from tdiff.tui.race_keys import RACE_KEYS
from tdiff.tui.race_lens import RaceLens
from tdiff.tui.race_text import heading, key_hints, verdict_line
from tdiff.tui.selection import Selection
from tdiff.tui.widgets.lines import Lines, shortened, two_ends
from tdiff.watch.generation.race import AXES, Race

_FRAME_SECONDS = 1 / 30
_REPLAY_SECONDS = 10.0
"""Seconds for which a replay takes."""
_LEGEND_ROWS = 30
"""Rows of a window from which the meaning of the colours is shown."""


def columns_of(count: int, width: int, height: int) -> int:
    """In how many columns so many texts are shown in a window."""
    if count <= 2:
        return 2 if count == 2 and width >= 100 else 1
    if count == 3:
        return 3 if width >= 120 else 1
    return 2 if count <= 4 else 3


def has_room(count: int, width: int, height: int) -> bool:
    """Whether so many texts can be read beside each other in a window."""
    return count <= 4 or (width >= 100 and height >= 32)


class RaceScreen(RaceLens):
    """Texts beside each other, all at the same model call or time. Keys of the app do not act here."""

    BINDINGS = bindings(RACE_KEYS, app=True)  # type: ignore[assignment]
    DEFAULT_CSS = """
    RaceScreen { background: $background; layout: vertical; }
    RaceScreen #lanes { layout: grid; height: 1fr; grid-gutter: 0; }
    RaceScreen Lines { height: 1; }
    """

    def __init__(
        self,
        race: Race,
        theme: Theme,
        *,
        changed_keys: Mapping[str, str],
        ready: Callable[[], bool],
        clock: Callable[[], float],
        save: Callable[[Race], str],
        recount: Callable[[int], Race] | None = None,
    ) -> None:
        """`ready` says whether a frame can be drawn now; `save` saves the traces, and returns a notice.

        `recount` makes another batch with so many texts; None: it is a race.
        """
        super().__init__()
        self.race, self._theme, self._batch = race, theme, recount is not None
        self._changed_keys, self._ready, self._clock, self._save = changed_keys, ready, clock, save
        self._recount = recount
        self._replayed: float | None = None  # when the replay began
        self._by_letter: dict[str, LanePane] = {}
        self._branches = 0  # panes of branches so far
        self._undrawn, self._drawn = True, (-1.0, "")
        self._head, self._scrub, self._verdict = Lines(id="race-head"), Lines(id="race-scrub"), Lines(id="race-verdict")
        self._legend, self._hints = Lines(id="race-legend"), Lines(id="race-hints")

    def compose(self) -> ComposeResult:
        """A line above, the texts, and the lines below."""
        yield self._head
        self._make_panes()
        yield Container(*self.panes, id="lanes")
        yield self._legend
        yield self._scrub
        yield self._verdict
        yield self._ask
        yield self._hints

    def _make_panes(self) -> None:
        letters = [lane.letter for lane in self.race.lanes]
        self._by_letter = {letter: LanePane(self._theme, id=f"lane-{letter}") for letter in letters}
        self.panes = list(self._by_letter.values())

    def on_mount(self) -> None:
        """Begin, and look for what is new 30 times a second until all is complete."""
        self._arrange(*self.app.size)
        self._frames = self.set_interval(_FRAME_SECONDS, self.frame)
        self.race.begin()

    def on_unmount(self) -> None:
        """End the processes."""
        self.race.close()

    def on_resize(self, event: events.Resize) -> None:
        """Arrange the texts for another size."""
        self._arrange(*event.size)
        self.call_after_refresh(self.draw)

    def on_lane_pane_fitted(self) -> None:
        """Draw a text for the size of its pane, which may be new."""
        self._undrawn = True
        self._frames.resume()

    def _arrange(self, width: int, height: int) -> None:
        grid = self.query_one("#lanes")
        alone = self._zoomed or width < 40 or height < 14 or not has_room(len(self.panes), width, height)
        for n, pane in enumerate(self.panes):
            pane.display = not alone or n == self._chosen
            pane.chosen = n == self._chosen
        grid.styles.grid_size_columns = 1 if alone else columns_of(len(self.panes), width, height)
        self._legend.display = height >= _LEGEND_ROWS
        self._hints.display, self._verdict.display = height >= 8, height >= 10

    # Over time

    def frame(self) -> None:
        """Take in what is new; draw it if a frame can be drawn now."""
        self._undrawn |= self.race.poll()
        if self._replayed is not None:
            share = (self._clock() - self._replayed) / _REPLAY_SECONDS
            self.point = min(1.0, share) * self.race.end(self.axis)
            if share >= 1:
                self._replayed = None
            self._undrawn = True
        elif self.following and self.point != (reached := self.race.reached(self.axis)):
            self.point, self._undrawn = reached, True
        if self._undrawn and self._ready():
            self.draw()
        if not self._undrawn and not self.race.busy and self._replayed is None:
            self._frames.pause()

    def draw(self) -> None:
        """Draw all texts at this point."""
        if not self.is_mounted:
            return
        self._undrawn = False
        race, width = self.race, self.app.size.width
        best = [] if self.point < race.end(self.axis) else race.best
        alone = sum(pane.display for pane in self.panes) == 1
        for pane, lane in zip(self.panes, race.lanes, strict=True):
            if not pane.display or not pane.is_mounted:
                continue
            step = lane.at(self.axis, self.point)
            difference = self.difference(lane)
            pane.lens.selection = self.selection if pane.chosen else Selection(self.selection.cursor)
            pane.show(lane, step, difference, best=best == [lane], alone=alone, waiting=race.state)
        state = "replay" if self._replayed is not None else "" if self.following else "paused"
        self._head.show([heading(race, self.axis, self.point, state, width, batch=self._batch)])
        end, shown = race.end(self.axis), self.point
        by_calls = self.axis == "calls"
        line = scrub_line(round(shown), round(end), race.complete, width - 1) if by_calls else None
        self._scrub.show([line or _in_seconds(shown, end, race.complete, width - 1)])
        note: Line = [(f" {self._note}", "bold")] if self._note else []
        if self._ask.display:
            note = [(f" {self._ask.placeholder}", "")]
        self._verdict.show([shortened(note or verdict_line(race, batch=self._batch), width)])
        self._legend.show([[(" ", ""), *legend(self._theme, max(1, width - 2))]])
        looking = self.selection.cursor is not None
        hints = key_hints(self._changed_keys, width, ascii=self._theme.ascii, batch=self._batch, looking=looking)
        self._hints.show([hints])

    # Keys

    def _to(self, point: float) -> None:
        self.following, self._replayed, self._note = False, None, ""
        self.point = min(max(point, 0.0), self.race.end(self.axis))
        self.draw()

    def _resume(self) -> None:
        self._note, self._undrawn = "", True
        self._frames.resume()
        self.frame()

    def action_close(self) -> None:
        """Show all texts again, or return to the view."""
        if self._zoomed:
            self.action_zoom()
        else:
            self.dismiss()

    def action_pause(self) -> None:
        """Pause at this point, or resume at the live edge."""
        if self.following or self._replayed is not None:
            self._to(self.point)
        else:
            self.action_live()

    def action_step(self, calls: int) -> None:
        """Go so many model calls forward, or as many hundredths of the time; back where negative."""
        unit = 1.0 if self.axis == "calls" else self.race.end(self.axis) / 100
        self._to(self.point + calls * unit)

    def action_leap(self, tenths: int) -> None:
        """Go so many tenths forward; back where negative."""
        self._to(self.point + tenths * max(1.0 if self.axis == "calls" else 0.0, self.race.end(self.axis) // 10))

    def action_first(self) -> None:
        """Go to the beginning."""
        self._to(0.0)

    def action_live(self) -> None:
        """Go to the live edge."""
        self.following, self._replayed = True, None
        self._resume()

    def action_replay(self) -> None:
        """Play all texts from the beginning, together."""
        self.following, self._replayed = False, self._clock()
        self._resume()

    def action_axis(self) -> None:
        """Compare at equal model calls, or at equal times."""
        share = self.point / end if (end := self.race.end(self.axis)) else 0.0
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self.point = self.race.reached(self.axis) if self.following else share * self.race.end(self.axis)
        self._note = ""
        self.draw()

    def action_zoom(self) -> None:
        """Show the selected text alone, or all again."""
        self._zoomed = not self._zoomed
        self._arrange(*self.app.size)
        self.call_after_refresh(self.draw)

    def action_select(self, count: int) -> None:
        """Select another text."""
        self.end_selection()
        self._chosen = (self._chosen + count) % len(self.panes)
        self._arrange(*self.app.size)
        self.call_after_refresh(self.draw)

    def action_new(self) -> None:
        """Generate other texts from the same prompt."""
        chosen = self.race.roots.index(self._lane.root)
        self.race.again(self.race.row + len({lane.entry.row for lane in self.race.lanes}))
        self.end_selection()
        self._chosen = chosen
        self.fit_panes()
        self.following, self._replayed, self.point = True, None, 0.0
        self._resume()

    async def action_count(self) -> None:
        """Generate four texts instead of nine, or nine instead of four."""
        if self._recount is None:
            return
        count = 4 if len(self.race.roots) > 4 else MAX_LANES
        if not has_room(count, *self.app.size):
            self._note = f"{count} texts need a window of 100 columns and 32 rows"
            self.draw()
            return
        self.race.close()
        self.race = self._recount(count)
        self.end_selection()
        self._chosen, self._zoomed, self.following, self._replayed, self.point = 0, False, True, None, 0.0
        grid = self.query_one("#lanes")
        await grid.remove_children()
        self._make_panes()
        await grid.mount(*self.panes)
        self._arrange(*self.app.size)
        self.race.begin()
        self._resume()

    def fit_panes(self) -> None:
        """Show a pane for each text, after texts came or went."""
        letters = [lane.letter for lane in self.race.lanes]
        for letter in [letter for letter in self._by_letter if letter not in letters]:
            self._by_letter.pop(letter).remove()
        self.panes = []
        for letter in letters:
            if letter not in self._by_letter:
                self._branches += 1  # a pane that is being removed still has its id
                self._by_letter[letter] = LanePane(self._theme, id=f"branch-{self._branches}")
                self.query_one("#lanes").mount(self._by_letter[letter], after=self.panes[-1])
            self.panes.append(self._by_letter[letter])
        self._chosen = min(self._chosen, len(self.panes) - 1)
        self._arrange(*self.app.size)
        self.call_after_refresh(self.draw)

    def action_save(self) -> None:
        """Save the traces."""
        self._note = self._save(self.race)
        self.draw()


def _in_seconds(shown: float, end: float, ended: bool, width: int) -> Line:
    """The line of steps over a time."""
    head, tail = " ◀ 0 s ", f" {end:.1f} s ▶ " if ended else " … "
    label = f"{shown:.1f} s" if 0 < shown < end or not ended else ""
    room = max(0, width - len(head) - len(tail) - len(label) - 1)
    done = round(room * min(1.0, shown / end)) if end else 0
    left: Line = [(head, "dim"), ("━" * done + "╸", ""), (label, "bold")]
    return two_ends(left, [(tail, "dim")], width, "┄", "dim")
