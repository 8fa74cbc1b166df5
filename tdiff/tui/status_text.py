"""The text of the lines around the panes: the runs and their states, the newest message, and the keys that act now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby

from tdiff.draw.render import Line
from tdiff.formatting import duration
from tdiff.terminal.detect import Terminal
from tdiff.tui.figures import figures, flow, progress
from tdiff.tui.key import first_name
from tdiff.tui.key_table import KEYS
from tdiff.tui.layout import MIN_COLUMNS, MIN_ROWS
from tdiff.tui.panes.base import Hints
from tdiff.tui.panes.details import alert_lines
from tdiff.tui.widgets.lines import clip, line_width, two_ends, wrapped
from tdiff.visible import visible_line
from tdiff.watch.alerts import REPORTS
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
    "lost": ("?", "reverse"),
}
_WIDE = 40
"""Columns from which alerts are counted in words."""


def above(watched: Sequence[Watched], terminal: Terminal, now: float, width: int, *, aged: bool = True) -> Line:
    """The first line: each run with its state and the age of its newest record; the terminal where there is room.

    Without ages (`aged`) it has the time of day, for a screen that is not drawn again soon.
    """
    runs = [_run(run, now, aged) for run in watched] or [[("no run", "dim")]]
    left: Line = [(" ", ""), *(part for run in runs for part in [*run, ("  ", "")])]
    title: Line = [(" tdiff watch ", "bold")]
    remedy: Line = [(f"{terminal.remedy} ", "bold")] if terminal.remedy else []
    where: Line = [(f"{_where(terminal)} ", "dim")]
    # The runs come first; the rest uses the room that is left.
    for head, right in ((title, remedy or where), (title, []), ([], [])):
        if line_width([*head, *left, *right]) <= width:
            return two_ends([*head, *left], right, width)
    if len(runs) > 1:  # the states of all runs precede other words about one
        left = [(" ", ""), *(part for run in runs for part in [*run[:2], ("  ", "")])]
    return two_ends(left, [], width)


def too_small(width: int, height: int, above: Line) -> Line:
    """What size a window needs to show a pane, followed by the usual first line where there is room."""
    lacking = [f"{MIN_COLUMNS} columns"] * (width < MIN_COLUMNS) + [f"{MIN_ROWS} rows"] * (height < MIN_ROWS)
    size = f"{MIN_COLUMNS}x{MIN_ROWS}"
    words = (f" tdiff needs {' and '.join(lacking)} ", f"needs {size}", size)
    need = next((text for text in words if len(text) <= width), size)
    rest = clip(above, width - len(need))
    return [(need, "reverse"), *(rest if width >= MIN_COLUMNS else [])]


def _run(watched: Watched, now: float, aged: bool) -> Line:
    run, status = watched.run_state, watched.status()
    state = run.state(now)
    when = (run.ended.time if run.ended is not None else 0) or run.last_time
    age = f" {duration(max(0.0, now - when))} ago" if when else ""
    if not aged:
        at = when if run.ended is not None and when else now  # an end stays true; the rest is true now
        age = f" at {time.strftime('%H:%M', time.localtime(at))}"
    mark, style = _STATES.get(state, ("·", ""))
    line: Line = [(visible_line(run.name), "bold"), (f" {mark} {state}", style), (age, style)]
    job = run.job
    if status.text and not (job is not None and job.waits):  # its file is not there yet
        line.append((f" ({status.text})", "dim"))
    if job is not None:
        line.append((f" ({job.line(now)})", "dim"))
    if watched.file_name:
        line.append((f" ({watched.file_name})", "dim"))
    if watched.target.address:
        line.append((f" {status.lost} lost", "bold" if status.lost else "dim"))
    if watched.filling is not None:
        line.append((f" reading {watched.filling:.0%}", "dim"))
    return line


def _where(terminal: Terminal) -> str:
    colours = {"truecolor": "16M", "256": "256", "16": "16", "none": "no"}[terminal.colour]
    program = "" if terminal.program == "plain" else f"{terminal.program} · "
    return f"{program}{colours} colours"


def below(message: Line, runs: Sequence[RunState], width: int) -> tuple[Line, Line]:
    """The line of messages with the number of alerts, and the part of the message that does not fit.

    Without a `message` it shows the newest notice of a run: of several runs, the most serious of these.
    """
    notices = [notice for run in runs for notice in run.alerts]
    count = sum(notice.what not in REPORTS for notice in notices)
    words = f" [!] {count} alert{'s' if count != 1 else ''} " if width >= _WIDE else f" [!] {count} "
    right: Line = [(words, "bold")] if count else []
    if not message and notices:

        def weight(run: RunState) -> tuple[int, float]:
            newest = run.alerts[-1]
            return (newest.what not in REPORTS) + (newest.what in ("died", "failed", "nan")), newest.time or 0.0

        last = max((run for run in runs if run.alerts), key=weight)
        [line] = alert_lines(last, 1, with_name=len(runs) > 1)
        return two_ends([(" ▲" if last.alerts[-1].what not in REPORTS else " ·", "bold"), *line], right, width), []
    # Where nothing is drawn, the training pane has the note.
    if not message and (note := next((run.note for run in runs if run.note and run.metrics), "")):
        return two_ends(clip([(f" {note}", "")], width - line_width(right) - 1), right, width), []
    first, rest = wrapped(message, width - line_width(right) - 1)
    return two_ends(first, right, width), clip([(" ", ""), *rest], width) if rest else []


def own_hints(keys: Hints, changed: Mapping[str, str], width: int, *, ascii: bool) -> Line:
    """These keys instead of those of a pane and the view, as many as fit."""
    line: Line = []
    for name, does in keys:
        key = next((key for key in KEYS if key.id == name), None)
        shown = first_name(key, changed, ascii=ascii) if key else _arrows(name) if ascii else name
        item: Line = [(f" {shown} ", "bold"), (f"{does} ", "dim")]
        if line_width([*line, *item]) > width:
            break
        line += item
    return two_ends(line, [], width)


def _arrows(name: str) -> str:
    """A name of keys in ASCII."""
    return name.translate(dict.fromkeys(map(ord, "←→↑↓"))) or "arrows"


def hints(where: str, changed: Mapping[str, str], width: int, *, ascii: bool) -> Line:
    """The keys that act now, as many as fit; help is always included. `changed` (id -> keys) are the user's own."""
    line: Line = []
    last: Line = []
    keys = [key for part in (where, "app") for key in KEYS if key.where == part and key.hint]
    for hint, group in groupby(keys, key=lambda key: key.hint):
        names = [first_name(key, changed, ascii=ascii) for key in group]
        item: Line = [(f" {('/' if max(map(len, names)) > 1 else '').join(names)} ", "bold"), (f"{hint} ", "dim")]
        if hint in ("help", "quit"):
            last = [*last, *item]
        elif line_width([*line, *item]) + 17 < width:
            line += item
    return two_ends(line, last, width)


def training_in_a_line(run: RunState, smoothing: float, now: float, width: int) -> Line:
    """A summary of the training pane, where it has no room."""
    head: Line = [(" training ", "dim"), (f"{progress(run, now)} ", "")]
    return [*head, *flow(figures(run, smoothing), max(1, width - line_width(head)), 1)[0]]
