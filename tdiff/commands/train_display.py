"""The records of a training on the terminal: a progress bar, or plain lines."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import assert_never

from tdiff import ranks
from tdiff.formatting import duration
from tdiff.protocol.describe import describe
from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Event, Heartbeat, Resume, Sample, Start, Train, Verdicts
from tdiff.protocol.metrics import METRICS
from tdiff.runs.run import Run
from tdiff.visible import visible


def say(text: str) -> None:
    """Print a message on stderr; of several processes the first does."""
    if ranks.talks():
        print(visible(text), file=sys.stderr, flush=True)


def print_lines(events: Iterator[Event], stop: threading.Event) -> End:
    """Print events as plain lines on stdout, which are data. If the reader closes the pipe, the run saves and stops."""
    waiting = True
    for record in events:
        text = describe(record)
        waiting = waiting and not isinstance(record, Train)
        if isinstance(record, Alert):
            say(text or "")
        elif isinstance(record, Heartbeat) and waiting:  # later the lines of losses show progress
            say(f"{record.doing} ...")
        elif text:
            try:
                print(visible(text), flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                stop.set()
        if isinstance(record, End):
            return record
    raise AssertionError("the last event of a run is End")


class FinalEvaluation:
    """Progress of the evaluation after training; it is drawn where there is a bar."""

    def __init__(self) -> None:
        self.draw: Callable[[int, int], None] = lambda done, total: None

    def __call__(self, done: int, total: int) -> None:
        """Draw that `done` of `total` are evaluated."""
        self.draw(done, total)


class _Figures:
    """The newest figures of a run, for the end of its progress bar."""

    def __init__(self) -> None:
        self._newest = {"bound": "no bound yet"}

    def update(self, record: Event) -> str:
        """The text of the figures after this event."""
        newest = self._newest
        match record:
            case Train():
                newest["loss"] = f"loss {METRICS['train/loss'].text(record.loss)}"
                newest["pace"] = f"{record.tokens_per_second:,.0f} tok/s · ETA {duration(record.eta)}"
            case Eval():
                newest["bound"] = f"bound {record.nats_per_char:.3f}"
            case Heartbeat():
                return f"{record.doing} ..."
            case Verdicts():
                newest["accuracy"] = f"accuracy {record.accuracy:.1%}"
            case Resume() | Start():
                newest["pace"] = "ETA after the first steps"
            case End():
                newest["pace"] = ""
            case Sample() | Checkpoint() | Alert():
                pass
            case _:
                assert_never(record)
        return " · ".join(newest[name] for name in ("loss", "bound", "accuracy", "pace") if newest.get(name))


def draw_bar(events: Iterator[Event], folder: Run, final_evaluation: FinalEvaluation) -> End:
    """A progress bar on stderr, with samples, bounds and alerts printed above it; it stays at the end.

    The bar of a resumed run starts with the figures of its log.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("[bold]{task.fields[step]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    figures = _Figures()
    with Progress(*columns, console=console, transient=False, expand=True, refresh_per_second=4) as bar:
        task = bar.add_task("", total=1.0, step="step 0", figures="starting ...")
        final = bar.add_task("", total=1.0, step="after training", figures="", visible=False)
        final_evaluation.draw = lambda done, total: bar.update(final, completed=done, total=total, visible=done < total)
        for record in events:
            for earlier in folder.history() if isinstance(record, Resume) else []:
                figures.update(earlier)
                bar.update(task, completed=getattr(earlier, "progress", None))
            bar.update(task, figures=figures.update(record))
            if not isinstance(record, Start):
                bar.update(task, step=f"step {record.step:,}")
            if isinstance(record, Train):
                bar.update(task, completed=record.progress)
                continue
            if isinstance(record, End) and record.reason == "finished":
                bar.update(task, completed=1.0)  # the clock may have run out after the last record of a loss
            bar.update(final, visible=False)  # it may have been cut short
            text = describe(record)
            if text and not isinstance(record, Checkpoint):
                bar.refresh()  # the bar under a line is as new as the line, however seldom the clock redraws it
                bar.console.print(Text(visible(text)), soft_wrap=True)
            if isinstance(record, End):
                return record
    raise AssertionError("the last event of a run is End")
