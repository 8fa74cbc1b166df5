"""One sitting: what is watched is opened, the view is run, and in the end it is said where things stand."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from tdiff.draw.terminal import Terminal
from tdiff.errors import TdiffError, unknown
from tdiff.tui.app import WatchApp
from tdiff.tui.figures import number, progress
from tdiff.tui.keys import remapped
from tdiff.watch import places, writer
from tdiff.watch.options import Options
from tdiff.watch.places import Target
from tdiff.watch.preferences import Preferences
from tdiff.watch.sources import PipeSource
from tdiff.watch.watched import Watched
from tdiff.watch.writer import trains_on_this_host


def run(targets: Sequence[Target], options: Options, terminal: Terminal, liked: Preferences) -> None:
    """Watch until the user leaves; then say where things stand."""
    liked = replace(liked, keys=remapped(liked.keys))
    watched = [Watched(target, source=keys_apart(target)) for target in targets]

    def trains_here() -> bool:
        now = time.time()
        return any(
            trains_on_this_host(one.story.start.host if one.story.start else None, one.story.state(now))
            for one in watched
        )

    def look_for() -> Watched | None:
        found = places.newest_run()
        return Watched(places.locate(str(found.path))) if found else None

    app = WatchApp(
        watched,
        writer.live(options, lambda: watched, trains_here),
        terminal,
        liked,
        look_for=look_for if not options.targets else lambda: None,
    )
    theme = options.theme or liked.theme
    if theme:
        if theme not in app.available_themes:
            raise unknown("theme", theme, app.available_themes)
        app.theme = theme
    gc.freeze()  # what is loaded stays, and need not be looked through again and again while keys wait
    app.run(mouse=terminal.mouse)
    if app.return_code:
        sys.exit(app.return_code)
    print("\n".join(summary(app, time.time())))


def keys_apart(target: Target) -> PipeSource | None:
    """Where standard input is what is watched: it under another number, and the keys in its place.

    Raises TdiffError where there is no terminal to read keys from.
    """
    if target.kind != "pipe" or target.path is not None:
        return None
    source = PipeSource(os.dup(0))
    try:
        keys = os.open("/dev/tty", os.O_RDWR)
    except OSError as why:
        raise TdiffError(f"tdiff watch - reads its keys from the terminal, and there is none: {why.strerror}") from None
    os.dup2(keys, 0)
    os.close(keys)
    return source


def summary(app: WatchApp, now: float) -> list[str]:
    """Where things stand: a line for each run, what was written, and how to see it again."""
    lines = []
    for one in app.watched:
        story = one.story
        loss = story.metrics.get("train/loss")
        value = f", loss {number(loss.last[1])}" if loss is not None and loss.last else ""
        lines.append(f"{story.name}: {story.state(now)}, {progress(story, now)}{value}")
    written = sum(recording.ended is not None for recording in app.live.recordings) if app.live else 0
    lines.append(f"{written} text{'s' * (written != 1)} generated" + (f" by {app.live.model}" if app.live else ""))
    lines.append("tdiff watch shows it again; tdiff watch --once prints a snapshot")
    return lines
