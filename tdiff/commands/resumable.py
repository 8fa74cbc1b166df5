"""Lines of JSON that a long job writes, one for each line of its input, and goes on with after it was cut short."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tdiff.errors import TdiffError
from tdiff.visible import finite, visible_line

_BEGINS = b'{"line": '
GOES_ON = "keeps what is done: the same command goes on"


@dataclass(frozen=True, slots=True)
class Kept:
    """What an output holds already."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    """Bytes of the whole lines."""

    @classmethod
    def of(cls, output: Path, is_ours: Callable[[Any], bool], command: str) -> Kept:
        """Raises TdiffError where the file is not an output of `command`, whose lines `is_ours` knows."""
        try:
            data = output.read_bytes()
        except FileNotFoundError:
            return cls()
        except OSError as why:
            raise TdiffError(f"the output {str(output)!r} cannot be read: {why.strerror}") from None
        size = data.rfind(b"\n") + 1
        torn = data[size:]
        try:
            lines = [json.loads(line) for line in data[:size].splitlines()]
        except (ValueError, RecursionError):
            lines = [None]
        numbers = [one["line"] for one in lines if is_ours(one)]
        # A torn last line must be the beginning of one of ours: else it is somebody's text, which is not ours to drop.
        whole = len(set(numbers)) == len(lines) and torn[: len(_BEGINS)] == _BEGINS[: len(torn)]
        if not whole:
            raise TdiffError(f"the output {str(output)!r} exists and is not one of {command}; name another file")
        return cls(lines, size)

    @contextmanager
    def opened(self, output: Path) -> Iterator[IO[str]]:
        """The file, ready for the next line: a torn last one is dropped. Ctrl-C is told how to go on."""
        try:
            file = output.open("r+" if output.exists() else "w", encoding="utf-8", newline="\n")
            file.truncate(self.size)
            file.seek(self.size)
        except OSError as why:
            raise TdiffError(f"the output {str(output)!r} cannot be written: {why.strerror}") from None
        with file:
            try:
                yield file
            except KeyboardInterrupt:
                print(f"stopped; {visible_line(str(output))} {GOES_ON}", file=sys.stderr)
                raise

    def check_input(self, given: Mapping[int, Any], output: Path) -> None:
        """Raises TdiffError where it was written from another input than `given`, what each line says."""
        for one in self.lines:
            if one["line"] not in given or finite(given[one["line"]]) != one["input"]:
                raise TdiffError(f"{str(output)!r} was written from another input: its line {one['line']} is not there")


def check_names(source: str, output: Path) -> None:
    """Raises TdiffError where the output is no file of its own."""
    if str(output) == "-":
        raise TdiffError("--output takes a file that can be gone on with; without it the lines go to stdout")
    try:
        same = source != "-" and output.samefile(source)
    except OSError:
        same = False
    if same:
        raise TdiffError(f"--output {str(output)!r} is the input itself: name another file")
