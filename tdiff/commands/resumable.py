"""Resumable output of a long command: JSON Lines, one record per input line, resumed after an interruption.

A command reads what its output file has (`Saved.read`), checks that the input and the settings are the same, and writes
the records that are missing; rows that it cannot use are skipped, reported by number, and make the exit code 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tdiff.errors import TdiffError
from tdiff.visible import finite, json_line, visible, visible_line

_BEGINS = b'{"line": '
_PARTIAL = 1
RESUMES = "has all finished results: the same command resumes it"


@dataclass(frozen=True, slots=True)
class Saved:
    """The records that an output file has."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    """Bytes of the complete lines."""

    @classmethod
    def read(cls, output: Path | None, is_record: Callable[[Any], bool], command: str) -> Saved:
        """Raises TdiffError where the file is no output of `command`, whose records `is_record` recognizes."""
        try:
            data = output.read_bytes() if output is not None else b""
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise TdiffError(f"the output {str(output)!r} cannot be read: {error.strerror}") from None
        size = data.rfind(b"\n") + 1
        torn = data[size:]
        try:
            lines = [json.loads(line) for line in data[:size].splitlines()]
        except (ValueError, RecursionError):
            lines = [None]
        numbers = [line["line"] for line in lines if is_record(line)]
        # A torn last line must be the beginning of a record: otherwise the file is the user's, and nothing is dropped.
        if len(set(numbers)) < len(lines) or torn[: len(_BEGINS)] != _BEGINS[: len(torn)]:
            raise TdiffError(f"the output {str(output)!r} exists and is not one of {command}; name another file")
        return cls(lines, size)

    @property
    def numbers(self) -> set[int]:
        """The input lines that are done."""
        return {line["line"] for line in self.lines}

    @contextmanager
    def opened(self, output: Path, done: int, total: int, what: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """A function that appends and flushes a record; a torn last line is dropped.

        stderr says how many results are `done` and, on Ctrl-C, how to resume.
        """
        try:
            file = output.open("r+" if output.exists() else "w", encoding="utf-8", newline="\n")
            file.truncate(self.size)
            file.seek(self.size)
        except OSError as error:
            raise TdiffError(f"the output {str(output)!r} cannot be written: {error.strerror}") from None
        with file:
            if done:
                print(f"{output} has {done:,} of {total:,} {what}: resuming", file=sys.stderr, flush=True)
            try:
                yield writer(file)
            except KeyboardInterrupt:
                print(f"stopped; {visible_line(str(output))} {RESUMES}", file=sys.stderr)
                raise

    def check_input(self, contents: Mapping[int, Any], output: Path) -> None:
        """Raises TdiffError where the file was written from another input; `contents` has each line by number."""
        for line in self.lines:
            number = line["line"]
            if number not in contents or finite(contents[number]) != line["input"]:
                raise TdiffError(f"{str(output)!r} was written from another input: its line {number} differs")


def writer(file: IO[str]) -> Callable[[Mapping[str, Any]], None]:
    """A function that writes a record to the file and flushes it."""

    def write(record: Mapping[str, Any]) -> None:
        file.write(json_line(record) + "\n")
        file.flush()

    return write


class Skipped:
    """Rows that cannot be used, each reported on stderr."""

    def __init__(self, source: str) -> None:
        self.source, self.count, self.last = source, 0, ""

    def report(self, number: int, error: str) -> None:
        """Report the row of that number."""
        self.count, self.last = self.count + 1, error
        line = f"{visible_line(self.source)}:{number}: {visible_line(error)}; skipped"
        print(visible(line), file=sys.stderr, flush=True)

    def exit(self, total: int, what: str) -> None:
        """Report their number and exit with code 1, if there are any."""
        if self.count:
            print(f"skipped {self.count:,} of {total:,} {what}", file=sys.stderr)
            sys.exit(_PARTIAL)


def check_settings(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    """Raises TdiffError where a file was written with other settings than it would be resumed with."""
    for name in (*now, *before):
        if before.get(name) != now.get(name):
            raise TdiffError(
                f"settings mismatch: {str(output)!r} was written with {name.replace('_', '-')} {before.get(name)}, not "
                f"{now.get(name)}; use the same settings, or another --output"
            )


def check_names(source: str, output: Path) -> None:
    """Raises TdiffError where the output is not a file other than the input."""
    if str(output) == "-":
        raise TdiffError("--output takes a file, which can be resumed; without it the lines go to stdout")
    try:
        same = source != "-" and output.samefile(source)
    except OSError:
        same = False
    if same:
        raise TdiffError(f"--output {str(output)!r} is the input itself: name another file")
