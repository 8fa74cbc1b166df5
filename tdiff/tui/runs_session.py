"""A session of the table of runs: the table, the view of the run that was opened from it, and the table again."""

from __future__ import annotations

from dataclasses import replace

from tdiff.errors import TdiffError
from tdiff.terminal.detect import Terminal
from tdiff.tui import session
from tdiff.tui.looks import chosen, dress
from tdiff.tui.runs_app import Choice, OpenedApp, RunsApp
from tdiff.tui.session import run_view
from tdiff.watch import targets
from tdiff.watch.listing.here import AllRuns
from tdiff.watch.listing.rows import Row
from tdiff.watch.options import Options
from tdiff.watch.preferences import Preferences


def run(all_runs: AllRuns, options: Options, terminal: Terminal, preferences: Preferences) -> None:
    """Show the table, and each run that is opened from it, until the user quits."""
    choice = Choice()
    try:
        while True:
            app = RunsApp(all_runs, terminal, choice)
            dress(app, chosen(options, preferences))
            run_view(app)
            opened, choice.opened = choice.opened, None
            if opened is None or not _open(opened, choice, options, terminal, preferences):
                break
    finally:
        all_runs.close()


def _open(row: Row, choice: Choice, options: Options, terminal: Terminal, preferences: Preferences) -> bool:
    """Show one run until the user leaves it. Returns whether to show the table again."""
    try:
        target = targets.locate(row.where)
        app = session.view([target], replace(options, targets=(row.where,)), terminal, preferences, OpenedApp)
    except TdiffError as why:  # it was removed, or cannot be read
        choice.message = str(why)
        return True
    run_view(app)
    session.restore_title(app)
    assert isinstance(app, OpenedApp)
    return not app.left_for_good
