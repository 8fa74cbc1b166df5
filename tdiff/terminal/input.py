"""Splits the input of a terminal into keys, pastes and sequences; everything else is dropped.

A terminal sends three kinds of text: what was typed, escape sequences for keys, mouse and size, and answers to
queries, which may arrive late. textual's parser reads the first two and turns every sequence that it does not know, or
cannot read, into single keys. Here each sequence is read to its end by the grammar of ECMA-48 and passed on only if
the parser can read it, so that no answer, however late or odd, is ever read as keys.

Pure: it reads no file and no clock (callers pass the seconds), and imports nothing of textual.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

ESC = "\x1b"
_ESCAPE_DELAY = 0.1
"""Seconds of silence after which a lone ESC is the Escape key."""
_CSI_DELAY = 0.5
"""Seconds of silence after which a control sequence that did not end is dropped."""
_STRING_DELAY = 1.0
"""The same for an answer that ends with a terminator (OSC, DCS, APC, PM, SOS)."""
_PASTE_DELAY = 5.0
"""The same for a bracketed paste; the part that arrived is used."""
_LONGEST_PASTE = 1 << 20
_LONGEST_SEQUENCE = 256
_PASTE_END = f"{ESC}[201~"

_CSI = re.compile(r"\x1b\[(?P<params>[0-?]*)(?P<middle>[ -/]*)(?P<final>[@-~])")
_CSI_START = re.compile(r"\x1b\[[0-?]*[ -/]*")
_CONSOLE_FUNCTION_KEY = re.compile(r"\x1b\[\[[A-E]")
_STRING_END = re.compile(r"\x07|\x1b\\|[\x18\x1a]|\x1b(?=[^\\])")
"""End of an OSC or a similar string: BEL or ST; CAN and SUB abort it, and so does the start of another sequence."""
_SGR_MOUSE = re.compile(r"<\d{1,4};-?\d{1,5};-?\d{1,5}")
_SIZE = re.compile(r"48(?:;[1-9]\d{0,4}){2}(?:;\d{1,6}){2}")
_MODE = re.compile(r"\?(?:2026|2048);[0-4]")
_KEY = re.compile(r"(?P<code>\d{0,7})(?::[\d:]*)?(?:;(?P<modifiers>\d{0,3})(?::(?P<event>\d))?(?:;(?P<text>[\d:]*))?)?")
_KEY_FINALS = "u~ABCDEFHPQS"
_RELEASE = "3"
_EIGHT_BIT = str.maketrans(
    dict.fromkeys([chr(code) for code in range(0x80, 0xA0)], "")
    | {chr(0x40 + ord(second)): ESC + second for second in "[]P_^X\\"}
)
"""C1 controls: the seven-bit form of those that start or end a sequence, nothing for the others."""
_UNPRINTABLE = dict.fromkeys([*range(0x20), 0x7F])
for _code in (0x09, 0x0A):
    del _UNPRINTABLE[_code]
del _code


class Piece(NamedTuple):
    """Input of the user, or a report that the view has requested."""

    kind: str
    """`key`: text for textual's parser: one character, or one complete sequence. `alt`: ESC and one character.
    `escape`: the Escape key. `paste`: text that was pasted."""
    text: str


class Splitter:
    """Splits the input of a terminal. `known` contains the key sequences in the table of textual's parser."""

    def __init__(self, known: Container[str]) -> None:
        self._known = known
        self._buffer = ""
        self._received = 0.0
        self._pasting = False

    def feed(self, text: str, now: float) -> list[Piece]:
        """The pieces that are complete once `text` has arrived, at `now` (seconds of any steady clock)."""
        self._received = now
        if text:
            self._buffer += text.translate(_EIGHT_BIT)
        return list(self._pieces())

    def deadline(self) -> float | None:
        """When `tick` is due unless more text arrives before; None: never."""
        if self._pasting:
            return self._received + _PASTE_DELAY
        if not self._buffer:
            return None
        start = self._buffer[:2]
        if start == f"{ESC}[":
            return self._received + _CSI_DELAY
        return self._received + (_STRING_DELAY if _is_string(start) else _ESCAPE_DELAY)

    def tick(self, now: float) -> list[Piece]:
        """The pieces that a silence completes, such as a lone ESC."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return []
        if self._pasting:
            return [*self._paste(self._buffer), *self.feed("", now)]
        rest, self._buffer = self._buffer, ""
        if rest == ESC:
            return [Piece("escape", ESC)]
        return [Piece("alt", rest)] if len(rest) == 2 else []

    def _pieces(self) -> Iterator[Piece]:
        while self._buffer:
            if self._pasting:
                pasted, end, rest = self._buffer.partition(_PASTE_END)
                if not end:
                    self._buffer = self._buffer[: _LONGEST_PASTE + len(_PASTE_END)]
                    return
                yield from self._paste(pasted)
                self._buffer = rest
                continue
            if self._buffer[0] != ESC:
                character, self._buffer = self._buffer[0], self._buffer[1:]
                yield Piece("key", character)
                continue
            before = len(self._buffer)
            yield from self._sequence()
            if len(self._buffer) == before:
                return

    def _sequence(self) -> Iterator[Piece]:
        """Take one sequence from the buffer, which starts with ESC; nothing where its end has not arrived."""
        buffer = self._buffer
        if len(buffer) == 1:
            return
        if buffer[1] == ESC:
            self._buffer = buffer[1:]
            yield Piece("escape", ESC)
        elif buffer[1] == "[":
            yield from self._control_sequence()
        elif _is_string(buffer[:2]):
            if end := _STRING_END.search(buffer, 2):
                self._buffer = buffer[end.start() if end[0] == ESC else end.end() :]
            elif len(buffer) > 2 and buffer[-1] == ESC:
                self._buffer = f"{buffer[:2]} {ESC}"  # perhaps the first half of its terminator
            elif len(buffer) > 2:
                self._buffer = f"{buffer[:2]} "
        elif buffer[1] == "O":
            if len(buffer) > 2:
                taken = 3 if "@" <= buffer[2] <= "~" else 2
                self._buffer = buffer[taken:]
                if taken == 2:
                    yield Piece("alt", buffer[:2])
                elif buffer[:3] in self._known:
                    yield Piece("key", buffer[:3])
        else:
            self._buffer = buffer[2:]
            if buffer[1] != "\\":  # else it is the end of an answer whose start was lost
                yield Piece("alt", buffer[:2])

    def _control_sequence(self) -> Iterator[Piece]:
        buffer = self._buffer
        if buffer == f"{ESC}[[":
            return
        if console := _CONSOLE_FUNCTION_KEY.match(buffer):
            self._buffer = buffer[console.end() :]
            yield Piece("key", console[0])
        elif sequence := _CSI.match(buffer):
            if sequence[0] == f"{ESC}[M":  # a mouse report of three more characters
                if len(buffer) >= sequence.end() + 3:
                    self._buffer = buffer[sequence.end() + 3 :]
                return
            self._buffer = buffer[sequence.end() :]
            if sequence[0] == f"{ESC}[200~":
                self._pasting = True
            elif text := self._readable(sequence):
                yield Piece("key", text)
        else:
            start = _CSI_START.match(buffer)
            assert start is not None, "the buffer starts with a control sequence"
            if start.end() < len(buffer):  # the rest cannot belong to it
                self._buffer = buffer[start.end() :]
            elif len(buffer) > _LONGEST_SEQUENCE:
                self._buffer = f"{ESC}[0"  # the end has not arrived, and is dropped with it

    def _readable(self, sequence: re.Match[str]) -> str:
        """The sequence as textual's parser can read it; empty where no key, mouse or size report sends it."""
        params, middle, final = sequence["params"], sequence["middle"], sequence["final"]
        if final == "R" and params:  # the cursor position; F3 with modifiers looks the same
            return ""
        if middle:
            return sequence[0] if middle == "$" and final == "y" and _MODE.fullmatch(params) else ""
        if sequence[0] in self._known or sequence[0] in (f"{ESC}[I", f"{ESC}[O"):
            return sequence[0]
        if final in "Mm":
            return sequence[0] if _SGR_MOUSE.fullmatch(params) else ""
        if final == "t":
            return sequence[0] if _SIZE.fullmatch(params) else ""
        if final not in _KEY_FINALS or not (key := _KEY.fullmatch(params)):
            return ""
        return _key_pressed(key, final)

    def _paste(self, text: str) -> Iterator[Piece]:
        self._pasting, self._buffer = False, ""
        if text := text[:_LONGEST_PASTE].translate(_UNPRINTABLE):
            yield Piece("paste", text)


def _is_string(start: str) -> bool:
    return len(start) == 2 and start[1] in "]P_^X"


def _key_pressed(key: re.Match[str], final: str) -> str:
    """A key of the kitty protocol, or of xterm with modifiers, without the parts that textual's parser cannot read.

    Empty for the release of a key and for codes that are not characters.
    """
    if key["event"] == _RELEASE:
        return ""
    code, text = key["code"] or "1", key["text"] or ""
    codes = [int(part) for part in text.split(":") if part]
    if final == "u" and not all(_is_character(number) for number in (int(code), *codes)):
        return ""
    if final != "u" and int(code) > 99:
        return ""
    fields = [key["code"], key["modifiers"] or ""] if key["modifiers"] is not None else [key["code"]]
    if codes:
        fields.append(":".join(map(str, codes)))
    return f"{ESC}[{';'.join(fields)}{final}"


def _is_character(code: int) -> bool:
    return 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
