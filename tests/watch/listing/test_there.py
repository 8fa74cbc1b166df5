"""All runs of a folder of another host: through a local sh in ssh's place, and through a real sshd on loopback."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tdiff.runs.process import FILE
from tdiff.watch.listing import connection
from tdiff.watch.listing import there as module
from tdiff.watch.listing.there import RemoteRuns
from tdiff.watch.sources import ssh_process
from tdiff.watch.sources.address import Address
from tdiff.watch.targets import locate
from tests.support.ptys import PATIENCE
from tests.support.ssh import quick as quick
from tests.support.ssh import server as server
from tests.support.stage import run_lines
from tests.watch.listing.test_here import make_run

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Search often, and try again soon."""
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(ssh_process, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ssh_process, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """Use a local shell in ssh's place."""

    def use(command: str) -> None:
        fake = tmp_path / "fake"
        fake.write_text(f"#!/bin/sh\n{command}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("TDIFF_SSH", str(fake))

    use("exec sh")
    return use


@pytest.fixture
def opened():
    """Open all runs at an address."""
    found: list[RemoteRuns] = []

    def start(address: str) -> RemoteRuns:
        found.append(RemoteRuns(Address.parse(address)))
        return found[-1]

    yield start
    for runs in found:
        runs.close()


def until(runs: RemoteRuns, condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, (runs.problem, runs.rows())
        runs.poll()
        time.sleep(0.002)


def steps(runs: RemoteRuns) -> dict[str, int | None]:
    return {row.name: row.step for row in runs.rows()}


@pytest.mark.parametrize("name", SHELLS)
def test_the_table_of_another_host_is_that_of_its_folder(name, shell, opened, tmp_path):
    shell("exec busybox sh" if name == "busybox" else f"echo a login says something; exec {name}")
    root = tmp_path / "runs"
    make_run(root / "a")
    make_run(root / "sub" / "b", 100_000)
    (root / "x.log").write_text("step 3/10 loss 2.5\nstep 4/10 loss 2.25\n")
    runs = opened(f"ssh://host{root}/")
    until(runs, lambda: steps(runs) == {"a": 100, "sub/b": 100_000, "x.log": 4} and runs.complete)
    assert runs.label == f"host:{root}"
    wheres = {row.name: row.where for row in runs.rows()}
    assert wheres["sub/b"] == f"ssh://host{root}/sub/b"
    assert locate(wheres["x.log"]).address.path == f"{root}/x.log"
    with (root / "x.log").open("a") as file:
        file.write("step 5/10 loss 2.0\n")
    until(runs, lambda: steps(runs)["x.log"] == 5)
    make_run(root / "new")
    until(runs, lambda: "new" in steps(runs))
    shutil.rmtree(root / "a")
    until(runs, lambda: "a" not in steps(runs))


def test_processes_are_looked_up_where_they_run(shell, opened, tmp_path, monkeypatch):
    import json
    from dataclasses import asdict, replace

    from tdiff.runs.process import this_process

    mine = this_process()
    for name, process in (("alive", mine), ("dead", replace(mine, began="1")), ("other", replace(mine, host="far"))):
        make_run(tmp_path / "runs" / name)
        fresh = [line.replace("elsewhere", mine.host) for line in run_lines(100)]
        now = json.dumps({"kind": "heartbeat", "time": time.time(), "step": 100, "doing": "something"})
        (tmp_path / "runs" / name / "events.jsonl").write_text("\n".join([*fresh, now]) + "\n")
        (tmp_path / "runs" / name / FILE).write_text(json.dumps(asdict(process)))
    runs = opened(f"ssh://host{tmp_path}/runs")
    seen: dict[str, list[str]] = {"alive": [], "dead": [], "other": []}

    def known() -> bool:
        for row in runs.rows():
            seen[row.name] += [row.state] if seen[row.name][-1:] != [row.state] else []
        return runs.complete

    until(runs, known)
    assert seen == {name: ["reading", state] for name, state in zip(seen, ("running", "died", "running"), strict=True)}
    assert {row.name: row.state for row in runs.rows()} == {"alive": "running", "dead": "died", "other": "running"}
    os.utime(tmp_path / "runs" / "other" / FILE, (1000, 1000))
    until(runs, lambda: {row.name: row.state for row in runs.rows()}["other"] == "lost")


def test_a_lost_connection_is_reported_and_made_again_without_reading_anything_twice(shell, opened, tmp_path):
    make_run(tmp_path / "runs" / "a")
    runs = opened(f"ssh://host{tmp_path}/runs")
    until(runs, lambda: runs.complete and steps(runs) == {"a": 100})
    shell("echo the network is down >&2; exit 255")
    os.killpg(runs._connection._process.pid, signal.SIGKILL)
    until(runs, lambda: "the network is down; reconnecting in" in runs.problem)
    assert steps(runs) == {"a": 100}  # what is known stays
    log = runs._collection._runs["a\0a"].log
    state, count = log.state, log.state.metrics["train/loss"].count
    shell("exec sh")
    until(runs, lambda: runs.problem == "" and runs.complete)
    assert runs._collection._runs["a\0a"].log.state is state
    assert state.metrics["train/loss"].count == count and state.resets == 0


def test_a_missing_folder_is_reported_and_found_once_it_is_there(shell, opened, tmp_path):
    runs = opened(f"ssh://host{tmp_path}/runs")
    until(runs, lambda: runs.problem.endswith("is not a folder there") and runs.complete)
    make_run(tmp_path / "runs" / "a")
    until(runs, lambda: steps(runs) == {"a": 100} and not runs.problem)


@pytest.mark.parametrize("answer", ["x", "E", "M a b c d", "D -1", "D 999999999", "P 1 2"])
def test_an_invalid_answer_ends_the_connection(answer, shell, opened):
    shell(
        'while read -r line; do case $line in "say tdiff-"*) echo "${line#say }"; break;; esac; done\n'
        f"while read -r line; do [ \"$line\" != L ] || break; done; echo '{answer}'; exec sleep 9"
    )
    runs = opened("ssh://host/x")
    until(runs, lambda: "invalid message" in runs.problem)


def test_a_silent_connection_is_dropped(shell, opened, monkeypatch):
    monkeypatch.setattr(connection, "_SILENCE", 0.05)
    shell("exec sleep 9")
    runs = opened("ssh://host/x")
    until(runs, lambda: "no answer for" in runs.problem)


NAMES = ['it\'s "q" $(touch MARK) `touch MARK`;touch MARK', "-rf", "* ?[a]", "back\\slash {x}%41", "ünï", "two\nlines"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_only_names(name, shell, opened, tmp_path):
    mark = tmp_path / "mark"
    name = name.replace("MARK", mark.name)
    root = tmp_path / "runs" / name
    make_run(root / "inner")
    (root / "\x1b[2J.log").write_text("step 1 loss 5\n")
    encoded = "".join(f"%{byte:02x}" for byte in os.fsencode(str(root)))
    runs = opened(f"ssh://host/{encoded}")
    until(runs, lambda: len(runs.rows()) == 2 and runs.complete)
    assert {row.name for row in runs.rows()} == {"inner", "␛[2J.log"}
    [run] = [row for row in runs.rows() if row.name == "inner"]
    assert locate(run.where).address.path == "/" + str(root / "inner").removeprefix("/") or "%" in encoded
    assert Path(locate(run.where).address.path).resolve() == (root / "inner").resolve()
    assert not mark.exists() and not Path(mark.name).exists() and not (Path.home() / mark.name).exists()


def test_a_real_sshd_serves_the_table_with_one_process(server, opened, tmp_path, monkeypatch):
    command, address, _ = server
    monkeypatch.setenv("TDIFF_SSH", command)
    make_run(tmp_path / "a")
    (tmp_path / "x.log").write_text("step 3/10 loss 2.5\n")
    runs = opened(f"{address}{tmp_path}/")
    until(runs, lambda: steps(runs) == {"a": 100, "x.log": 3} and runs.complete)
    first = runs._connection._process.pid
    with (tmp_path / "x.log").open("a") as file:
        file.write("step 5/10 loss 2.0\n")
    until(runs, lambda: steps(runs)["x.log"] == 5)
    assert runs._connection._process.pid == first
    os.kill(first, signal.SIGKILL)
    with (tmp_path / "x.log").open("a") as file:
        file.write("step 6/10 loss 1.0\n")
    until(runs, lambda: steps(runs)["x.log"] == 6)
    assert runs._connection._process.pid != first
