"""The view's connection to its terminal: textual's driver with signals, input and output that cannot stop it.

textual's own driver works inside signal handlers, where it can wait for a lock that its thread already holds; it
flushes what was typed when it resumes; its input thread spins once the terminal has gone, and ends at one odd byte; its
output thread ends at the first failed write, after which the program waits for it for ever. Here signals are handled by
the event loop, input goes through `terminal_input`, and a watchdog ends the program after a hang-up.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import sys
import termios
import time
import tty
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Thread
from typing import IO, Any, Protocol

from textual import constants, events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._parser import ParseTimeout
from textual._xterm_parser import XTermParser
from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message import Message

from tdiff.terminal.detect import Terminal, leaving
from tdiff.terminal.input import Piece, Splitter
from tdiff.tui.watchdog import Watchdog
from tdiff.watch.generation.processes import kill_all

_KITTY_FLAGS = 0b11001
"""Keys without ambiguity, all of them, with the text they type."""
_MODES_ON = "\x1b[?25l\x1b[?1004h"
"""No cursor; reports of focus."""
_MODES_AFTER = "\x1b[?2048$p\x1b[?2004h\x1b[?7l"
"""Can it report its size? Bracketed paste; no line wrap."""


class SafeWriter(WriterThread):
    """Writes to the terminal in a thread. After a failed write it takes what comes and drops it."""

    def __init__(self, file: IO[str], failed: Callable[[], None]) -> None:
        super().__init__(file)
        self._failed: Callable[[], None] | None = failed

    def run(self) -> None:
        """Until `stop`. Whoever writes never waits for a terminal that has gone."""
        queue = self._queue
        while (text := queue.get()) is not None:
            if self._failed is None:
                continue
            try:
                self._file.write(text)
                if queue.empty():
                    self._file.flush()
            except (OSError, ValueError):
                failed, self._failed = self._failed, None
                failed()
        if self._failed is not None:
            with suppress(OSError, ValueError):
                self._file.flush()


class Host(Protocol):
    """The app of a driver."""

    @property
    def terminal(self) -> Terminal:
        """The terminal that the app draws on."""

    def suspending(self) -> None:
        """The process is about to stop; may be called twice."""

    def hang_up(self) -> None:
        """Leave at once."""

    def draw_anew(self) -> None:
        """Draw every cell."""

    def call_later(self, callback: Callable[[], None]) -> object:
        """Call this once the messages that wait have been handled."""

    def report_error(self, error: Exception) -> None:
        """Leave after an internal error."""


class ViewDriver(LinuxDriver):
    """The driver of a `Host` that is a textual app."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)  # its handlers, which do their work inside the handler, are replaced below
        self._waking: tuple[int, int] | None = None
        self._started = False
        self._host: Host = app
        self._typed = self._host.terminal.typed
        loop = self._loop
        self.watchdog = Watchdog(self.fileno, lambda: _soon(loop, self._host.hang_up), kill_all)
        for sign in (signal.SIGHUP, signal.SIGTERM):  # also where whoever started us ignores a hang-up
            signal.signal(sign, lambda *_: self.watchdog.alarm())
        self._listen(signal.SIGTSTP, self._suspend)
        self._listen(signal.SIGCONT, self._continued)

    def _listen(self, number: int, act: Callable[[], None]) -> None:
        """Have the event loop act on a signal: the handler itself only wakes the loop."""
        self._loop.add_signal_handler(number, act)

    # Suspending

    def _suspend(self) -> None:
        """Leave the terminal to the shell, and stop."""
        if self._auto_restart and self._started:
            self._host.suspending()
            self.suspend_application_mode()
            self._must_signal_resume = True
        os.kill(os.getpid(), signal.SIGSTOP)

    def _continued(self) -> None:
        """Take the terminal again, after a stop that we made or somebody else did."""
        if not self._auto_restart or self.watchdog.called:  # whoever ends a stopped job has it continue, to hear of it
            return
        if not self._in_foreground():
            os.kill(os.getpid(), signal.SIGSTOP)  # `bg` in a shell: there is nothing to draw on
        elif self._started:  # SIGSTOP tells nobody: only the terminal's state is lost
            self.write("\x1b[<u")  # the keyboard's flags are a stack: those of before, or else they pile up
            self._enter()
            self._host.call_later(self._host.draw_anew)
        else:
            self.resume_application_mode()
            self._host.call_later(self._host.draw_anew)

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.fileno) == os.getpgrp()
        except OSError:  # not our controlling terminal: nobody stops us for using it
            return True

    # The terminal's state

    def start_application_mode(self) -> None:
        """Take the terminal: its alternate screen, raw keys, mouse; start reading and writing."""
        if os.isatty(self.fileno) and not self._in_foreground():
            if not self.watchdog.called:
                os.kill(os.getpid(), signal.SIGSTOP)
            return  # going on, `_continued` comes back here
        self._started = True
        self._writer_thread = SafeWriter(self._file or sys.stderr, self.watchdog.alarm)
        self._writer_thread.start()
        self._listen(signal.SIGWINCH, self._resized)
        self._report_size()
        with suppress(termios.error):
            self.attrs_before = termios.tcgetattr(self.fileno)
        self._waking = os.pipe()
        self._enter()
        self._key_thread = Thread(target=self._run_input_thread, name="textual-input", daemon=True)
        self._key_thread.start()
        if self._must_signal_resume:
            self._must_signal_resume = False
            self.send_message(self.SignalResume())

    def _enter(self) -> None:
        """Everything that the terminal must be told; nothing typed is lost by it."""
        self.write("\x1b[?1049h")
        self._enable_mouse_support()
        with suppress(termios.error):
            raw = termios.tcgetattr(self.fileno)
            raw[tty.LFLAG] = self._patch_lflag(raw[tty.LFLAG])
            raw[tty.IFLAG] = self._patch_iflag(raw[tty.IFLAG])
            raw[tty.CC][termios.VMIN] = 1
            termios.tcsetattr(self.fileno, termios.TCSANOW, raw)
        self.write(_MODES_ON)
        if not constants.DISABLE_KITTY_KEY:
            self.write(f"\x1b[>{_KITTY_FLAGS}u")
        self._request_terminal_sync_mode_support()
        self.write(_MODES_AFTER)
        self._enable_mouse_support()  # iTerm 3.5.0 forgets it otherwise

    def disable_input(self) -> None:
        """Stop reading keys. What arrives from now on is for whoever comes next, so nothing is flushed here."""
        self._loop.remove_signal_handler(signal.SIGWINCH)
        self._disable_mouse_support()
        if self._key_thread is not None and self._waking is not None:
            hear, tell = self._waking
            with suppress(OSError):
                os.write(tell, b".")
            self._key_thread.join()
            self._key_thread = self._waking = None
            os.close(hear)
            os.close(tell)

    def stop_application_mode(self) -> None:
        """Leave a clean screen and the terminal as it was."""
        if not self._started:
            return
        self._started = False
        self.write(leaving(self._host.terminal))
        super().stop_application_mode()

    def close(self) -> None:
        """The last thing written is written; after this nothing is."""
        super().close()
        self._writer_thread = None

    def write(self, data: str) -> None:
        """Write to the terminal, where it is ours."""
        if self._writer_thread is not None:
            self._writer_thread.write(data)

    def end(self) -> None:
        """The program leaves: signals do again what they did before (the loop took its own handlers with it)."""
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self.watchdog.close()
        if self._in_foreground():  # from the background it would stop us
            with suppress(termios.error):
                termios.tcflush(self.fileno, termios.TCIFLUSH)  # answers that came too late are not for the shell

    # Size

    def _resized(self) -> None:
        if not self._in_band_window_resize:
            self._report_size()

    def _report_size(self) -> None:
        size = Size(*self._get_terminal_size())
        self.send_message(events.Resize(size, size))

    # Input

    def run_input_thread(self) -> None:
        """Read until asked to stop, or the terminal has gone."""
        assert self._waking is not None, "it is started by start_application_mode"
        hear = self._waking[0]
        splitter, parser = Splitter(ANSI_SEQUENCES_KEYS), SafeParser(self._debug)
        decode = getincrementaldecoder("utf-8")("ignore").decode
        typed, self._typed = self._typed, b""
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(hear, selectors.EVENT_READ)
            self._act(parser, splitter.feed(decode(typed), time.monotonic()))
            while True:
                deadline = splitter.deadline()
                ready = selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
                sources = {key.fd for key, _ in ready}
                if self.fileno in sources:
                    try:
                        data = os.read(self.fileno, 1 << 12)
                    except OSError:
                        data = b""
                    if not data:
                        self.watchdog.alarm()
                        return
                    self._act(parser, splitter.feed(decode(data), time.monotonic()))
                if hear in sources:
                    return
                self._act(parser, splitter.tick(time.monotonic()))

    def _act(self, parser: SafeParser, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            for message in parser.messages(piece):
                self.process_message(message)

    def _run_input_thread(self) -> None:
        """An error here is the program's own, and told as any other."""
        try:
            self.run_input_thread()
        except Exception as why:
            error = why
            self._loop.call_soon_threadsafe(lambda: self._host.report_error(error))


class SafeParser:
    """textual's parser, given whole sequences only, and begun anew where one of them leaves it in the middle."""

    def __init__(self, debug: bool = False) -> None:
        self._debug = debug
        self._parser = XTermParser(debug)

    def messages(self, piece: Piece) -> list[Message]:
        """What a piece means; nothing where the parser cannot read it."""
        if piece.kind == "paste":
            return [events.Paste(piece.text)]
        if piece.kind == "escape":
            return [events.Key("escape", "\x1b")]
        parser = self._parser
        messages: list[Message] = []
        try:
            messages += parser.feed(piece.text)
            if parser._timeout_time is not None and piece.kind == "alt":
                parser._timeout_time = 0.0  # no more will come of it
                messages += parser.tick()
            whole = parser._timeout_time is None
        except (ValueError, OverflowError, LookupError, StopIteration, ParseTimeout):
            messages, whole = [], False
        if not whole:
            self._parser = XTermParser(self._debug)
            self._parser.terminal_size = parser.terminal_size
            self._parser.terminal_pixel_size = parser.terminal_pixel_size
            self._parser.mouse_pixels = parser.mouse_pixels
        return messages


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(act)
