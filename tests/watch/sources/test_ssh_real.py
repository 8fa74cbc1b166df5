"""A file on another host, through a real sshd on loopback."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tdiff.watch.sources.address import DEFAULT_COMMAND, Address
from tests.support.ssh import children as children
from tests.support.ssh import far as far
from tests.support.ssh import follow as follow
from tests.support.ssh import kill_all_under as kill_all_under
from tests.support.ssh import local as local
from tests.support.ssh import quick as quick
from tests.support.ssh import server as server
from tests.support.ssh import write as write


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
