"""One session of the view: open what is watched, run the view, and print a summary at the end."""

from __future__ import annotations

import gc
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from textual.worker import WorkerFailed

from tdiff import __version__
from tdiff.errors import TdiffError
from tdiff.protocol.metrics import METRICS
from tdiff.runs.index import state_folder
from tdiff.terminal.detect import Terminal
from tdiff.terminal.notify import MODES
from tdiff.tui.app import WatchApp
from tdiff.tui.figures import progress
from tdiff.tui.key_table import remapped
from tdiff.tui.looks import chosen
from tdiff.tui.terminal_app import TerminalApp
from tdiff.visible import visible_line
from tdiff.watch import view_settings
from tdiff.watch.devices.board import Board
from tdiff.watch.follow import Watched
from tdiff.watch.generation import launch
from tdiff.watch.generation.launch import trains_on_this_host
from tdiff.watch.options import Options
from tdiff.watch.preferences import Preferences
from tdiff.watch.sources.local import PipeSource
from tdiff.watch.sources.transcode import FileSplitter
from tdiff.watch.targets import Target, locate, newest_run


def run(targets: Sequence[Target], options: Options, terminal: Terminal, preferences: Preferences) -> None:
    """Watch until the user quits; then print a summary."""
    app = view(targets, options, terminal, preferences)
    gc.freeze()  # the loaded modules stay: the collector need not scan them while keys wait
    run_view(app)
    restore_title(app)
    print("\n".join(summary(app, time.time())))


def restore_title(app: WatchApp) -> None:
    """Restore the terminal's title, which alerts may have changed."""
    with suppress(OSError, ValueError):
        sys.stderr.write(app.notifications.restoration)
        sys.stderr.flush()


def view(
    targets: Sequence[Target],
    options: Options,
    terminal: Terminal,
    preferences: Preferences,
    kind: type[WatchApp] = WatchApp,
) -> WatchApp:
    """The view of these targets, a `kind` of app that has not started. Raises TdiffError if one cannot be opened."""
    preferences = replace(preferences, keys=remapped(preferences.keys))
    watched = [Watched(target, source=pipe_source(target)) for target in targets]

    def trains_here() -> bool:
        now = time.time()
        return any(
            trains_on_this_host(run.run_state.start.host if run.run_state.start else None, run.run_state.state(now))
            for run in watched
        )

    def find_run() -> Watched | None:
        newest = newest_run()
        return Watched(locate(str(newest.path))) if newest else None

    app = kind(
        watched,
        launch.model_pair(options, lambda: watched, trains_here),
        terminal,
        preferences,
        find_run=find_run if not options.targets else lambda: None,
        notify=options.notify or preferences.notify or MODES[0],
        on_alert=options.on_alert or "",
        board=Board(),
    )
    if options.race:
        from tdiff.watch.generation.race import entries

        app.racers = entries(options.race)
    app.training.begin_with(options.smooth, options.target, options.align)
    app.begin_with(chosen(options, preferences))
    app.remember = partial(view_settings.remember, preferences)
    return app


def run_view(app: TerminalApp) -> None:
    """Run a view until the user quits. After an internal error: one line, the traceback in a file, exit code 1."""
    app.run(mouse=app.terminal.mouse)
    if app.crash is not None:
        error = app.crash.error if isinstance(app.crash, WorkerFailed) else app.crash
        name = ": ".join([type(error).__name__, *filter(None, [visible_line(str(error))])])
        try:
            where = f"the traceback is in {keep_traceback(error)}"
        except OSError as why:
            where = f"its traceback could not be written: {why}"
        print(f"tdiff: internal error: {name}; {where}", file=sys.stderr)
    if app.return_code:
        sys.exit(app.return_code)


def keep_traceback(error: BaseException) -> Path:
    """Write the traceback of an error to a new file in the user's state folder; the file."""
    path = state_folder() / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = f"tdiff {__version__}, Python {platform.python_version()}, textual {version('textual')}\n"
    path.write_text(versions + "".join(traceback.format_exception(error)), encoding="utf-8")
    return path


def pipe_source(target: Target) -> PipeSource | None:
    """The watched standard input, moved to another file descriptor: the keys of the terminal take its place.

    None where standard input is not watched.

    Raises TdiffError where no terminal exists to read keys from.
    """
    if target.kind != "pipe" or target.path is not None:
        return None
    source = PipeSource(os.dup(0), splitter=FileSplitter)
    try:
        keys = os.open("/dev/tty", os.O_RDWR)
    except OSError as why:
        raise TdiffError(f"tdiff watch - requires a terminal for its keys, and none exists: {why.strerror}") from None
    os.dup2(keys, 0)
    os.close(keys)
    return source


def summary(app: WatchApp, now: float) -> list[str]:
    """A summary: a line for each run, the number of generated texts, and how to watch again."""
    lines = []
    for watched in app.watched:
        run_state = watched.run_state
        loss = run_state.metrics.get("train/loss")
        value = f", loss {METRICS['train/loss'].text(loss.last[1])}" if loss is not None and loss.last else ""
        lines.append(f"{run_state.name}: {run_state.state(now)}, {progress(run_state, now)}{value}")
    for live in app.models.lives:
        written = sum(recording.ended is not None for recording in live.recordings)
        lines.append(f"{written} text{'s' * (written != 1)} generated by {live.model}")
    lines.append("tdiff watch shows it again; tdiff watch --once prints a snapshot")
    return lines
