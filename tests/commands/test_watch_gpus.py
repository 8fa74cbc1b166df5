"""`tdiff watch --once` with the GPUs of this host, by programs that pretend."""

import json
import os
import subprocess
import sys

import pytest

from tdiff.commands.watch import gpus_under
from tdiff.watch.targets import locate
from tests.support import fake_tools
from tests.support.runs import environment


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {n}/100 loss {3 / n:.4f}\n" for n in range(1, 40)))
    return path


def watch(tmp_path, *arguments: str) -> subprocess.CompletedProcess:
    fake_tools.nvml_module(tmp_path / "modules")  # where a driver exists, it is not asked
    paths = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path / "modules")}
    env = environment() | paths | {"FAKE_NVML": "fails"}
    command = [sys.executable, "-m", "tdiff", "watch", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_a_snapshot_has_a_line_for_each_gpu(log, tmp_path):
    (tmp_path / "bin").mkdir()
    fake_tools.nvidia_smi(tmp_path / "bin")
    with log.open("a"):  # the run is at work: it has its log open
        done = watch(tmp_path, str(log), "--once")
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert "GPU 0       NVIDIA GeForce RTX 4090 · 97% · 41.2 of 48.0 GiB · 63 °C · 402 W" in lines
    assert "GPU 1       NVIDIA GeForce RTX 4090 · 0% · 0.0 of 48.0 GiB · 35 °C" in lines


def test_data_has_the_gpus_with_the_processes_of_the_run(log, tmp_path):
    (tmp_path / "bin").mkdir()
    fake_tools.nvidia_smi(
        tmp_path / "bin", apps="GPU-aaaa, $(cat " + str(tmp_path) + "/pid), 42000\nGPU-aaaa, 1, [N/A]"
    )
    with log.open("a") as file:
        writer = subprocess.Popen(["sleep", "600"], stdout=file, start_new_session=True)
    try:
        (tmp_path / "pid").write_text(str(writer.pid))
        done = watch(tmp_path, str(log), "--once", "--json")
    finally:
        writer.kill()
        writer.wait()
    data = json.loads(done.stdout)
    assert [(gpu["index"], gpu["load"], gpu["power"]) for gpu in data["gpus"]] == [("0", 97, 402.31), ("1", 0, None)]
    assert data["gpus"][0]["processes"] == [
        {"pid": writer.pid, "memory": 42000 << 20, "run": True},
        {"pid": 1, "memory": None, "run": False},
    ]
    assert [(process["pid"], process["name"]) for process in data["processes"]] == [(writer.pid, "sleep")]
    assert data["gpus_problem"] is None


def test_a_program_that_does_not_answer_is_one_line(log, tmp_path):
    fake_tools.program(tmp_path / "bin", "nvidia-smi", "exec sleep 600")
    with log.open("a"):
        done = watch(tmp_path, str(log), "--once")
    assert done.returncode == 0 and "GPU         the GPUs could not be read within 1 s" in done.stdout
    assert "step        39 of 100" in done.stdout


def test_gpus_are_only_asked_for_a_run_that_may_use_them(log, tmp_path):
    there = locate("ssh://gpu01/runs/train.log")
    assert gpus_under([locate(str(log))]) is None, "nothing writes it: the run is over, or elsewhere"
    with log.open("rb"):
        assert gpus_under([locate(str(log))]) is None, "it is only read"
    assert gpus_under([locate(str(log)), there]) is not None
    writer = subprocess.Popen(["sleep", "600"], stdout=log.open("a"), start_new_session=True)
    try:
        assert gpus_under([locate(str(log))]) is not None
    finally:
        writer.kill()
        writer.wait()
