"""`tdiff watch`: options become sources, a terminal and a model's process; then the live view, or one snapshot."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.config.decoding import DecodeSettings
from tdiff.errors import TdiffError, unknown
from tdiff.schema import MOST
from tdiff.visible import json_line
from tdiff.watch.options import Options

if TYPE_CHECKING:
    from tdiff.terminal.detect import Terminal
    from tdiff.watch.preferences import Preferences
    from tdiff.watch.targets import Target

MOST_TARGETS = 4
"""Maximum number of runs watched at once."""
Request = Options
EXAMPLES = (
    "tdiff watch mine",
    "tdiff watch train.log ssh://host/path/to/run",
    "tdiff watch --model mine --model shakespeare",
    "tdiff watch --all",
    "tdiff watch --once",
)
_PATIENCE = 15.0
"""Seconds that a snapshot waits for a source on another machine."""


def run(options: Options) -> None:
    """Show the live view or print a snapshot. Raises TdiffError for targets that cannot be watched."""
    from tdiff.terminal import detect
    from tdiff.watch import preferences
    from tdiff.watch import targets as places

    _check(options)
    liked = preferences.load()
    terminal = detect.this_terminal(
        color=options.color or liked.color or "auto",
        glyphs=options.glyphs or liked.glyphs or "auto",
        palette=options.palette or liked.palette or "auto",
        mouse=False if not options.mouse else liked.mouse,
        ask=not (options.once or options.as_json),
    )
    if theme := options.theme or liked.theme:
        if not (options.doctor or options.once or options.as_json):
            detect.prepare(terminal, os.environ)  # before textual is imported: it reads the environment then
        _check_theme(theme)
    if options.doctor:
        from tdiff.terminal.doctor import doctor

        print(doctor(terminal))
        return
    if options.classify:
        _race(options, terminal)
        return
    if options.all_runs:
        _all(options, terminal, liked)
        return
    targets = [places.locate(word) for word in options.targets]
    if not targets and (newest := places.newest_run()):
        targets = [places.locate(str(newest.path))]
    if options.once or options.as_json:
        _once(targets, options.as_json, ascii=terminal.look.ascii)
        return
    if not (sys.stderr.isatty() and _keyboard(targets)):
        raise TdiffError(
            "tdiff watch draws on a terminal, and this is not a terminal; --once prints a snapshot instead"
        )
    _check_cursor(terminal, "--once prints a snapshot instead")
    detect.prepare(terminal, os.environ)  # before textual is imported: it reads the environment then

    from tdiff.tui import session

    session.run(targets, options, terminal, liked)


def _all(options: Options, terminal: Terminal, liked: Preferences) -> None:
    """Show or print a table of all runs in a folder."""
    from tdiff.commands import all_runs
    from tdiff.terminal import detect

    if len(options.targets) > 1:
        raise TdiffError(f"--all takes one folder; got {len(options.targets)}")
    opened = all_runs.open_place(options.targets[0] if options.targets else None)
    if options.once or options.as_json:
        all_runs.print_all(opened, as_json=options.as_json, wide=False, ascii=terminal.look.ascii)
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TdiffError("tdiff watch draws on a terminal, and this is not a terminal; --once prints the table instead")
    _check_cursor(terminal, "--once prints the table instead")
    detect.prepare(terminal, os.environ)

    from tdiff.tui import runs_session

    runs_session.run(opened, options, terminal, liked)


def _race(options: Options, terminal: Terminal) -> None:
    """Show predictions for texts while mask samples arrive."""
    from tdiff.commands.classify_models import without
    from tdiff.terminal import detect
    from tdiff.watch.generation import race

    race.check(options.classify)
    if options.targets or options.once or options.as_json or options.others:
        raise TdiffError("--classify takes one --model and no other targets, --once or --json")
    if options.model is None:
        raise TdiffError(without())
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TdiffError(
            "tdiff watch draws on a terminal, and this is not a terminal; tdiff classify prints predictions"
        )
    _check_cursor(terminal, "tdiff classify prints predictions")
    detect.prepare(terminal, os.environ)

    from tdiff.tui import race_app

    race_app.run(options, terminal)


def _check_cursor(terminal: Terminal, instead: str) -> None:
    """Raises TdiffError for a terminal without full-screen drawing, such as TERM=dumb."""
    if not terminal.interactive:
        raise TdiffError(f"tdiff watch draws a full screen, and {terminal.reasons['interactive']}; {instead}")


def _check_theme(name: str) -> None:
    """Raises TdiffError for an unknown theme, also where nothing is drawn."""
    from textual.theme import BUILTIN_THEMES

    if name not in BUILTIN_THEMES:
        raise unknown("theme", name, BUILTIN_THEMES)


def _check(options: Options) -> None:
    from tdiff.watch.generation import pair

    if len(options.targets) > MOST_TARGETS:
        raise TdiffError(f"tdiff watch shows up to {MOST_TARGETS} runs at once; got {len(options.targets)}")
    if options.targets.count("-") > 1:
        raise TdiffError("standard input (-) can be watched once")
    if not 0 <= options.every < MOST:
        raise TdiffError(f"--every must be at least 0 seconds; got {options.every:g}")
    if not 0 <= options.length <= MOST:
        raise TdiffError(f"--length must be at least 1, or 0 to write up to the context length; got {options.length}")
    DecodeSettings(**options.decoding)
    models = [options.model, *options.others] if options.model is not None else []
    if len(models) > pair.MAX_MODELS:
        raise TdiffError(f"tdiff watch shows up to {pair.MAX_MODELS} models side by side; got {len(models)} of --model")
    for model in models:
        _check_model(model)


def _check_model(model: str) -> None:
    from tdiff.runs.lookup import NoModel, find_model, find_per_class

    if Path(model).is_dir() or find_per_class(model):  # it may have its weights later
        return
    try:
        find_model(model)
    except NoModel as why:
        from tdiff import hub  # which brings no engine

        # The model's process asks the hub: it may take long.
        if not why.elsewhere and hub.cached(model) is None:
            raise


def _keyboard(targets: Sequence[Any]) -> bool:
    """Whether keys can be read; if standard input is watched, they come from the terminal itself."""
    return sys.stdin.isatty() or any(target.kind == "pipe" and target.path is None for target in targets)


def _once(targets: Sequence[Target], as_json: bool, *, ascii: bool) -> None:
    """Print a snapshot of each target and exit."""
    from tdiff.report import snapshot
    from tdiff.runs.run import ROOT
    from tdiff.watch.follow import Watched

    if not targets:
        raise TdiffError(f"no run under {ROOT}/ yet; start one with tdiff train --run NAME, or name a log to watch")
    watched = [Watched(target) for target in targets]
    try:
        empty = []
        for followed in watched:
            complete = followed.finish(_PATIENCE)
            why = followed.status().text
            # An empty local file is reported in its own snapshot.
            if followed.target.address is not None and not followed.run_state.format:
                empty.append(f"{followed.target.label}: {why or 'nothing came'}")
            elif not complete:
                print(f"tdiff: {followed.target.label}: {why or 'not all of it came'}", file=sys.stderr)
        if len(empty) == len(watched):
            raise TdiffError("; ".join(empty))
        for line in empty:
            print(f"tdiff: {line}", file=sys.stderr)
        now = time.time()
        states = [followed.run_state for followed in watched]
        if as_json:
            for state in states:
                print(json_line(snapshot.data(state, now)))
        else:
            print(snapshot.text(states, now, ascii=ascii))
    finally:
        for followed in watched:
            followed.close()
