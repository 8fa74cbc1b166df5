"""A file on another host, whose stream through a local sh is cut anywhere; addresses and messages."""

import os
import random
import shutil
import signal
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdiff.errors import TdiffError
from tdiff.watch.follow import Watched
from tdiff.watch.sources import ssh, ssh_process
from tdiff.watch.sources.address import Address
from tdiff.watch.sources.ssh import Frames, SshSource
from tdiff.watch.targets import locate
from tests.support.ssh import follow as follow
from tests.support.ssh import local as local
from tests.support.ssh import quick as quick
from tests.support.ssh import write as write


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://host/var/log/a", Address("host", "/var/log/a")),
        ("ssh://me@host:22/a", Address("host", "/a", "me", 22)),
        ("ssh://me@corp@host/a", Address("host", "/a", "me@corp")),
        ("ssh://[fe80::1]:2222/a", Address("fe80::1", "/a", "", 2222)),
        ("ssh://host/~/runs/a b", Address("host", "runs/a b", at_home=True)),
        ("ssh://host/a%20b%2Fc%25?x#y", Address("host", "/a b/c%?x#y")),
        ("ssh://host/~other/x", Address("host", "/~other/x")),
        ("ssh://host/$(reboot)\n`a`'\"", Address("host", "/$(reboot)\n`a`'\"")),
        ("ssh://host/-rf", Address("host", "/-rf")),
        ("ssh://host/~/-rf", Address("host", "-rf", at_home=True)),
        ("ssh://host/%ff", Address("host", "/\udcff")),
    ],
)
def test_address_is_parsed(text, address):
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ssh://-oProxyCommand=touch%20x/a", "host"),
        ("ssh://-oProxyCommand/a", "host"),
        ("ssh://me@-host/a", "host"),
        ("ssh://-l@host/a", "user"),
        ("ssh://@host/a", "user"),
        ("ssh://a b@host/a", "user"),
        ("ssh://ho st/a", "host"),
        ("ssh://ho\nst/a", "host"),
        ("ssh://host\n/a", "host"),
        ("ssh://me\n@host/a", "user"),
        ("ssh://höst/a", "host"),
        ("ssh:///a", "host"),
        ("ssh://[-x]/a", "host"),
        ("ssh://$(x)/a", "host"),
        ("ssh://host;x/a", "host"),
        ("ssh://host%2d/a", "host"),
        ("ssh://host:0/a", "port"),
        ("ssh://host:65536/a", "port"),
        ("ssh://host:-1/a", "port"),
        ("ssh://host:/a", "port"),
        ("ssh://host:2 2/a", "port"),
        ("ssh://a:b:c/a", "port"),
        ("http://host/a", "address is ssh://"),
        ("ssh://host", "names a file"),
        ("ssh://host/", "names a file"),
        ("ssh://host/~/", "names a file"),
        ("ssh://host/a%00b", "names a file"),
        ("ssh://host/" + "a" * 4097, "names a file"),
    ],
)
def test_invalid_or_ambiguous_address_is_refused(text, why):
    with pytest.raises(TdiffError, match=why) as refused:
        Address.parse(text)
    assert "\n" not in str(refused.value)


def test_the_command_ends_its_options_before_the_host(monkeypatch):
    monkeypatch.setenv("TDIFF_SSH", f"'{sys.executable}' -F 'a file'")
    assert Address.parse("ssh://me@[::1]:7/a").command() == [
        *(sys.executable, "-F", "a file", "-p", "7", "--", "me@::1")
    ]
    assert Address.parse("ssh://host/a").command() == [sys.executable, "-F", "a file", "--", "host"]


@pytest.mark.parametrize(
    ("command", "why"), [("no-such-ssh -x", "'no-such-ssh' was not found"), ("ssh 'x", "TDIFF_SSH")]
)
def test_invalid_ssh_command_is_refused(monkeypatch, command, why):
    monkeypatch.setenv("TDIFF_SSH", command)
    with pytest.raises(TdiffError, match=why):
        SshSource(Address.parse("ssh://host/a"))


@given(st.data())
def test_messages_are_the_same_however_the_stream_is_cut(data):
    payloads = data.draw(st.lists(st.binary(max_size=40), max_size=6))
    stream = b"a login's chatter\nD 3\n" + b"hello there\n"
    stream += b"".join(b"D %d\n%bK 1 2\n" % (len(payload), payload) for payload in payloads)
    frames, found = Frames("hello there"), []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        found += frames.take(stream[:count])
        stream = stream[count:]
    assert found[0] == (["hello"], b"")
    assert [payload for words, payload in found if words[0] == "D"] == payloads
    assert len(found) == 1 + 2 * len(payloads)


@pytest.mark.parametrize("said", [b"D -1\n", b"D 99999999\n", b"D x\n", b"D\n", b"\n", b"\xff\n", b"x" * 200])
def test_invalid_message_is_refused(said):
    with pytest.raises((ValueError, IndexError)):
        list(Frames("hello").take(b"hello\n" + said))


def test_dropped_stream_loses_and_repeats_nothing(local, follow):
    log, draw = local / "log", random.Random(3)
    lines = [f"line {i} {'█' * draw.randrange(99)}" for i in range(3000)]
    write(log, lines[:2000])
    follower = follow(f"ssh://host{log}")
    cuts = 0
    while len(follower.lines) < 2000:
        (local / "cut").write_text(str(draw.randrange(60, 150_000)))
        follower.until(lambda: follower.source.status().connected)
        follower.until(lambda: not follower.source.status().connected or len(follower.lines) >= 2000)
        cuts += 1
    assert cuts > 3
    (local / "cut").write_text("")
    write(log, lines[2000:])
    follower.until_lines(lines)
    assert follower.resets == 0
    assert follower.source.status().lost == 0
    assert follower.source.status().age < 10
    assert follower.source.status().bytes == log.stat().st_size


def test_changes_of_the_remote_file_are_followed(local, follow):
    log = local / "log"
    follower = follow(f"ssh://host{log}")
    follower.until_text(f"{log} on host is not there yet; waiting for it")
    write(log, ["a", "b"])
    follower.until_lines(["a", "b"])
    assert follower.resets == 0
    with log.open("a") as file:
        file.write("to")
    time.sleep(0.2)
    follower.look()
    assert follower.lines == ["a", "b"]
    write(log, ["rn"])
    follower.until_lines(["a", "b", "torn"])
    write(log, ["x", "y", "z", "zz"], "w")  # the same inode, as long as before
    assert log.stat().st_size == 9
    follower.until_lines(["x", "y", "z", "zz"])
    assert follower.resets == 1
    write(log, ["x"], "w")
    follower.until(lambda: follower.lines == ["x"])
    assert follower.resets == 2
    write(local / "new", ["x", "and more"])
    (local / "new").replace(log)
    follower.until_lines(["x", "and more"])
    assert follower.resets == 3
    log.unlink()
    follower.until_text("is not there")
    assert follower.source.status().connected
    log.mkdir()
    follower.until_text("log on host has no log with a loss in it yet")
    write(log / "events.jsonl", ["in a run's folder"])
    follower.until_lines(["in a run's folder"])
    assert follower.source.status().text == ""


@pytest.mark.parametrize("seed", range(3))
def test_lines_match_the_remote_file_whatever_happens_to_it(local, follow, seed):
    log, draw = local / "log", random.Random(seed)
    follower = follow(f"ssh://host{log}")
    for count in range(120):
        lines = [f"{seed} {count} {i} {'x' * draw.randrange(2000)}" for i in range(draw.randrange(200))]
        what = draw.choice("aaaaaawrtdc")
        if what == "a":
            write(log, lines)
        elif what == "w":
            write(log, lines, "w")
        elif what == "r":
            write(local / "new", lines, "w")
            (local / "new").replace(log)
        elif what == "t" and log.exists():
            os.truncate(log, draw.randrange(log.stat().st_size + 1))
        elif what == "d":
            log.unlink(missing_ok=True)
        elif what == "c":
            (local / "cut").write_text(draw.choice(["", str(draw.randrange(400_000))]))
        for _ in range(draw.randrange(12)):
            follower.look()
            time.sleep(0.002)
    (local / "cut").write_text("")
    write(log, ["the end"])
    follower.until_lines(log.read_text().split("\n")[:-1])


@pytest.mark.parametrize("call", range(1, 7))
def test_file_rewritten_while_it_is_sent_is_sent_again(local, follow, monkeypatch, call):
    log, new, count = local / "log", local / "new", local / "count"
    write(log, [f"old {i}" for i in range(500)])
    write(new, [f"new {i} of a longer line" for i in range(500)])
    count.write_text("")
    (local / "bin").mkdir()
    tail = local / "bin" / "tail"  # the far side's; after its n-th reading the file is another, in the same place
    tail.write_text(
        f'#!/bin/sh\n{shutil.which("tail")} "$@"\nprintf x >>"{count}"\n'
        f'[ "$(wc -c <"{count}")" -ne {call} ] || cat "{new}" >"{log}"\n'
    )
    tail.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tail.parent}:{os.environ['PATH']}")
    follower = follow(f"ssh://host{log}")
    follower.until(lambda: log.stat().st_size == new.stat().st_size)
    follower.until_lines(new.read_text().splitlines())


def test_truncated_file_that_grew_again_restarts(local, follow):
    log, head, many = local / "log", "a heading " * 200, "x" * 2000
    log.write_text(f"{head}\nold {many}")
    follower = follow(f"ssh://host{log}")
    follower.until(lambda: follower.source.status().bytes == log.stat().st_size)
    write(log, [head, f"new {many}{many}", "more"], "w")
    follower.until_lines([head, f"new {many}{many}", "more"])
    assert follower.resets == 1


def test_age_is_that_of_the_remote_file(local, follow):
    write(local / "log", ["a"])
    os.utime(local / "log", (time.time() - 500, time.time() - 500))
    follower = follow(f"ssh://host{local}/log")
    assert follower.source.status().age is None
    follower.until_lines(["a"])
    assert 499 <= follower.source.status().age < 530
    write(local / "log", ["b"])
    follower.until_lines(["a", "b"])
    assert follower.source.status().age < 20


def test_rewritten_file_of_the_same_size_is_detected(local, follow):
    log = local / "log"
    write(log, ["loss 3"])
    follower = follow(f"ssh://host{log}")
    follower.until_lines(["loss 3"])
    write(log, ["loss 2"], "w")
    follower.until(lambda: follower.lines == ["loss 2"])
    assert follower.resets == 1


def test_file_replaced_between_connections_restarts(local, follow):
    log = local / "log"
    write(log, ["a", "b"])
    follower = follow(f"ssh://host{log}")
    follower.until_lines(["a", "b"])
    (local / "cut").write_text("0")
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    follower.until_text("reconnecting in")
    write(log, ["A", "b", "c"], "w")
    (local / "cut").write_text("")
    follower.until_lines(["A", "b", "c"])
    assert follower.resets == 1


def test_big_remote_file_is_read_from_a_line_start_near_its_end(local, follow, monkeypatch):
    monkeypatch.setattr(ssh, "_NEWEST", 5000)
    log = local / "log"
    lines = ["step,loss", *(f"{i},0.5" for i in range(9000))]
    write(log, lines)
    follower = follow(f"ssh://host{log}")
    follower.until(lambda: follower.source.status().current)
    assert follower.lines[0] == "step,loss"
    assert follower.lines[1:] == lines[-len(follower.lines) + 1 :]
    assert 4980 <= sum(len(line) + 1 for line in follower.lines[1:]) <= 5000
    skipped = log.stat().st_size - 5000
    assert f"{skipped:,} bytes skipped" in follower.source.status().text
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    more = [f"{i},0.25" for i in range(9000, 12000)]  # more than is read of a new file
    write(log, more)
    before = list(follower.lines)
    follower.until_lines(before + more)
    assert follower.resets == 0


def test_invalid_messages_end_the_connection(local, follow):
    fake = local / "fake"
    fake.write_text('#!/bin/sh\nread -r first\nset -- $first\necho "${1#banner=}"\necho D 1\\; rm\nsleep 9\n')
    follower = follow("ssh://host/a")
    follower.until_text("sent an invalid message; reconnecting in")
    assert not follower.source.status().connected


def test_silent_connection_is_dropped(local, follow, monkeypatch):
    monkeypatch.setattr(ssh, "_SILENCE", 0.1)
    (local / "fake").write_text("#!/bin/sh\nsleep 9\n")
    follower = follow("ssh://host/a")
    follower.until_text("no message for")


def test_silence_of_a_host_that_cannot_be_reached_is_no_stall(local):
    log, fake = local / "log", local / "fake"
    write(log, [f"step {n}/900 loss {3 - n / 100:.2f}" for n in range(20)])
    watched = Watched(locate(f"ssh://host{log}"))
    try:

        def until(condition) -> None:
            end = time.monotonic() + 30
            while not condition():
                assert time.monotonic() < end, watched.status()
                watched.poll()
                time.sleep(0.01)

        until(lambda: watched.status().current and watched.run_state.format)
        for step in (20, 21):  # two arrivals, so that it has a pace: what was there at first may come in pieces
            write(log, [f"step {step}/900 loss 2.8"])
            until(lambda step=step: watched.run_state.step == step)
        assert watched.run_state.timing.gap
        working = fake.read_text()
        fake.write_text("#!/bin/sh\nexit 255\n")
        os.killpg(watched.source._process.pid, signal.SIGKILL)
        until(lambda: watched.status().text.startswith("ssh ended"))
        watched.poll()
        run, later = watched.run_state, time.time() + 2000
        assert (run.state(later), run.check(later)) == ("running", [])
        fake.write_text(working)
        until(lambda: watched.status().current)
        watched.poll()
        assert run.state(later) == "stalled"
        assert [notice.what for notice in run.check(later)] == ["stall"]
    finally:
        watched.close()


def test_ssh_error_is_one_line_safe_to_print(local, follow):
    (local / "fake").write_text("#!/bin/sh\nprintf 'first\\nred \\033[31m text\\n\\n' >&2\nexit 255\n")
    follower = follow("ssh://host/a")
    follower.until_text("red ␛[31m text; reconnecting in 1 s")
    (local / "fake").write_text("#!/bin/sh\nexit 3\n")
    follower.until_text("ssh ended with status 3")


def test_reconnect_pause_doubles_up_to_a_limit(local, follow, monkeypatch):
    (local / "fake").write_text("#!/bin/sh\nexit 255\n")
    monkeypatch.setattr(ssh_process, "_FIRST_PAUSE", 1.0)
    monkeypatch.setattr(ssh_process, "_LONGEST_PAUSE", 30.0)
    now = 1000.0
    monkeypatch.setattr(ssh_process.time, "monotonic", lambda: now)
    source, waits = SshSource(Address.parse("ssh://host/a")), []
    for _ in range(8):
        while source._process.reconnect_at <= now:
            source.read()
        waits.append(source._process.reconnect_at - now)
        now = source._process.reconnect_at
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_connection_ends_with_its_source(local, follow):
    write(local / "log", ["a"])
    follower = follow(f"ssh://host{local}/log")
    follower.until_lines(["a"])
    process = follower.source._process._process
    assert os.getsid(process.pid) == process.pid != os.getsid(0)  # our Ctrl-C is not for it
    follower.source.close()
    assert process.poll() is not None
    follower.look()
    assert follower.source._process.pid is None
