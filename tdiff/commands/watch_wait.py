"""`tdiff watch --wait`: waits without a screen until runs have ended, for scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tdiff import formatting
from tdiff.errors import TdiffError
from tdiff.visible import json_line

if TYPE_CHECKING:
    from tdiff.watch.follow import Watched
    from tdiff.watch.options import Options
    from tdiff.watch.targets import Target

_PAUSE = 0.5
"""Seconds between two looks at the sources."""


def wait(targets: Sequence[Target], options: Options) -> int:
    """Wait until all targets have ended. Alerts go to stderr, the results to stdout.

    Returns the exit code: 0 if all have finished, else 1. Raises TdiffError without a target.
    """
    from tdiff.runs.run import ROOT
    from tdiff.watch.follow import Watched
    from tdiff.watch.notify import OVER, AlertCommand, News

    if not targets:
        raise TdiffError(f"no run under {ROOT}/ yet; name a run or a log to wait for")
    watched = [Watched(target) for target in targets]
    lost: dict[Watched, bool] = {}
    news, command = News(), AlertCommand(options.on_alert) if options.on_alert else None
    try:
        while True:
            now = time.time()
            for followed in watched:
                followed.poll()
                _report_connection(followed, lost)
                run, current = followed.run_state, _is_current(followed)
                for alert in news.take(followed, run, run.check(now), now, current=current):
                    print(f"tdiff: {alert}", file=sys.stderr, flush=True)
                    if command is not None:
                        command.run(alert)
            for failure in command.failures() if command is not None else ():
                print(f"tdiff: {failure}", file=sys.stderr, flush=True)
            if all(_is_current(one) and one.run_state.state(now) in OVER for one in watched):
                break
            if not any(followed.behind for followed in watched):
                time.sleep(_PAUSE)
        if command is not None:
            command.wait()
            for failure in command.failures():
                print(f"tdiff: {failure}", file=sys.stderr)
        for followed in watched:
            print(_result(followed, now, as_json=options.as_json))
        return 0 if all(followed.run_state.state(now) == "finished" for followed in watched) else 1
    finally:
        for followed in watched:
            followed.close()


def _report_connection(followed: Watched, lost: dict[Watched, bool]) -> None:
    """Say once that another host cannot be reached, and why; and that it can be again."""
    status, before = followed.status(), lost.get(followed, False)
    if followed.target.address is None:
        return
    if not status.connected and "; reconnecting" in status.text:
        lost[followed] = True
    elif status.connected:
        lost[followed] = False
    if lost.get(followed, False) != before:
        why = status.text.partition("; reconnecting")[0] + "; trying again" if not before else "connected again"
        print(f"tdiff: {followed.target.label}: {why}", file=sys.stderr, flush=True)


def _is_current(watched: Watched) -> bool:
    """Whether everything that is available has been read."""
    return not watched.behind and watched.filling is None and watched.status().current


def _result(watched: Watched, now: float, *, as_json: bool) -> str:
    """How a run has ended, on one line."""
    run = watched.run_state
    if as_json:
        from tdiff.report import snapshot

        return json_line(snapshot.data(run, now))
    loss = run.metrics.get("train/loss")
    value = f", loss {formatting.loss(loss.last[1])}" if loss is not None and loss.last is not None else ""
    total = f" of {run.total:,}" if run.total else ""
    why = f": {run.failure}" if run.failure else ""
    return f"{run.name}: {run.state(now)} at step {run.step:,}{total}{value}{why}"
