"""Which model writes beside what is watched: the one asked for, the run's own, the shipped one; here or over ssh."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tdiff.runs.lookup import DEFAULT_MODEL
from tdiff.runs.run import Run
from tdiff.watch.generation import launch, process
from tdiff.watch.generation.session import Live
from tdiff.watch.options import Options
from tdiff.watch.sources.address import Address
from tdiff.watch.targets import Target
from tests.support.fed import FedState
from tests.support.paths import ROOT

PATIENCE = 60.0


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def of(target: Target) -> SimpleNamespace:
    """Something watched, of which nothing is known yet."""
    return SimpleNamespace(target=target, run_state=FedState())


def target(path: Path) -> SimpleNamespace:
    return of(Target("run", path.name, path / "events.jsonl", run=Run(path)))


def started(live: Live) -> Live:
    """Started, and waited for until a model is ready."""
    live.start()
    end = time.monotonic() + PATIENCE
    while live.ready is None and time.monotonic() < end:
        live.poll(time.time())
        time.sleep(0.05)
    return live


def asked_for(live: Live, monkeypatch) -> str:
    """The model that a process would be started for."""
    seen = []

    class FakeChild:
        alive, reason = True, None

        def __init__(self, command: list[str]) -> None:
            seen.append(command)

        def take(self) -> list:
            return []

        def close(self) -> None:
            pass

    monkeypatch.setattr(process, "Child", FakeChild)
    live.start()
    return " ".join(seen[-1])


def test_model_is_the_requested_one_then_the_runs_then_the_shipped_one(here, tiny_run, monkeypatch):
    own = launch.live_generation(Options(), lambda: [target(tiny_run.path)], lambda: False)
    assert f"--model={tiny_run.path}/model" in asked_for(own, monkeypatch)
    named = launch.live_generation(Options(model="shakespeare"), lambda: [target(tiny_run.path)], lambda: False)
    assert "shakespeare" in asked_for(named, monkeypatch)
    young = here / "checkpoints" / "young"
    young.mkdir(parents=True)
    assert f"--model={DEFAULT_MODEL}" in asked_for(
        launch.live_generation(Options(), lambda: [target(young)], lambda: False), monkeypatch
    )
    default = asked_for(launch.live_generation(Options(), lambda: [], lambda: False), monkeypatch)
    assert f"--model={DEFAULT_MODEL}" in default


def test_two_models_share_seed_prompt_and_length(here, tiny_run, monkeypatch):
    both = launch.model_pair(Options(model="shakespeare", others=("elsewhere",), prompt="so", length=9), list, bool)
    one, other = both.lives
    assert one._seed == other._seed
    assert (one.prompt, one.length) == (other.prompt, other.length) == ("so", 9)
    assert "shakespeare" in asked_for(one, monkeypatch) and "--model=elsewhere" in asked_for(other, monkeypatch)
    assert launch.model_pair(Options(model="shakespeare"), list, bool).lives[0]._seed != one._seed  # drawn anew


def test_one_model_is_a_pair_of_one(here, tiny_run, monkeypatch):
    [alone] = launch.model_pair(Options(seed=3), lambda: [target(tiny_run.path)], lambda: False).lives
    assert f"--model={tiny_run.path}/model" in asked_for(alone, monkeypatch)
    assert alone._seed == 3


def test_third_model_and_missing_second_model_are_refused(cli_fast, here, tiny_run):
    (here / "log").write_text("{'loss': 1.5}\n")
    words = ["watch", "log", "--once", "--model", "shakespeare", "--model"]
    assert cli_fast(*words, str(tiny_run.path)).returncode == 0
    why = cli_fast(*words, "shakespeare", "--model", "shakespeare").refused()
    assert why == "watch shows up to 2 models side by side; got 3 of --model"
    assert "did you mean shakespeare" in cli_fast(*words, "shakespare").refused()


def test_two_models_write_side_by_side_in_processes_of_their_own(here):
    both = launch.model_pair(
        Options(model="shakespeare", others=("shakespeare",), device="cpu", seed=1, length=40), list, bool
    )
    both.start()
    end = time.monotonic() + 2 * PATIENCE
    try:
        while not all(live.complete for live in both.lives) and time.monotonic() < end:
            both.poll(time.time())
            time.sleep(0.05)
        one, other = (live.recording for live in both.lives)
        assert one is not None and other is not None, [live.message for live in both.lives]
        assert one.header.prompt == other.header.prompt != "" and one.header.seed == other.header.seed == 1
        assert one.ended is not None and other.ended is not None
        assert one.ended.text == other.ended.text, "the same model, asked for the same"
    finally:
        both.close()


def test_run_uses_its_own_weights_once_they_exist(here, tiny_run, monkeypatch):
    young = here / "checkpoints" / "young"
    young.mkdir(parents=True)
    live = launch.live_generation(Options(), lambda: [target(young)], lambda: False)
    asked_for(live, monkeypatch)
    assert live.model == DEFAULT_MODEL
    shutil.copytree(tiny_run.model, young / "model")
    assert live._weights.newest()[0] == str(young / "model")


@pytest.mark.parametrize(
    ("device", "trains", "shares"), [("auto", True, True), ("auto", False, False), ("cpu", True, False)]
)
def test_process_yields_to_a_run_on_this_host_unless_a_device_is_set(here, device, trains, shares, monkeypatch):
    live = launch.live_generation(Options(device=device), lambda: [], lambda: trains)
    assert ("--share" in asked_for(live, monkeypatch)) is shares


def test_run_that_starts_later_provides_weights_and_is_yielded_to(here, tiny_run, monkeypatch):
    watched: list[SimpleNamespace] = []
    live = launch.live_generation(Options(), lambda: watched, lambda: bool(watched))
    assert "--share" not in asked_for(live, monkeypatch)
    watched.append(target(tiny_run.path))
    live.poll(time.time() + 5)
    assert live.model == str(tiny_run.model)
    assert "--share" in asked_for(live, monkeypatch)


def test_run_trains_here_if_it_is_on_this_host_and_running():
    here = platform.node()
    assert launch.trains_on_this_host(here, "running")
    assert not launch.trains_on_this_host(here, "finished")
    assert not launch.trains_on_this_host("elsewhere", "running")
    assert not launch.trains_on_this_host(None, "running")


@pytest.fixture
def far_side(here, monkeypatch) -> Path:
    """An ssh that runs its command in a shell here, whose home is another folder; its bin is on the PATH there."""
    home = here / "far"
    (home / ".local" / "bin").mkdir(parents=True)
    ssh = here / "ssh"
    ssh.write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\n'
        f'cd "{home}" && HOME="{home}" PATH=/usr/bin:/bin exec sh -c "$*"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("TDIFF_SSH", str(ssh))
    return home


def test_over_ssh_the_model_runs_on_the_other_host(far_side, tiny_run):
    tdiff = far_side / ".local" / "bin" / "tdiff"
    source = ROOT
    tdiff.write_text(f'#!/bin/sh\nPYTHONPATH="{source}" exec "{sys.executable}" -m tdiff "$@"\n')
    tdiff.chmod(0o755)
    shutil.copytree(tiny_run.path, far_side / "runs" / "it's a run")
    address = Address.parse("ssh://me@gpu01/~/runs/it's%20a%20run")
    live = started(
        launch.live_generation(Options(), lambda: [of(Target("ssh", "gpu01", address=address))], lambda: False)
    )
    try:
        assert live.state in ("waiting", "generating"), live.message
        assert live.ready.model == "it's a run"
    finally:
        live.close()


def test_over_ssh_weights_reported_by_the_log_are_loaded(monkeypatch):
    far = of(Target("ssh", "gpu01", address=Address.parse("ssh://gpu01/~/runs/mine/events.jsonl")))
    live = launch.live_generation(Options(), lambda: [far], lambda: True)
    assert live._weights.newest() is None
    assert "--share" in asked_for(live, monkeypatch)  # over there
    far.run_state.feed(['{"kind":"checkpoint","time":1700000000.0,"step":9,"path":"model"}'])
    assert live._weights.newest() == ("runs/mine", pytest.approx(1.7e9, abs=2)) and live.model == "runs/mine"
    assert not live._courteous()


def test_missing_tdiff_on_the_other_host_is_reported(far_side):
    address = Address.parse("ssh://gpu01/~/runs/mine/events.jsonl")
    far = of(Target("ssh", "gpu01", address=address))
    live = launch.live_generation(Options(device="cpu"), lambda: [far], lambda: False)
    live.start()
    end = time.monotonic() + PATIENCE
    while live.state != "dead" and time.monotonic() < end:
        live.poll(time.time())
        time.sleep(0.05)
    live.poll(time.time())
    try:
        assert live.state == "dead" and live.ready is None
        assert live.message.startswith("tdiff is not installed on gpu01: no model writes there")
    finally:
        live.close()


def test_log_without_a_model_starts_none_unless_requested(here, tiny_run):
    log, run = of(Target("file", "train.log", here / "train.log")), target(tiny_run.path)
    pipe, trace = of(Target("pipe", "-")), of(Target("file", "trace.jsonl", here / "trace.jsonl"))
    far = of(Target("ssh", "gpu01", address=Address.parse("ssh://gpu01/jobs/train.log")))
    for foreign in ([log], [pipe], [trace], [far], [log, pipe, far]):
        assert not launch.model_pair(Options(), lambda these=foreign: these, bool).lives
        assert len(launch.model_pair(Options(model="shakespeare"), lambda these=foreign: these, bool).lives) == 1
    [own] = launch.model_pair(Options(), lambda: [log, run], bool).lives
    assert own._weights.newest()[0] == str(tiny_run.model), "that of the first run, wherever it stands"
    assert launch.model_pair(Options(), list, bool).lives, "with nothing to watch, the shipped one writes"


@pytest.mark.parametrize(
    ("path", "is_run", "folder"),
    [
        ("/runs/mine", True, "/runs/mine"),
        ("/runs/mine.v2", True, "/runs/mine.v2"),
        ("/runs/mine/events.jsonl", True, "/runs/mine"),
        ("/jobs/slurm-7.out", False, None),
        ("/jobs/metrics.csv", False, None),
    ],
)
def test_on_another_host_the_name_distinguishes_run_and_log(path, is_run, folder):
    address = Address.parse(f"ssh://gpu01{path}")
    assert launch.has_model(Target("ssh", "gpu01", address=address)) is is_run
    assert folder is None or launch._folder(address) == folder
