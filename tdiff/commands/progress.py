"""Progress on stderr: a bar where stderr is a terminal, and a model whose download is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tdiff import ranks
from tdiff.visible import visible_line

if TYPE_CHECKING:
    from tdiff.core.models.base import LoadedModel


@contextmanager
def progress_bar(what: str, *, of_bytes: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A function of (done, total) that draws a bar from its first call on; None without a terminal."""
    if not sys.stderr.isatty() or not ranks.talks():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn(what), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total or None, visible=True)


@contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A function of (bytes done, bytes in all) for a download; nothing is printed before its first call.

    It draws a bar, or prints one line where stderr is not a terminal.
    """
    bar: Callable[[int, int], None] | None = None
    announced = False

    def report(done: int, total: int) -> None:
        nonlocal bar, announced
        if not announced:
            bar, announced = stack.enter_context(progress_bar(f"fetching {visible_line(name)}", of_bytes=True)), True
            if bar is None and ranks.talks():
                from tdiff.hub import announcement

                print(announcement(name, total), file=sys.stderr, flush=True)
        if bar:
            bar(done, total)

    with ExitStack() as stack:
        yield report


def load_model(name: str, device: str) -> LoadedModel:
    """Load a model by folder or name onto a device of torch, with the progress of its download.

    Raises TdiffError where it cannot be loaded.
    """
    from tdiff.core.models import load

    with download_progress(name) as progress:
        return load.load_model(name, device, progress)
