"""`tdiff watch`: options become sources, a terminal and a model's process; then the live view, or one snapshot."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.config.decoding import DecodeSettings
from tdiff.config.decoding_presets import chosen_preset
from tdiff.errors import TdiffError, unknown
from tdiff.schema import MOST
from tdiff.series.series import LIMIT
from tdiff.visible import json_line
from tdiff.watch.options import Options

if TYPE_CHECKING:
    from tdiff.terminal.detect import Terminal
    from tdiff.watch.devices.board import Board
    from tdiff.watch.preferences import Preferences
    from tdiff.watch.targets import Target

MAX_TARGETS = 4
"""Maximum number of runs watched at once."""
Request = Options
EXAMPLES = (
    "tdiff watch mine",
    "tdiff watch train.log ssh://host/path/to/run",
    "tdiff watch --model mine --model shakespeare",
    'tdiff watch --race "confidence threshold=0.9" --race "remdm steps=64"',
    "tdiff watch --all",
    "tdiff watch --once",
)
_DEVICES_TIMEOUT = 1.0
"""Seconds that a snapshot waits for the GPUs of a host."""
_REMOTE_TIMEOUT = 15.0
"""Seconds that a snapshot waits for a source on another machine."""


def run(options: Options) -> None:
    """Show the live view or print a snapshot. Raises TdiffError for targets that cannot be watched."""
    from tdiff.commands import watch_numbers, watch_race
    from tdiff.terminal import detect
    from tdiff.watch import preferences
    from tdiff.watch.targets import locate, newest_run

    _check(options)
    options = watch_race.with_racers(options)
    saved = preferences.load()
    terminal = detect.this_terminal(
        color=options.color or saved.color or "auto",
        glyphs=options.glyphs or saved.glyphs or "auto",
        palette=options.palette or saved.palette or "auto",
        mouse=False if options.no_mouse else saved.mouse,
        ask=not (options.once or options.as_json or options.wait),
    )
    if theme := options.theme or saved.theme:
        if not (options.doctor or options.once or options.as_json or options.wait):
            detect.prepare(terminal, os.environ)  # before textual is imported: it reads the environment then
        _check_theme(theme)
    _check_notify("--notify", options.notify)
    _check_notify("notify in watch.toml:", saved.notify)
    if options.doctor:
        from tdiff.terminal.doctor import doctor

        print(doctor(terminal))
        return
    if options.classify:
        _classify(options, terminal, saved)
        return
    if options.all_runs:
        _all(options, terminal, saved)
        return
    targets = [locate(target) for target in options.targets]
    if not targets and (newest := newest_run()):
        targets = [locate(str(newest.path))]
    targets = watch_numbers.named(targets, options)
    if options.wait:
        from tdiff.commands.watch_wait import wait

        sys.exit(wait(targets, options))
    if options.once or options.as_json:
        _once(targets, options, ascii=terminal.theme.ascii)
        return
    if not (sys.stderr.isatty() and _has_keyboard(targets)):
        raise TdiffError(
            "tdiff watch draws on a terminal, and this is not a terminal; --once prints a snapshot instead"
        )
    _check_cursor(terminal, "--once prints a snapshot instead")
    detect.prepare(terminal, os.environ)  # before textual is imported: it reads the environment then

    from tdiff.tui import session

    watch_numbers.remember(targets, options)
    session.run(targets, options, terminal, saved)


def _all(options: Options, terminal: Terminal, saved: Preferences) -> None:
    """Show or print a table of all runs in a folder."""
    from tdiff.commands import all_runs
    from tdiff.terminal import detect

    if len(options.targets) > 1:
        raise TdiffError(f"--all takes one folder; got {len(options.targets)}")
    opened = all_runs.open_place(options.targets[0] if options.targets else None)
    if options.once or options.as_json:
        all_runs.print_all(opened, as_json=options.as_json, wide=False, ascii=terminal.theme.ascii)
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TdiffError("tdiff watch draws on a terminal, and this is not a terminal; --once prints the table instead")
    _check_cursor(terminal, "--once prints the table instead")
    detect.prepare(terminal, os.environ)

    from tdiff.tui import runs_session

    runs_session.run(opened, options, terminal, saved)


def _classify(options: Options, terminal: Terminal, saved: Preferences) -> None:
    """Show predictions for texts while mask samples arrive."""
    from tdiff.commands.classify_models import no_model_error
    from tdiff.terminal import detect
    from tdiff.watch.generation import live_prediction

    live_prediction.check(options.classify)
    if options.targets or options.once or options.as_json or options.others:
        raise TdiffError("--classify takes one --model and no other targets, --once or --json")
    if options.model is None:
        raise TdiffError(no_model_error())
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TdiffError(
            "tdiff watch draws on a terminal, and this is not a terminal; tdiff classify prints predictions"
        )
    _check_cursor(terminal, "tdiff classify prints predictions")
    detect.prepare(terminal, os.environ)

    from tdiff.tui import classify_app

    classify_app.run(options, terminal, saved)


def _check_cursor(terminal: Terminal, instead: str) -> None:
    """Raises TdiffError for a terminal without full-screen drawing, such as TERM=dumb."""
    if not terminal.interactive:
        raise TdiffError(f"tdiff watch draws a full screen, and {terminal.reasons['interactive']}; {instead}")


def _check_theme(name: str) -> None:
    """Raises TdiffError for an unknown theme, also where nothing is drawn."""
    from textual.theme import BUILTIN_THEMES

    if name not in BUILTIN_THEMES:
        raise unknown("theme", name, BUILTIN_THEMES)


def _check_notify(what: str, mode: str) -> None:
    """Raises TdiffError for an unknown way to notify."""
    if not mode:
        return
    from tdiff.terminal.notify import MODES

    if mode not in MODES:
        raise unknown(what, mode, MODES)


def _check(options: Options) -> None:
    if options.on_alert is not None and not options.on_alert.strip():
        raise TdiffError("--on-alert requires a command")
    if options.on_alert is not None and (options.once or (options.as_json and not options.wait)):
        raise TdiffError("--on-alert runs a command for new alerts, and --once shows those that exist; see --wait")
    if options.wait and options.once:
        raise TdiffError("--wait waits for the end of a run, and --once does not; give one of them")

    if len(options.targets) > MAX_TARGETS:
        raise TdiffError(f"watch shows up to {MAX_TARGETS} runs at once; got {len(options.targets)}")
    if options.targets.count("-") > 1:
        raise TdiffError("standard input (-) can be watched once")
    if not 0 <= options.every < MOST:
        raise TdiffError(f"--every must be at least 0 seconds; got {options.every:g}")
    if not 0 <= options.length <= MOST:
        raise TdiffError(f"--length must be at least 1, or 0 to write up to the context length; got {options.length}")
    if not 0 <= options.smooth < 1:
        raise TdiffError(f"--smooth must be at least 0 and below 1; got {options.smooth:g}")
    if options.target is not None and not abs(options.target) < LIMIT:
        raise TdiffError(f"--target must be a finite number; got {options.target:g}")
    chosen_preset(options.fast, options.best, options.decoding)
    DecodeSettings(**options.decoding)
    models = [options.model, *options.others] if options.model is not None else []
    if len(models) > 1:
        from tdiff.watch.generation.pair import MAX_MODELS

        if len(models) > MAX_MODELS:
            raise TdiffError(f"watch shows up to {MAX_MODELS} models side by side; got {len(models)} of --model")
    from tdiff.commands.watch_models import check_model

    for model in models:
        check_model(model)


def _has_keyboard(targets: Sequence[Any]) -> bool:
    """Whether keys can be read; if standard input is watched, they come from the terminal itself."""
    return sys.stdin.isatty() or any(target.kind == "pipe" and target.path is None for target in targets)


def _once(targets: Sequence[Target], options: Options, *, ascii: bool) -> None:
    """Print a snapshot of each target and exit."""
    from tdiff.commands import watch_numbers
    from tdiff.report import snapshot
    from tdiff.report.goals import goal_lines, goals
    from tdiff.runs.run import ROOT
    from tdiff.watch.follow import Watched

    if not targets:
        raise TdiffError(f"no run under {ROOT}/ yet; start one with tdiff train --run NAME, or name a log to watch")
    watched = [Watched(target) for target in targets]
    board = gpus_under(targets)
    try:
        if board is not None:
            board.read_once(watched, 0.0)  # they answer while the logs are read
        empty = []
        for followed in watched:
            complete = followed.finish(_REMOTE_TIMEOUT)
            why = followed.status().text
            # An empty local file, or a job that waits, is reported in its own snapshot.
            run = followed.run_state
            if followed.target.address is not None and not run.format and (run.job is None or not run.job.waits):
                empty.append(f"{followed.target.label}: {why or 'nothing was received'}")
            elif not complete:
                print(f"tdiff: {followed.target.label}: {why or 'it was not received completely'}", file=sys.stderr)
        if len(empty) == len(watched):
            raise TdiffError("; ".join(empty))
        for line in empty:
            print(f"tdiff: {line}", file=sys.stderr)
        watch_numbers.check(watched, options)
        watch_numbers.remember(targets, options)
        if board is not None:
            board.read_once(watched, _DEVICES_TIMEOUT)
        devices = [board.of(followed) for followed in watched] if board is not None else []
        now = time.time()
        states = [followed.run_state for followed in watched]
        if options.as_json:
            for number, (state, goal) in enumerate(
                zip(states, goals(states, options.target, options.smooth), strict=True)
            ):
                print(json_line(snapshot.data(state, now, devices[number] if devices else None) | goal))
        else:
            print(snapshot.text(states, now, ascii=ascii, devices=devices))
            if lines := list(goal_lines(states, options.target, options.smooth)):
                print("", *lines, sep="\n")
    finally:
        if board is not None:
            board.close()
        for followed in watched:
            followed.close()


def gpus_under(targets: Sequence[Target]) -> Board | None:
    """What reads the GPUs under the runs; None where no run is one of this host or of a host that is connected.

    Another file is a log of the past, or of a job elsewhere: the GPUs of this host say nothing about it.
    """
    from tdiff.watch.devices.writers import are_written

    files: list[Path] = []
    for target in targets:
        files += target.folder_choice.candidate.files if target.folder_choice else filter(None, [target.path])
    local = all(target.address is None and target.path is not None and target.kind != "pipe" for target in targets)
    if local and are_written(files) is False:
        return None
    from tdiff.watch.devices.board import Board

    return Board()
