"""Which alerts of watched runs are news to the user, and the command that runs for each.

An alert that was there before a source was read for the first time is no news, nor is a second one of the same kind
within a minute. The content of a log never becomes part of a command line: it reaches the command in environment
variables and on its standard input.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from tdiff.visible import visible_line
from tdiff.watch.alerts import Notice
from tdiff.watch.lifecycle import State
from tdiff.watch.run_state import RunState

AGAIN = 60.0
"""Seconds after which a run may report an alert of the same kind again."""
MAX_RUNNING = 4
"""Commands that run at the same time; further alerts start none."""
TIME_LIMIT = 60.0
"""Seconds after which a command is ended."""
_OUTPUT, _TEXT = 4_000, 500
"""Characters of a command's output, and of an alert's text, that are used."""
OVER: frozenset[State] = frozenset({"finished", "stopped", "failed", "died"})
"""States of a run that has ended."""
_END_KINDS = frozenset({"ended", "failed", "died"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """News about a run; all texts are one line each and safe to print."""

    kind: str
    text: str
    run: str
    step: int
    loss: float | None
    """The newest training loss; None if there is none."""

    def __str__(self) -> str:
        return f"{self.run}: {self.kind}: {self.text} (step {self.step:,})"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a command."""
        return {
            "TDIFF_ALERT_KIND": self.kind,
            "TDIFF_ALERT_TEXT": self.text,
            "TDIFF_ALERT_RUN": self.run,
            "TDIFF_ALERT_STEP": str(self.step),
            "TDIFF_ALERT_LOSS": "" if self.loss is None else f"{self.loss:.6g}",
        }


@dataclass
class _Known:
    """What is known of one source."""

    run: RunState | None = None
    state: State = "waiting"
    read: bool = False
    sent: dict[str, float] = field(default_factory=dict)  # kind -> when the newest alert was reported


class News:
    """Selects the alerts that are news. One object serves all sources of a view."""

    def __init__(self) -> None:
        self._known: dict[object, _Known] = {}

    def take(
        self, source: object, run: RunState, notices: Sequence[Notice], now: float, *, current: bool
    ) -> list[Alert]:
        """The news of a source at `now` (s since the epoch), of its newest notices (see `RunState.check`).

        `current`: everything available has been read. Until that is so for the first time nothing is news, nor after
        another run state has replaced the first one.
        """
        known = self._known.setdefault(source, _Known())
        before, known.state = known.state, run.state(now)
        if run is not known.run:
            known.run, known.read = run, False
        if not known.read:
            known.read = current
            return []
        found = [(notice.what, notice.text, notice.step) for notice in notices]
        if known.state in OVER and before not in OVER and not any(kind in _END_KINDS for kind, _, _ in found):
            found.append(("ended" if known.state in ("finished", "stopped") else known.state, known.state, run.step))
        return [self._alert(run, *one) for one in found if self._is_due(known, one[0], now)]

    def _is_due(self, known: _Known, kind: str, now: float) -> bool:
        if now - known.sent.get(kind, -AGAIN) < AGAIN:
            return False
        known.sent[kind] = now
        return True

    def _alert(self, run: RunState, kind: str, text: str, step: int) -> Alert:
        loss = run.metrics.get("train/loss")
        newest = loss.last[1] if loss is not None and loss.last is not None else None
        name = visible_line(run.name)[:_TEXT]
        return Alert(kind=kind, text=visible_line(text)[:_TEXT], run=name, step=step, loss=newest)


class AlertCommand:
    """Runs a command of the user for each alert, in the background."""

    def __init__(self, command: str) -> None:
        """`command` is a line of the shell."""
        self._command = command
        self._threads: list[threading.Thread] = []
        self._failures: deque[str] = deque(maxlen=100)

    def run(self, alert: Alert) -> None:
        """Start the command for an alert. Never waits."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= MAX_RUNNING:
            self._failures.append(f"the alert command was not started: {MAX_RUNNING} of them are still running")
            return
        thread = threading.Thread(target=self._run, args=(alert,), daemon=True, name="alert-command")
        self._threads.append(thread)
        thread.start()

    def failures(self) -> list[str]:
        """What has gone wrong since the last call, a line each, safe to print."""
        failures = []
        while self._failures:
            failures.append(self._failures.popleft())
        return failures

    def wait(self) -> None:
        """Wait until no command runs, up to the time limit."""
        end = time.monotonic() + TIME_LIMIT + 1
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self, alert: Alert) -> None:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env=os.environ | alert.variables,
                start_new_session=True,
            )
        except OSError as error:
            self._failures.append(f"the alert command cannot be started: {error.strerror}")
            return
        assert process.stdin is not None and process.stdout is not None
        output = ""
        with process.stdout, contextlib.suppress(OSError):
            with process.stdin, contextlib.suppress(OSError):  # less than the pipe holds: this never waits
                process.stdin.write(f"{alert}\n".encode("utf-8", "replace"))
            output = _output(process, process.stdout)
        if process.returncode:
            last = visible_line((output.strip().splitlines() or [""])[-1])
            code = process.returncode
            why = f"ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
            self._failures.append(f"the alert command {why}" + (f": {last}" if last else ""))


def _output(process: subprocess.Popen[bytes], stream: IO[bytes]) -> str:
    """The end of a command's output, once it has ended or, at the time limit, been ended.

    A child of the command that continues in the background may keep the stream open; it is not waited for.
    """
    os.set_blocking(stream.fileno(), False)
    end, output = time.monotonic() + TIME_LIMIT, b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        is_open = True
        while True:
            over = process.poll() is not None
            if selector.select(0 if over else 0.1) if is_open else False:
                piece = os.read(stream.fileno(), 1 << 16)
                output = (output + piece)[-_OUTPUT:]
                if not piece:
                    selector.unregister(stream)
                    is_open = False
            elif over:
                return output.decode("utf-8", "replace")
            elif not is_open:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            if not over and time.monotonic() >= end:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
