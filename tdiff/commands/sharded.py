"""Rows of a file that several processes share: each handles a part of a chunk, and the first gets all records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tdiff.commands.resumable import RESUMES
from tdiff.errors import TdiffError
from tdiff.visible import visible_line

if TYPE_CHECKING:
    from tdiff.core.training.distributed import World

T = TypeVar("T")


def join(source: str | None, output: Path | None = None) -> World:
    """The processes that torchrun started. Raises TdiffError if several should read stdin.

    `output` is the file, if any, that has the finished results if a process is lost.
    """
    from tdiff.core.training import processes

    world = processes.join(f"the command ends; {visible_line(str(output))} {RESUMES}" if output is not None else "")
    if world.size > 1 and source == "-":
        raise TdiffError(f"--input -: {world.size} processes cannot read one stdin: give a file")
    return world


def leave() -> None:
    """End the group of processes, once all have finished."""
    from tdiff.core.training import processes

    processes.leave()


def own(world: World, rows: Sequence[T]) -> Sequence[T]:
    """The rows of this process: each process has every n-th, so that all have rows of all kinds."""
    return rows if world.size == 1 else rows[world.rank :: world.size]


def merged(
    world: World, order: Sequence[int], skipped: list[tuple[int, str]], records: Iterable[dict[str, Any]]
) -> tuple[Iterable[tuple[int, str]], Iterable[dict[str, Any]]]:
    """The skipped rows, by number and reason, and the records of all processes, by their rows' `order` of numbers.

    Only the first process gets them; one process gets its own, as they come.
    """
    if world.size == 1:
        return skipped, records
    with world.together():
        part = skipped, list(records)
    parts = world.collect(part)
    if not world.leads:
        return [], []
    position = {number: n for n, number in enumerate(order)}
    reasons = sorted((row for skipped, _ in parts for row in skipped), key=lambda row: position[row[0]])
    return reasons, sorted((row for _, rows in parts for row in rows), key=lambda row: position[row["line"]])
