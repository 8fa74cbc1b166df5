"""A file on another host: through a real sshd on loopback, and through a local sh whose stream is cut anywhere."""

import contextlib
import getpass
import gzip
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdiff.errors import TdiffError
from tdiff.watch.follow import Watched
from tdiff.watch.sources import ssh, ssh_process
from tdiff.watch.sources.address import DEFAULT_COMMAND, Address
from tdiff.watch.sources.ssh import Frames, SshSource
from tdiff.watch.targets import locate
from tests.support.event_files import write_events
from tests.support.slurm import path_with, pretend_slurm

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


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


class Follower:
    """Who reads a source and keeps its lines."""

    def __init__(self, address: str) -> None:
        self.source = SshSource(Address.parse(address))
        self.lines: list[str] = []
        self.resets = 0

    def look(self) -> None:
        read = self.source.read()
        self.resets += read.reset
        self.lines = read.lines if read.reset else self.lines + read.lines

    def until(self, condition, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.source.status(), self.lines[-3:])
            self.look()
            time.sleep(0.005)

    def until_lines(self, lines: list[str]) -> None:
        self.until(lambda: self.lines == lines and self.source.status().current)

    def until_text(self, text: str) -> None:
        self.until(lambda: text in self.source.status().text)


@pytest.fixture
def follow():
    followers: list[Follower] = []

    def start(address: str) -> Follower:
        followers.append(Follower(address))
        return followers[-1]

    yield start
    for follower in followers:
        follower.source.close()


@pytest.fixture
def quick(monkeypatch):
    """A far side that looks often, and a near side that tries again soon."""
    pause = "sleep 0.5 2>/dev/null || sleep 1"
    assert pause in ssh.SCRIPT
    monkeypatch.setattr(ssh, "SCRIPT", ssh.SCRIPT.replace(pause, "sleep 0.02"))
    monkeypatch.setattr(ssh_process, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ssh_process, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def local(monkeypatch, tmp_path, quick):
    """In ssh's place a local sh; a number in the file `cut` ends its stream after so many bytes."""
    (tmp_path / "cut").write_text("")
    fake = tmp_path / "fake"
    fake.write_text(f'#!/bin/sh\nn=$(cat \'{tmp_path}/cut\')\n[ "$n" ] || exec sh\nsh | stdbuf -o0 head -c "$n"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("TDIFF_SSH", str(fake))
    return tmp_path


def write(path: Path, lines: list[str], mode: str = "a") -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


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
        write(log, ["step 20/900 loss 2.8"])
        until(lambda: watched.run_state.step == 20)
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


@pytest.fixture(scope="module")
def server():
    """An sshd of our own on loopback: how to reach it, and its process id."""
    if not SSHD or not shutil.which("ssh-keygen"):
        pytest.skip("NO SSHD HERE: sources over ssh are not tested (apt-get install openssh-server)")
    folder = Path(tempfile.mkdtemp(prefix="td", dir="/tmp"))
    folder.chmod(0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    (folder / "user.pub").rename(folder / "authorized")
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nMaxStartups 100\nPrintMotd no\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log = (folder / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log, stdin=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert time.monotonic() < end and process.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    options = f"-F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile={folder}/known -o IdentitiesOnly=yes"
    command = f"{DEFAULT_COMMAND} {options} -i {folder}/user"
    yield command, f"ssh://{getpass.getuser()}@127.0.0.1:{port}", process.pid
    process.terminate()
    process.wait()
    log.close()
    shutil.rmtree(folder)


@pytest.fixture
def far(server, monkeypatch, quick):
    command, address, _ = server
    monkeypatch.setenv("TDIFF_SSH", command)
    return address


def children(pid: int) -> list[int]:
    """The processes under a process, at any depth; none under one that is gone by now."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for text in found for child in (int(text), *children(int(text)))]


def kill_all_under(pid: int) -> None:
    for child in children(pid):
        with contextlib.suppress(ProcessLookupError):  # it went with its parent
            os.kill(child, signal.SIGKILL)


def test_a_real_sshd_is_followed_through_killed_connections(far, server, follow, tmp_path):
    log = tmp_path / "train.log"
    lines = [f"{i} {'x' * 300}" for i in range(12_000)]
    write(log, lines[:8000])
    follower = follow(f"{far}{log}")
    follower.until(lambda: len(follower.lines) > 0)
    for kill in ("near", "far", "near"):  # while the first megabytes are on their way
        follower.until(lambda: follower.source.status().connected)
        assert len(follower.lines) < 8000
        if kill == "near":
            os.kill(follower.source._process.pid, signal.SIGKILL)
        else:
            kill_all_under(server[2])
        follower.until(lambda: not follower.source.status().connected)
        follower.look()
    follower.until_lines(lines[:8000])
    write(log, lines[8000:9000])
    follower.until_lines(lines[:9000])
    kill_all_under(server[2])
    write(log, lines[9000:])
    follower.until_lines(lines)
    assert follower.resets == 0
    assert follower.source.status().lost == 0
    assert follower.source.status().bytes == log.stat().st_size


def test_file_replaced_during_a_real_disconnection_restarts(far, follow, tmp_path, monkeypatch):
    log = tmp_path / "train.log"
    write(log, ["old 1", "old 2"])
    follower = follow(f"{far}{log}")
    follower.until_lines(["old 1", "old 2"])
    os.kill(follower.source._process.pid, signal.SIGKILL)
    write(tmp_path / "other", ["new 1", "new 2", "new 3"])
    (tmp_path / "other").replace(log)
    follower.until_lines(["new 1", "new 2", "new 3"])
    assert follower.resets == 1


NAMES = [
    'it\'s "quoted"',
    "$(touch MARK)",
    "`touch MARK`",
    "a;touch MARK",
    "'; touch MARK; '",
    "two\nlines\ntouch MARK\n",
    "-rf",
    "* ?[a]",
    "back\\slash $HOME",
    "{file}{0}",
    "% d",
    "ünï",
    "no-utf-8-\udcff",
]


def follow_hostile(follow, address: str, folder: Path, name: str) -> None:
    """A file of that name is read, and nothing else happens; MARK is what a command in the name would make."""
    marks = [Path.home() / f"tdiff-mark-{os.getpid()}", Path(f"tdiff-mark-{os.getpid()}")]
    path = folder / name.replace("MARK", marks[0].name)
    path.write_text("inside\n")
    (folder / "other").write_text("another\n")
    follow(f"{address}{folder}/" + path.name.replace("%", "%25")).until_lines(["inside"])
    assert not any(mark.exists() for mark in marks)


@pytest.mark.parametrize("name", NAMES)
def test_path_is_quoted_for_the_shell(local, follow, name):
    follow_hostile(follow, "ssh://host", local, name)
    encoded = "".join(f"%{byte:02x}" for byte in os.fsencode(name))
    assert Address.parse(f"ssh://host/{encoded}").path == f"/{name}"


@pytest.mark.parametrize("name", ["'; touch MARK; '$(touch MARK)`touch MARK`", '\n"two lines"\ntouch MARK\n#'])
def test_path_is_quoted_for_a_real_host(far, follow, tmp_path, name):
    follow_hostile(follow, far, tmp_path, name)


def test_a_path_from_the_home_folder(far, follow):
    handle, name = tempfile.mkstemp(prefix="-tdiff test ", dir=Path.home())
    try:
        os.write(handle, b"at home\n")
        follow(f"{far}/~/{Path(name).name}").until_lines(["at home"])
    finally:
        os.close(handle)
        Path(name).unlink()


def test_a_refused_login_is_one_line_of_status(far, follow, monkeypatch):
    monkeypatch.setenv(
        "TDIFF_SSH",
        f"{DEFAULT_COMMAND} -F /dev/null -o StrictHostKeyChecking=no -i /dev/null -o IdentitiesOnly=yes "
        "-o UserKnownHostsFile=/dev/null -o IdentityAgent=none",
    )
    follower = follow(f"{far}/etc/hostname")
    follower.until_text("Permission denied")
    status = follower.source.status()
    assert not status.connected
    assert "\n" not in status.text


def test_killed_watcher_leaves_no_remote_process(far, server, tmp_path):
    write(tmp_path / "log", ["a"])
    code = (
        "import sys, time\nfrom tdiff.watch.sources import ssh\nfrom tdiff.watch.sources.address import Address\n"
        "source = ssh.SshSource(Address.parse(sys.argv[1]))\n"
        "ssh.SCRIPT = ssh.SCRIPT.replace('sleep 0.5', 'sleep 0.02')\n"
        "while not source.status().current:\n    source.read()\n    time.sleep(0.01)\n"
        "print(source._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    before = set(children(server[2]))
    watcher = subprocess.Popen([sys.executable, "-c", code, f"{far}{tmp_path}/log"], stdout=subprocess.PIPE, text=True)
    client = int(watcher.stdout.readline())
    there = set(children(server[2])) - before
    assert there
    watcher.kill()
    watcher.communicate()
    end = time.monotonic() + 20
    while there & set(children(server[2])) or Path(f"/proc/{client}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def in_folder(folder: Path, name: str, lines: list[str], age: float = 0.0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, lines)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_folder_on_the_other_host_is_its_newest_log_with_a_loss(local, follow):
    folder = local / "a 'folder'"
    folder.mkdir()
    follower = follow(f"ssh://host{folder}")
    follower.until_text("has no log with a loss in it yet; waiting for one")
    in_folder(folder, "checkpoint-5/trainer_state.json", ['{"log_history": [', '{"loss": 3}]}'], 5)
    in_folder(folder, "old.log", ["loss 4"], 900)
    in_folder(folder, "noise.log", ["installing"], 1)
    in_folder(folder, "wandb/debug.log", ["loss"], 1)
    in_folder(folder, "version 1/metrics.csv", ["step,loss", "1,3"], 60)
    follower.until_lines(["step,loss", "1,3"])
    assert follower.source.choice.startswith("reading version 1/metrics.csv; also there: noise.log, old.log")
    assert follower.source.short == "version 1/metrics.csv"
    write(folder / "version 1/metrics.csv", ["2,2"])
    follower.until_lines(["step,loss", "1,3", "2,2"])
    assert follower.resets == 0


def test_newer_file_of_the_folder_is_read_once_the_present_one_is_silent(local, follow, monkeypatch):
    monkeypatch.setattr(ssh, "_IDLE", 10)
    folder = local / "folder"
    in_folder(folder, "version_0/metrics.csv", ["step,loss", "1,3"], 60)
    follower = follow(f"ssh://host{folder}")
    follower.until_lines(["step,loss", "1,3"])
    in_folder(folder, "version_1/metrics.csv", ["step,loss", "7,1"])
    follower.until_lines(["step,loss", "7,1"])
    assert follower.resets == 1
    assert follower.source.choice == "reading version_1/metrics.csv; also there: version_0/metrics.csv"


def test_folder_continues_with_its_file_after_a_dropped_connection(local, follow):
    folder = local / "folder"
    log = in_folder(folder, "a.log", [f"step {n} loss 3" for n in range(200)], 60)
    follower = follow(f"ssh://host{folder}")
    follower.until(lambda: follower.source.status().current and len(follower.lines) == 200)
    in_folder(folder, "b.log", ["step 1 loss 9"])
    write(log, ["step 200 loss 3"])
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    follower.until(lambda: len(follower.lines) == 201)
    assert follower.resets == 0


def test_trainer_state_is_read_where_there_is_no_log(local, follow):
    folder = local / "folder"
    in_folder(folder, "checkpoint-5/trainer_state.json", ['{"log_history": [', '{"loss": 3}]}'])
    in_folder(folder, "config.json", ["{}"])
    follower = follow(f"ssh://host{folder}")
    follower.until_lines(['{"log_history": [', '{"loss": 3}]}'])


def test_event_file_and_gzip_on_the_other_host_are_read(local, follow):
    path = local / "board/events.out.tfevents.1.h"
    write_events(path, [(n, {"train/loss": 3.0 - n}) for n in range(3)])
    os.utime(path, (time.time() - 60, time.time() - 60))
    follower = follow(f"ssh://host{path.parent}")
    follower.until(lambda: len(follower.lines) == 3)
    assert [json.loads(line)["train/loss"] for line in follower.lines] == [3.0, 2.0, 1.0]
    (local / "a.csv").write_bytes(gzip.compress(b"step,loss\n1,2\n"))
    follow(f"ssh://host{local}/a.csv").until_lines(["step,loss", "1,2"])


def test_end_of_a_big_file_that_is_no_text_is_not_read(local, follow, monkeypatch):
    monkeypatch.setattr(ssh, "_NEWEST", 1000)
    path = local / "events.out.tfevents.1.h"
    write_events(path, [(n, {"train/loss": 3.0 - n}) for n in range(100)])
    follower = follow(f"ssh://host{path}")
    follower.until(
        lambda: follower.source.status().current and "that are not plain text" in follower.source.status().text
    )
    assert follower.lines == []


def test_job_on_the_other_host_is_followed_from_its_start_to_its_end(local, follow, monkeypatch):
    cluster = pretend_slurm(local / "slurm")
    monkeypatch.setenv("PATH", path_with(cluster))
    output = local / "my output.log"
    cluster.show("7", "PENDING", output, reason="Resources")
    follower = follow("ssh://host/slurm:7")
    follower.until_text(f"{output} on host is not there yet")
    assert follower.source.job.waits
    write(output, ["step 1 loss 3"])
    cluster.show("7", "RUNNING", output)
    follower.until_lines(["step 1 loss 3"])
    follower.until(lambda: follower.source.job.runs)
    cluster.show("7", "TIMEOUT", output)
    follower.until(lambda: follower.source.job.outcome == "failed")
    assert follower.source.job.failure == "Slurm job 7 reached its time limit of 1 h 00 min"


def test_scheduler_that_does_not_answer_ends_neither_the_job_nor_its_file(local, follow, monkeypatch):
    cluster = pretend_slurm(local / "slurm")
    monkeypatch.setenv("PATH", path_with(cluster))
    monkeypatch.setattr(ssh, "SCRIPT", ssh.SCRIPT.replace("ask=40", "ask=1"))
    output = local / "it's my output.log"
    cluster.show("7", "RUNNING", output)
    write(output, ["step 1 loss 3"])
    follower = follow("ssh://host/slurm:7")
    follower.until_lines(["step 1 loss 3"])
    cluster.fail()
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    asked = len(cluster.calls)
    follower.until(lambda: len(cluster.calls) > asked)
    write(output, ["step 2 loss 2"])
    follower.until_lines(["step 1 loss 3", "step 2 loss 2"])
    assert follower.source.job.runs and follower.resets == 0
    cluster.recover()
    cluster.show("7", "TIMEOUT", output)
    follower.until(lambda: follower.source.job.over)
    cluster.forget("7")  # Slurm forgets a job minutes after its end
    os.killpg(follower.source._process.pid, signal.SIGKILL)
    asked = len(cluster.calls)
    follower.until(lambda: len(cluster.calls) > asked)
    write(output, ["step 3 loss 1"])
    follower.until_lines(["step 1 loss 3", "step 2 loss 2", "step 3 loss 1"])
    assert follower.source.job.failure == "Slurm job 7 reached its time limit of 1 h 00 min"


def test_job_that_the_other_host_does_not_know_is_one_line_of_status(local, follow, monkeypatch):
    follow("ssh://host/slurm:8").until_text("Slurm on host: ")
    cluster = pretend_slurm(local / "slurm")
    monkeypatch.setenv("PATH", path_with(cluster))
    follow("ssh://host/slurm:8").until_text("Slurm on host: slurm_load_jobs error: Invalid job id specified")
    cluster.show("9", "RUNNING", None)
    follow("ssh://host/slurm:9").until_text("job 9 has no output file: Slurm on host reports none")
    with pytest.raises(TdiffError, match="named by its number"):
        Address.parse("ssh://host/slurm:train")
