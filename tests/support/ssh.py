"""What tests of sources on other hosts share: a reader, a local sh in place of ssh, and an sshd on loopback."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tdiff.watch.sources import ssh, ssh_process
from tdiff.watch.sources.address import DEFAULT_COMMAND, Address
from tdiff.watch.sources.ssh import SshSource

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


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


@pytest.fixture(scope="module")
def server():
    """An sshd of our own on loopback: how to reach it, and its process id."""
    # Real connections, keys and broken links are the case; how the program is called is tested without a server. CI
    # has it. pip cannot install a server, so a machine without one must be able to run all other tests.
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
