"""The answers of a script of this package, cut out of a stream that holds other text too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST = 1 << 20
"""Bytes of an answer; the rest of a longer one is dropped."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of an answer."""

    name: str
    status: int
    lines: Sequence[str]

    @property
    def text(self) -> str:
        """Its lines."""
        return "\n".join(self.lines)


Answer = dict[str, Section]
"""The sections of an answer by their names."""


class Answers:
    """Splits a stream into answers and other text."""

    def __init__(self, token: str) -> None:
        """`token`: the first word of the lines that belong to the form of an answer."""
        self._token = token.encode() + b" "
        self._rest = b""
        self._lines: list[bytes] | None = None  # of an unfinished answer
        self._size = 0

    def take(self, data: bytes) -> tuple[list[Answer], bytes]:
        """The answers that `data` completes, and the text that belongs to none."""
        answers: list[Answer] = []
        other = bytearray()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line == self._token + b"begin":
                self._lines, self._size = [], 0
            elif self._lines is None:
                other += line + b"\n"
            elif line == self._token + b"end":
                answers.append(self._sections(self._lines))
                self._lines = None
            elif self._size < _LONGEST:
                self._size += len(line) + 1
                self._lines.append(line)
        if self._lines is None and self._rest and not self._token.startswith(self._rest[: len(self._token)]):
            other, self._rest = other + self._rest, b""
        elif len(self._rest) > _LONGEST:
            self._rest = b""
        return answers, bytes(other)

    def _sections(self, lines: Sequence[bytes]) -> Answer:
        answer: Answer = {}
        name, status, content = "", 0, list[str]()
        for line in [*lines, self._token]:
            if not line.startswith(self._token):
                content.append(line.decode("utf-8", "replace"))
                continue
            if name:
                answer[name] = Section(name, status, content)
            words = line.decode("utf-8", "replace").split()
            name = words[1] if len(words) > 1 else ""
            status = int(words[2]) if len(words) > 2 and words[2].isdecimal() else 0
            content = []
        return answer
