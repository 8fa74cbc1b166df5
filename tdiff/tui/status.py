"""The lines around the panes: what is watched and how it is, what happened last, and the keys that act now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby

from tdiff.draw.render import Line
from tdiff.formatting import duration
from tdiff.terminal.detect import Terminal
from tdiff.tui.figures import figures, flow, progress
from tdiff.tui.keys import KEYS, Key, shown
from tdiff.tui.layout import LOWEST, NARROWEST
from tdiff.tui.panes.details import alert_lines
from tdiff.tui.widgets.lines import clip, line_width, two_ends, wrapped
from tdiff.visible import visible_line
from tdiff.watch.follow import Watched
from tdiff.watch.run_state import RunState

_STATES = {
    "running": ("●", "bold"),
    "waiting": ("○", "dim"),
    "stalled": ("▲", "reverse"),
    "finished": ("✓", ""),
    "stopped": ("■", ""),
    "failed": ("✗", "reverse"),
    "died": ("✗", "reverse"),
}


_WORDY = 40
"""Columns from which alerts are counted in words."""


def above(watched: Sequence[Watched], terminal: Terminal, now: float, width: int, *, aged: bool = True) -> Line:
    """The first line: each run with its state and the age of its newest record; the terminal where there is room.

    Without ages there is the time of day at which that was so: for a screen that stays as it is.
    """
    runs = [_run(one, now, aged) for one in watched] or [[("no run", "dim")]]
    left: Line = [(" ", ""), *(part for run in runs for part in [*run, ("  ", "")])]
    title: Line = [(" tdiff watch ", "bold")]
    remedy: Line = [(f"{terminal.remedy} ", "bold")] if terminal.remedy else []
    where: Line = [(f"{_where(terminal)} ", "dim")]
    # What is told of the runs comes first; the rest has what room is left.
    for head, right in ((title, remedy or where), (title, []), ([], [])):
        if line_width([*head, *left, *right]) <= width:
            return two_ends([*head, *left], right, width)
    if len(runs) > 1:  # the state of each is told before anything else of one
        left = [(" ", ""), *(part for run in runs for part in [*run[:2], ("  ", "")])]
    return two_ends(left, [], width)


def too_small(width: int, height: int, above: Line) -> Line:
    """What a window lacks that has no room for a pane, and the first line of others behind it where there is room."""
    lacking = [f"{NARROWEST} columns"] * (width < NARROWEST) + [f"{LOWEST} rows"] * (height < LOWEST)
    size = f"{NARROWEST}x{LOWEST}"
    words = (f" tdiff needs {' and '.join(lacking)} ", f"needs {size}", size)
    need = next((one for one in words if len(one) <= width), size)
    rest = clip(above, width - len(need))
    return [(need, "reverse"), *(rest if width >= NARROWEST else [])]


def _run(one: Watched, now: float, aged: bool) -> Line:
    story, told = one.story, one.status()
    state = story.state(now)
    when = (story.ended.time if story.ended is not None else 0) or story.last_time
    age = f" {duration(max(0.0, now - when))} ago" if when else ""
    if not aged:
        age = f" at {time.strftime('%H:%M', time.localtime(now))}"
    mark, style = _STATES.get(state, ("·", ""))
    line: Line = [(visible_line(story.name), "bold"), (f" {mark} {state}", style), (age, style)]
    if told.text:
        line.append((f" ({told.text})", "dim"))
    if one.target.address:
        line.append((f" {told.lost} lost", "bold" if told.lost else "dim"))
    if one.filling is not None:
        line.append((f" reading {one.filling:.0%}", "dim"))
    return line


def _where(terminal: Terminal) -> str:
    colours = {"truecolor": "16M", "256": "256", "16": "16", "none": "no"}[terminal.colour]
    program = "" if terminal.program == "plain" else f"{terminal.program} · "
    return f"{program}{colours} colours"


def below(told: Line, stories: Sequence[RunState], width: int) -> tuple[Line, Line]:
    """What happened last, `told` before all else, and how many alerts there are; then what did not fit into the line.

    Of several runs the gravest of their newest notices is told.
    """
    notices = [notice for story in stories for notice in story.alerts]
    count = sum(notice.what != "ended" for notice in notices)
    words = f" [!] {count} alert{'s' if count != 1 else ''} " if width >= _WORDY else f" [!] {count} "
    right: Line = [(words, "bold")] if count else []
    if not told and notices:

        def weight(story: RunState) -> tuple[int, float]:
            newest = story.alerts[-1]
            return (newest.what != "ended") + (newest.what in ("died", "failed", "nan")), newest.time or 0.0

        last = max((story for story in stories if story.alerts), key=weight)
        [line] = alert_lines(last, 1, of=len(stories) > 1)
        return two_ends([(" ▲" if last.alerts[-1].what != "ended" else " ·", "bold"), *line], right, width), []
    first, more = wrapped(told, width - line_width(right) - 1)
    return two_ends(first, right, width), clip([(" ", ""), *more], width) if more else []


def hints(where: str, changed: Mapping[str, str], width: int, *, ascii: bool) -> Line:
    """The keys that act now, as many as fit; help is always there. `changed` are the user's own keys."""
    line: Line = []
    last: Line = []
    keys = [key for place in (where, "app") for key in KEYS if key.where == place and key.hint]
    for hint, those in groupby(keys, key=lambda key: key.hint):
        names = [first_name(key, changed, ascii=ascii) for key in those]
        item: Line = [(f" {('/' if max(map(len, names)) > 1 else '').join(names)} ", "bold"), (f"{hint} ", "dim")]
        if hint in ("help", "quit"):
            last = [*last, *item]
        elif line_width([*line, *item]) + 17 < width:
            line += item
    return two_ends(line, last, width)


def first_name(key: Key, changed: Mapping[str, str], *, ascii: bool) -> str:
    """The first of the keys of an entry, after the user's changes."""
    return shown(changed.get(key.id, key.keys).split(",")[0], ascii=ascii)


def training_in_a_line(story: RunState, smoothing: float, now: float, width: int) -> Line:
    """What the training pane would tell, where there is room for one pane only."""
    head: Line = [(" training ", "dim"), (f"{progress(story, now)} ", "")]
    return [*head, *flow(figures(story, smoothing), max(1, width - line_width(head)), 1)[0]]
