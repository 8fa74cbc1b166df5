"""Bytes of a file as UTF-8 text, whatever it is: gzip, UTF-16 with a byte order mark, or TensorBoard events."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tdiff.watch.formats.tfevents import Decoder, is_events
from tdiff.watch.sources.local import LineSplitter

HEAD = 12
"""Bytes by which a kind is known."""
_PIECE = 1 << 24
"""Bytes that one call gives at most of a compressed file, however well it is compressed."""


class Kind(Protocol):
    """One kind of file."""

    def feed(self, data: bytes) -> bytes:
        """The text that `data` completes."""

    def flush(self) -> bytes:
        """The text that waits for more, where nothing more has come for a while."""


class Transcoder:
    """Finds the kind of a file by its first bytes, then gives its text."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._kind: Kind | None = None
        self.problem = ""
        """What is wrong with the file, in words; nothing after it is read."""

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the file, as text; may be called with none where `pending` is set."""
        if self._kind is None:
            self._head += data
            if len(self._head) < HEAD and not self._decided():
                return b""
            data = self._begin()
        assert self._kind is not None
        return self._guarded(self._kind.feed, data)

    def flush(self) -> bytes:
        """The text that waits for more bytes, where none come."""
        text = b""
        if self._kind is None and self._head:
            text = self._guarded(Plain().feed, self._begin())
        return text + (self._guarded(lambda _: self._kind.flush() if self._kind else b"", b""))

    def waiting(self) -> str:
        """The text that waits for further bytes; it still comes with them."""
        if self._kind is None:
            return bytes(self._head).decode("utf-8", "replace")
        return self._kind.waiting() if isinstance(self._kind, Events) else ""

    @property
    def is_plain(self) -> bool:
        """Whether the file is text as it is, or too short to tell."""
        return self._kind is None or isinstance(self._kind, Plain)

    @property
    def pending(self) -> bool:
        """Whether a call of `feed` without bytes gives more text."""
        return isinstance(self._kind, Gzip) and self._kind.pending and not self.problem

    def _decided(self) -> bool:
        """Whether a few bytes show that this is text: the other kinds begin with a mark, or have a zero byte second."""
        head = bytes(self._head)
        marks = (b"\x1f\x8b", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return len(head) > 1 and not head.startswith(marks) and head[1] != 0

    def _begin(self) -> bytes:
        head = bytes(self._head)
        self._head.clear()
        if head.startswith(b"\x1f\x8b"):
            self._kind = Gzip()
        elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not head.startswith(codecs.BOM_UTF32_LE):
            self._kind = Utf16()
        elif is_events(head[:HEAD]):
            self._kind = Events()
        else:
            self._kind = Plain()
        return head

    def _guarded(self, read: Callable[[bytes], bytes], data: bytes) -> bytes:
        if self.problem:
            return b""
        try:
            return read(data)
        except zlib.error as why:
            self.problem = f"the gzip data are damaged: {why}"
        except ValueError as why:
            self.problem = str(why)
        return b""


class Plain:
    """Text, as it is."""

    def feed(self, data: bytes) -> bytes:
        """The same bytes."""
        return data

    def flush(self) -> bytes:
        """Nothing waits."""
        return b""


class Utf16:
    """UTF-16, as a redirect in PowerShell 5 writes it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def feed(self, data: bytes) -> bytes:
        """The whole characters so far."""
        return self._decoder.decode(data).encode("utf-8", "replace")

    def flush(self) -> bytes:
        """Half a character is kept: the rest may come."""
        return b""


class Gzip:
    """gzip, of one member or several one after another."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self._rest = b""

    @property
    def pending(self) -> bool:
        """Whether there are bytes that have not been expanded."""
        return bool(self._rest)

    def feed(self, data: bytes) -> bytes:
        """At most `_PIECE` bytes of text; the rest waits for the next call."""
        data, self._rest = self._rest + data, b""
        text = bytearray()
        while data and len(text) < _PIECE:
            if self._stream.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                self._stream = zlib.decompressobj(31)
            text += self._stream.decompress(data, _PIECE - len(text))
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        self._rest = data
        return bytes(text)

    def flush(self) -> bytes:
        """Nothing waits but whole blocks."""
        return b""


class Events:
    """A TensorBoard event file, a line of JSON for each step."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def feed(self, data: bytes) -> bytes:
        """The steps that are complete. Raises ValueError where the file is damaged."""
        lines = self._decoder.feed(data)
        if self._decoder.damaged and not lines:
            raise ValueError("the TensorBoard event file is damaged: nothing after the damage is read")
        return "".join(f"{line}\n" for line in lines).encode()

    def waiting(self) -> str:
        """The newest step, which may not be complete."""
        return "\n".join(self._decoder.open_step())

    def flush(self) -> bytes:
        """The newest step."""
        return "".join(f"{line}\n" for line in self._decoder.flush()).encode()


class FileSplitter(LineSplitter):
    """Splits a file of any of these kinds into lines."""

    def __init__(self) -> None:
        super().__init__()
        self._transcoder = Transcoder()

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that end in `data`."""
        lines = super().feed(self._transcoder.feed(data))
        while self._transcoder.pending:
            lines += super().feed(self._transcoder.feed(b""))
        return lines

    def finish(self) -> list[str]:
        """Return the unfinished line, and what waited for further bytes."""
        return super().feed(self._transcoder.flush()) + super().finish()

    def flush(self) -> list[str]:
        """The lines that wait for further bytes, where none come: the newest step of an event file."""
        return super().feed(self._transcoder.flush())

    def unfinished(self) -> str:
        """The unfinished line, and what waits for further bytes."""
        return (super().unfinished() + self._transcoder.waiting()).removesuffix("\n")

    def note(self) -> str:
        """What is wrong with the file, or was dropped."""
        return self._transcoder.problem or super().note()


def is_text(path: Path) -> bool:
    """Whether a file is plain text, whose newest lines can be read without the rest. Raises OSError."""
    with path.open("rb") as file:
        return begins_text(file.read(HEAD))


def begins_text(head: bytes) -> bool:
    """Whether a file with these first bytes is plain text."""
    transcoder = Transcoder()
    transcoder.feed(head[:HEAD])
    return transcoder.is_plain
