"""The watchdog's pipe: open while the terminal is watched, closed at the end of the view."""

import os

import pytest

from tdiff.tui.watchdog import Watchdog


def test_close_ends_the_thread_and_closes_both_ends_of_the_pipe():
    terminal, other_end = os.pipe()
    calls = []
    watchdog = Watchdog(terminal, lambda: calls.append("leave"), lambda: calls.append("kill"))
    pipe = (watchdog._read_end, watchdog._write_end)
    for end in pipe:
        os.fstat(end)
    watchdog.close()
    watchdog._thread.join(10)
    assert not watchdog._thread.is_alive() and not calls
    for end in pipe:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
    watchdog.alarm()  # too late, and harmless
    watchdog.close()
    os.close(terminal)
    os.close(other_end)
