"""`tdiff watch` through stops, hang-ups and unexpected input: it never hangs, loses no key, and leaves no process."""

import os
import random
import re
import signal
import time

import pytest

from tests.support.ptys import Pty, soon
from tests.tui.test_terminals import WATCH, alive, children
from tests.tui.test_terminals import place as place

LOG = [*WATCH, "log.csv"]
GONE = 3.0 + 3.0
"""Seconds after a hang-up within which everything is gone: three, and as many for a busy machine."""


@pytest.fixture(autouse=True)
def log(place) -> None:
    """A log that no model wrote, in a folder with one run."""
    rows = [f"{step},{4 / (1 + step / 40):.3f}" for step in range(200)]
    (place / "log.csv").write_text("\n".join(["step,train/loss", *rows]) + "\n")


def answers(pty: Pty) -> None:
    """The view hears keys: help opens and closes."""
    at = len(pty.written)
    pty.send(b"?")
    pty.until(b"Everywhere", at)
    at = len(pty.written)
    pty.send(b"\x1b")
    pty.until(b"train/loss", at)


def storm_of_continues(signals: int) -> None:
    pty = Pty([*WATCH, "--every=0"])
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    models = children(pty.pid)
    chance = random.Random(0)
    for _ in range(signals):
        os.kill(pty.pid, signal.SIGCONT)
        pty.read(chance.random() * 0.05)
    answers(pty)
    pty.send(b"q")
    assert pty.end() == 0
    assert soon(lambda: not any(map(alive, models)))


def test_continue_signals_while_text_is_drawn_are_harmless(place):
    storm_of_continues(60)


@pytest.mark.slow
def test_500_continue_signals_while_text_is_drawn_are_harmless(place):
    storm_of_continues(500)


@pytest.mark.parametrize("delay", [0.02, *(pytest.param(other, marks=pytest.mark.slow) for other in (0.0, 0.1, 0.3))])
def test_a_key_typed_at_any_time_after_a_continue_is_handled(place, delay):
    pty = Pty(LOG)
    pty.until(b"train/loss")
    os.kill(pty.pid, signal.SIGSTOP)
    time.sleep(0.2)
    pty.read()
    at = len(pty.written)
    os.kill(pty.pid, signal.SIGCONT)
    time.sleep(delay)
    pty.send(b"?")
    pty.until(b"Everywhere", at)
    pty.send(b"qq")
    assert pty.end() == 0


def test_a_key_typed_during_startup_is_handled(place):
    pty = Pty(LOG)
    pty.send(b"?")
    pty.until(b"Everywhere")
    pty.send(b"qq")
    assert pty.end() == 0


@pytest.mark.parametrize("way", ["ctrl+z", "SIGTSTP"])
def test_a_suspended_view_leaves_a_clean_terminal_and_redraws(place, way):
    pty = Pty(["bash", "--norc", "-i"], PS1="shell: ")
    pty.until(b"shell: ")
    pty.send(f"exec 3<&0; {' '.join(LOG)}\n".encode())
    pty.until(b"train/loss")
    at = len(pty.written)
    if way == "ctrl+z":
        pty.send(b"\x1a")
    else:
        [view] = [pid for pid in descendants(pty.pid) if "watch" in arguments(pid)]
        os.kill(view, signal.SIGTSTP)
    pty.until(b"Stopped", at)
    left = pty.written[at:].rpartition(b"Stopped")[0]
    assert b"\x1b[?1049l" in left and b"\x1b[?25h" in left
    at = len(pty.written)
    pty.send(b"fg\n?")
    pty.until(b"Everywhere", at)
    assert b"\x1b[?1049h" in pty.written[at:]
    pty.send(b"qq")
    pty.until(b"tdiff watch --once", at)
    pty.send(b"exit\n")
    pty.end()


def descendants(of: int) -> list[int]:
    found, checked = [of], 0
    while checked < len(found):
        path = f"/proc/{found[checked]}/task/{found[checked]}/children"
        with open(path) as file:  # noqa: PTH123
            found += map(int, file.read().split())
        checked += 1
    return found[1:]


def arguments(pid: int) -> str:
    """The command of a process; empty if it has ended since it was listed."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:  # noqa: PTH123
            return file.read().replace("\0", " ")
    except OSError:
        return ""


def close_at_random_moments(times: int) -> None:
    """Close the terminal so that the view gets no signal: its session leader ignores the hang-up and ends."""
    chance, slowest = random.Random(1), 0.0
    for n in range(times):
        pty = Pty(["sh", "-c", f"trap '' HUP; exec {' '.join(WATCH)} --every=0"])
        end = time.monotonic() + 0.3 + chance.random() * 3.5
        while time.monotonic() < end:
            pty.read(0.02)
            if n % 2 and chance.random() < 0.1:
                os.kill(pty.pid, signal.SIGCONT)
        models = children(pty.pid)
        os.close(pty.fd)
        closed = time.monotonic()
        gone = lambda pid=pty.pid: os.waitpid(pid, os.WNOHANG)[0] != 0  # noqa: E731
        assert soon(gone, GONE), f"closed {n}: the view is still there after {GONE} s"
        assert soon(lambda models=models: not any(map(alive, models)), max(0.1, closed + GONE - time.monotonic()))
        slowest = max(slowest, time.monotonic() - closed)
    print(f"{times} terminals closed; all gone within {slowest:.1f} s")


def test_a_terminal_closed_at_any_time_ends_all_processes(place):
    close_at_random_moments(4)


@pytest.mark.slow
def test_200_terminals_closed_at_any_time_end_all_processes(place):
    close_at_random_moments(200)


def test_a_terminal_that_reads_nothing_does_not_block_the_end(place):
    pty = Pty([*WATCH, "--every=0"])
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    models = children(pty.pid)
    time.sleep(3)  # what it writes now fills the terminal's buffer, and its writer waits
    os.kill(pty.pid, signal.SIGTERM)
    assert soon(lambda: os.waitpid(pty.pid, os.WNOHANG)[0] != 0, GONE)
    assert soon(lambda: not any(map(alive, models)), GONE)


LATE = [
    b"\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\\",
    b"\x1b[?64;1;2;6c",
    b"\x1b[>84;0;0c",
    b"\x1bP>|kitty(0.35)\x1b\\",
    b"\x1b[5;9R",
]


def test_a_late_answer_of_the_terminal_is_not_a_key(place):
    pty = Pty(LOG)
    pty.until(b"train/loss")
    for answer in LATE:
        half = len(answer) // 2
        pty.send(answer[:half])
        time.sleep(0.15)
        at = len(pty.written)
        pty.send(answer[half:] + b"?")
        pty.until(b"Everywhere", at)
        pty.send(b"\x1b")
        time.sleep(0.3)
        pty.read()
    pty.send(b"q")
    assert pty.end() == 0


def random_bytes(chance: random.Random) -> bytes:
    """What a terminal might send, and what it would not: sequences, cut and glued, and any bytes."""
    parts = [b"\x1b[", b"\x1b]", b"\x1bP", b"\x1bO", b"\x1b", b"\x9b", b"\xff", b"\xc3", b"[97;1:3u", b";", b":"]
    parts += [b"9" * 20, b"\x1b[200~", b"\x1b[201~", b"\x1b[<0;999;1M", b"\x1b[M", b"u", b"~", b"\x07", b"\x1b\\"]
    parts += ["日".encode(), b"?"]
    made = b"".join(
        chance.choice(parts) if chance.random() < 0.7 else chance.randbytes(chance.randrange(1, 6))
        for _ in range(chance.randrange(1, 10))
    )
    # Keys that leave or stop are no garbage: q, Q, Ctrl+C, Ctrl+Q, Ctrl+Z, and what opens files or processes.
    return bytes(byte for byte in made if chr(byte) not in "qQ\x03\x11\x1aRxy")


def fuzz(strings: int) -> None:
    pty = Pty(LOG)
    pty.until(b"train/loss")
    chance = random.Random(2)
    for n in range(strings):
        pty.send(random_bytes(chance))
        assert pty.read(0.001), f"ended at string {n}: {pty.written[-600:]!r}"
        if n % 500 == 499:
            recover(pty)
    recover(pty)
    os.kill(pty.pid, signal.SIGTERM)
    pty.end()
    assert b"Traceback" not in pty.written and b"internal error" not in pty.written


def recover(pty: Pty) -> None:
    """After the silence that ends any sequence, and out of whatever was opened, help can be opened."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        pty.read(5.5)
        for _ in range(4):
            pty.send(b"\x1b")
            pty.read(0.3)
        at = len(pty.written)
        pty.send(b"?")
        if soon(lambda at=at: pty.read() and b"Everywhere" in pty.written[at:], 5):
            pty.send(b"\x1b")
            pty.read(0.3)
            return
    raise AssertionError(f"no key is heard: {pty.written[-1000:]!r}")


@pytest.mark.slow
def test_300_random_inputs_do_not_end_the_view(place):
    fuzz(300)


@pytest.mark.slow
def test_10000_random_inputs_do_not_end_the_view(place):
    fuzz(10_000)


def test_an_internal_error_is_one_line_a_file_and_exit_code_1(place, tmp_path):
    program = (
        "import sys; from tdiff.tui.app import WatchApp\n"
        "WatchApp.action_help = lambda self: 1 / 0\n"
        "from tdiff.cli import main; sys.argv[0] = 'tdiff'; main()"
    )
    pty = Pty([WATCH[0], "-c", program, "watch", "log.csv"])
    pty.until(b"train/loss")
    pty.send(b"?")
    assert pty.end() == 1
    after = re.sub(r"\x1b\[[?<\d]*[a-z]", "", pty.written.rpartition(b"\x1b[?1049l")[2].decode())
    [line] = after.strip().splitlines()
    found = re.fullmatch(r"tdiff: internal error: ZeroDivisionError: division by zero; the traceback is in (\S+)", line)
    assert found, line
    with open(found[1]) as file:  # noqa: PTH123
        assert "ZeroDivisionError" in file.read()


def stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] in "Tt"


@pytest.mark.parametrize("way", ["ctrl+z", "SIGTSTP"])
def test_a_suspended_view_stops_its_model_which_resumes_with_it(place, way):
    pty = Pty([*WATCH, "--every=0"])
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    [model] = children(pty.pid)
    if way == "ctrl+z":
        pty.send(b"\x1a")
    else:
        os.kill(pty.pid, signal.SIGTSTP)
    assert soon(lambda: pty.read() and stopped(pty.pid) and stopped(model)), "both are stopped"
    os.kill(pty.pid, signal.SIGCONT)
    assert soon(lambda: pty.read() and not stopped(model)), "the model goes on"
    pty.send(b"q")
    assert pty.end() == 0
    assert soon(lambda: not alive(model))


def test_sigterm_ends_a_suspended_view_and_its_model(place):
    """As `kill %1` does in a shell: SIGTERM, and SIGCONT so that it is heard. The view is then in the background."""
    pty = Pty(["bash", "--norc", "-i"], PS1="shell: ")
    pty.until(b"shell: ")
    pty.send(f"{' '.join(WATCH)} --every=0\n".encode())
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    models = children(pty.pid)
    [view, *_] = [pid for pid in descendants(pty.pid) if " watch" in arguments(pid)]
    before = len(pty.written)
    pty.send(b"\x1a")
    assert soon(lambda: pty.read() and stopped(view) and all(map(stopped, models)))
    pty.until(b"Stopped", before)  # until the shell has its terminal again, it may discard what is typed
    pty.send(b"kill %1\n")
    assert soon(lambda: pty.read() and not alive(view) and not any(map(alive, models)), GONE)
    # Twice: the shell may not have reaped the job yet, and then refuses once because of "stopped jobs".
    pty.send(b"exit\nexit\n")
    pty.end()
