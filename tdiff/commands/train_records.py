"""The records of a training on their way to the terminal: who else hears of them, and what an error says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tdiff.commands import detached
from tdiff.errors import OutOfMemory
from tdiff.files import CannotWrite
from tdiff.protocol.events import Event, Train
from tdiff.protocol.metrics import METRICS
from tdiff.runs.retention import step_of
from tdiff.runs.run import Run


@contextmanager
def saying_what_is_safe(folder: Run) -> Iterator[None]:
    """Add to the error of a file that cannot be written, or of a step that does not fit into memory, which step of the
    run is saved. Raises CannotTrain or OutOfMemory.
    """
    try:
        yield
    except OutOfMemory as error:
        if not error.remedy or (step := step_of(folder.state)) is None:
            raise
        resume = f"tdiff train --resume {folder.called} {error.remedy}"
        raise OutOfMemory(f"{error.problem}; the same steps with less memory, after step {step:,}: {resume}") from None
    except CannotWrite as error:
        if (step := step_of(folder.state)) is None:
            raise
        raise CannotTrain(
            f"{error}; the save of step {step:,} is whole: tdiff train --resume {folder.called} continues from it"
        ) from error


def reported(events: Iterator[Event]) -> Iterator[Event]:
    """Yield `events`, and report the first record of a loss to whoever started the run with --detach."""
    started = False
    for event in events:
        yield event
        if not started and isinstance(event, Train):
            started = True
            detached.report(first_step=f"step {event.step:,}, loss {METRICS['train/loss'].text(event.loss)}")


class CannotTrain(OSError):
    """A failure of the machine that ends a run. Its text is one line."""
