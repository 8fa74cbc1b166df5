"""The view's connection to its terminal: textual's driver with signals, input and output that cannot block it.

textual's driver works inside signal handlers, where it can wait for a lock that its thread already holds; it flushes
what was typed when it resumes; its input thread spins once the terminal has closed, and ends at one odd byte; its
output thread ends at the first failed write, after which the program waits for it forever. Here signals are handled by
the event loop, input goes through `terminal.input`, and a watchdog ends the program after a hang-up.
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

from tdiff.terminal.detect import Terminal, leave_sequence
from tdiff.terminal.input import Piece, Splitter
from tdiff.tui.watchdog import Watchdog
from tdiff.watch.generation.processes import kill_all

_KITTY_FLAGS = 0b11001
"""Unambiguous codes for all keys, with the text that they type."""
_MODES_ON = "\x1b[?25l\x1b[?1004h"
"""Hide the cursor; report the focus."""
_MODES_AFTER = "\x1b[?2048$p\x1b[?2004h\x1b[?7l"
"""Query the size reports; bracketed paste; no line wrap."""


class SafeWriter(WriterThread):
    """Writes to the terminal in a thread. After a failed write it drops all output."""

    def __init__(self, file: IO[str], failed: Callable[[], None]) -> None:
        super().__init__(file)
        self._failed: Callable[[], None] | None = failed

    def run(self) -> None:
        """Write until `stop`. A caller never waits for a terminal that has closed."""
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

    def redraw_screen(self) -> None:
        """Draw every cell."""

    def call_later(self, callback: Callable[[], None]) -> object:
        """Call this once the messages that wait have been handled."""

    def report_error(self, error: Exception) -> None:
        """Leave after an internal error."""


class ViewDriver(LinuxDriver):
    """The driver of a `Host` that is a textual app."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)  # its signal handlers are replaced below
        self._waking: tuple[int, int] | None = None
        self._started = False
        self._host: Host = app
        self._typed = self._host.terminal.typed
        loop = self._loop
        self.watchdog = Watchdog(self.fileno, lambda: _soon(loop, self._host.hang_up), kill_all)
        for number in (signal.SIGHUP, signal.SIGTERM):  # also where the parent process ignores a hang-up
            signal.signal(number, lambda *_: self.watchdog.alarm())
        self._listen(signal.SIGTSTP, self._suspend)
        self._listen(signal.SIGCONT, self._continued)

    def _listen(self, number: int, act: Callable[[], None]) -> None:
        """Act on a signal in the event loop: the handler itself only wakes the loop."""
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
        """Take the terminal again after a stop, by this program or by another."""
        if not self._auto_restart or self.watchdog.called:  # a job is continued to receive its end
            return
        if not self._in_foreground():
            os.kill(os.getpid(), signal.SIGSTOP)  # `bg` in a shell: there is nothing to draw on
        elif self._started:  # SIGSTOP cannot be caught: only the terminal's state is lost
            self.write("\x1b[<u")  # the keyboard flags are a stack: pop the old ones, else they pile up
            self._enter()
            self._host.call_later(self._host.redraw_screen)
        else:
            self.resume_application_mode()
            self._host.call_later(self._host.redraw_screen)

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.fileno) == os.getpgrp()
        except OSError:  # not the controlling terminal: using it stops no process
            return True

    # The terminal's state

    def start_application_mode(self) -> None:
        """Take the terminal: its alternate screen, raw keys, mouse; start reading and writing."""
        if os.isatty(self.fileno) and not self._in_foreground():
            if not self.watchdog.called:
                os.kill(os.getpid(), signal.SIGSTOP)
            return  # when it continues, `_continued` calls this again
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
        """Set the modes of the terminal; no typed input is lost."""
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
        """Stop reading keys. Later input is for the next program, so nothing is flushed."""
        self._loop.remove_signal_handler(signal.SIGWINCH)
        self._disable_mouse_support()
        if self._key_thread is not None and self._waking is not None:
            read_end, write_end = self._waking
            with suppress(OSError):
                os.write(write_end, b".")
            self._key_thread.join()
            self._key_thread = self._waking = None
            os.close(read_end)
            os.close(write_end)

    def stop_application_mode(self) -> None:
        """Leave a clean screen, and restore the terminal."""
        if not self._started:
            return
        self._started = False
        self.write(leave_sequence(self._host.terminal))
        super().stop_application_mode()

    def close(self) -> None:
        """Finish writing; later output is dropped."""
        super().close()
        self._writer_thread = None

    def write(self, data: str) -> None:
        """Write to the terminal while the driver uses it."""
        if self._writer_thread is not None:
            self._writer_thread.write(data)

    def end(self) -> None:
        """The program exits: signals have their default effects again (the loop has removed its own handlers)."""
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self.watchdog.close()
        if self._in_foreground():  # from the background it would stop the process
            with suppress(termios.error):
                termios.tcflush(self.fileno, termios.TCIFLUSH)  # late answers are not for the shell

    # Size

    def _resized(self) -> None:
        if not self._in_band_window_resize:
            self._report_size()

    def _report_size(self) -> None:
        size = Size(*self._get_terminal_size())
        self.send_message(events.Resize(size, size))

    # Input

    def run_input_thread(self) -> None:
        """Read until `disable_input`, or until the terminal has closed."""
        assert self._waking is not None, "start_application_mode starts this thread"
        read_end = self._waking[0]
        splitter, parser = Splitter(ANSI_SEQUENCES_KEYS), SafeParser(self._debug)
        decode = getincrementaldecoder("utf-8")("ignore").decode
        typed, self._typed = self._typed, b""
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(read_end, selectors.EVENT_READ)
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
                if read_end in sources:
                    return
                self._act(parser, splitter.tick(time.monotonic()))

    def _act(self, parser: SafeParser, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            for message in parser.messages(piece):
                self.process_message(message)

    def _run_input_thread(self) -> None:
        """Report an error of this thread as an internal error."""
        try:
            self.run_input_thread()
        except Exception as why:
            error = why
            self._loop.call_soon_threadsafe(lambda: self._host.report_error(error))


class SafeParser:
    """textual's parser, which gets complete sequences only, and is replaced where one of them leaves it waiting."""

    def __init__(self, debug: bool = False) -> None:
        self._debug = debug
        self._parser = XTermParser(debug)

    def messages(self, piece: Piece) -> list[Message]:
        """The messages of a piece; none where the parser cannot read it."""
        if piece.kind == "paste":
            return [events.Paste(piece.text)]
        if piece.kind == "escape":
            return [events.Key("escape", "\x1b")]
        parser = self._parser
        messages: list[Message] = []
        try:
            messages += parser.feed(piece.text)
            if parser._timeout_time is not None and piece.kind == "alt":
                parser._timeout_time = 0.0  # the sequence is complete
                messages += parser.tick()
            complete = parser._timeout_time is None
        except (ValueError, OverflowError, LookupError, StopIteration, ParseTimeout):
            messages, complete = [], False
        if not complete:
            self._parser = XTermParser(self._debug)
            self._parser.terminal_size = parser.terminal_size
            self._parser.terminal_pixel_size = parser.terminal_pixel_size
            self._parser.mouse_pixels = parser.mouse_pixels
        return messages


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(act)
