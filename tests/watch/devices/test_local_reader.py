"""The GPUs and jobs of this host, read through real processes: programs and a module that pretend, and real jobs."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tdiff.watch.devices import nvml, readers, script
from tdiff.watch.devices.readers import LocalReader
from tdiff.watch.devices.readings import NO_TOOL
from tests.support import fake_tools

PATIENCE = 30.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    """A folder that comes first on PATH; no driver of NVIDIA is visible."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(nvml, "plausible", lambda: False)
    return folder


@pytest.fixture
def reader():
    """Makes readers, and closes them."""
    with contextlib.ExitStack() as opened:

        def make(*files: Path) -> LocalReader:
            made = LocalReader([str(file) for file in files])
            opened.callback(made.close)
            return made

        yield make


def read(reader: LocalReader, *, gpus: bool = True, find: bool = True, known: tuple[int, ...] = ()) -> None:
    """Ask once, and wait for the answer."""
    assert reader.ask(time.monotonic(), gpus=gpus, find=find, known=known)
    until(lambda: reader.poll(time.monotonic()))


def until(what) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def job(command: str):
    """A shell command in a session of its own that is no descendant of this process; its process id."""
    start = ["sh", "-c", '(exec setsid sh -c "$0") >/dev/null 2>&1 & echo $!', command]
    pid = int(subprocess.run(start, capture_output=True, text=True, check=True).stdout)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, 9)


def test_without_any_program_a_line_says_so(tools, reader, tmp_path):
    here = reader(tmp_path / "log")
    read(here)
    assert (here.interpreter.gpus, here.interpreter.problem) == ((), NO_TOOL)
    assert here.interpreter.host == os.uname().nodename


def test_nvidia_smi_is_asked_for_processes_only_when_they_are_searched(tools, reader):
    fake_tools.nvidia_smi(tools, apps="GPU-aaaa, 4242, 42000")
    here = reader()
    for find in (True, False):
        read(here, find=find)
        assert [gpu.index for gpu in here.interpreter.gpus] == ["0", "1"]
        assert [process.pid for process in here.interpreter.gpus[0].processes] == [4242]
    assert (here.interpreter.source, here.interpreter.problem) == ("nvidia-smi", "")
    queries = [call.split()[0].partition("=")[0] for call in fake_tools.calls(tools, "nvidia-smi")]
    assert queries == ["--query-gpu", "--query-compute-apps", "--query-gpu"]


def test_a_driver_without_throttle_reasons_is_asked_without_them(tools, reader):
    text = "0, GPU-a, Tesla K80, 5, 1, 2, 3, 4, 5"
    no = 'echo Field \\"clocks_throttle_reasons.active\\" is not a valid field to query.; exit 2'
    fake_tools.program(tools, "nvidia-smi", f'case "$*" in *reasons*) {no} ;; *compute*) ;; *) echo "{text}" ;; esac')
    here = reader()
    read(here)
    read(here)
    assert [gpu.name for gpu in here.interpreter.gpus] == ["Tesla K80"]
    assert sum("reasons" in call for call in fake_tools.calls(tools, "nvidia-smi")) == 1


def test_a_driver_error_is_one_line_and_the_next_program_is_tried(tools, reader):
    failure = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    fake_tools.program(tools, "nvidia-smi", f'echo "{failure} Make sure ..."; echo; exit 9')
    here = reader()
    read(here)
    assert here.interpreter.problem == f"{failure} Make sure ..."
    fake_tools.rocm_smi(tools)
    read(here)
    assert (here.interpreter.source, here.interpreter.problem) == ("rocm-smi", "")


def test_amd_smi_is_read_with_names_and_processes(tools, reader):
    fake_tools.amd_smi(tools)
    here = reader()
    read(here)
    read(here)
    [gpu] = here.interpreter.gpus
    assert (gpu.name, gpu.load, [process.pid for process in gpu.processes]) == ("AMD Instinct MI300X", 88, [4242])
    asked = [call.split()[0] for call in fake_tools.calls(tools, "amd-smi")]
    assert asked == ["metric", "static", "process", "metric", "process"]


@pytest.mark.parametrize("with_timeout", [True, False])
def test_a_program_that_hangs_is_killed_and_reported(tools, reader, monkeypatch, with_timeout):
    monkeypatch.setattr(script, "TIMEOUT", 0.3)
    fake_tools.program(tools, "nvidia-smi", f"echo $$ >'{tools}/pid'; exec sleep 600")
    if not with_timeout:
        for name in ("cat", "sleep", "getconf", "uname"):
            (tools / name).symlink_to(shutil.which(name))
        monkeypatch.setenv("PATH", str(tools))
        monkeypatch.setattr(readers.subprocess, "Popen", _with_sh(readers.subprocess.Popen))
    here = reader()
    read(here)
    assert "nvidia-smi did not answer" in here.interpreter.problem and "was killed" in here.interpreter.problem
    pid = int((tools / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists())


def _with_sh(popen):
    return lambda command, **options: popen(["/bin/sh", *command[1:]], **options)


def test_a_shell_that_never_answers_is_killed_and_started_again(tools, reader, monkeypatch):
    monkeypatch.setattr(script, "local_script", lambda *_: "echo $$; sleep 600")
    here = reader()
    assert here.ask(100.0, gpus=True, find=True, known=())
    assert not here.poll(105.0)
    assert here.poll(100.0 + readers._LONGEST_WAIT + 1)
    assert "does not answer" in here.interpreter.problem
    assert not here.ask(120.0, gpus=True, find=True, known=())
    monkeypatch.undo()
    assert here.ask(200.0, gpus=True, find=True, known=())


@linux
def test_the_job_is_what_writes_the_log_with_its_pipeline_and_its_children(tools, reader, tmp_path):
    log, other = tmp_path / "it's a log; $(touch mark)", tmp_path / "other"
    log.touch()
    here = reader(log, other)
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(1, flush=True); p.wait()"
    python = f"{sys.executable} -c {shlex.quote(code)}"
    with job(f"{python} | tee {shlex.quote(str(log))} >/dev/null"):
        until(lambda: log.stat().st_size > 0)
        read(here)
        first, second = here.interpreter.jobs
        names = sorted(process.name for process in first.processes)
        assert {"sleep", "tee"} <= set(names) and any("python" in name for name in names)
        assert second.processes == ()
        assert os.getpid() not in first.pids
        assert first.main is not None and "python" in first.main.name and first.threads >= 3


@linux
def test_who_only_reads_the_log_is_no_job(tools, reader, tmp_path):
    log = tmp_path / "log"
    log.write_text("x\n")
    with job(f"exec sleep 600 <'{log}'"):
        here = reader(log)
        read(here)
        assert here.interpreter.jobs[0].processes == ()


@linux
def test_a_known_process_is_the_job_and_a_folder_stands_for_its_events(tools, reader, tmp_path):
    (tmp_path / "events.jsonl").touch()
    with job("exec sleep 600") as known, job(f"exec sleep 600 >>'{tmp_path}/events.jsonl'") as writer:
        here = reader(tmp_path, tmp_path)
        until(lambda: Path(f"/proc/{writer}/comm").read_text() == "sleep\n")
        read(here, known=(known, 0))
        assert [job.pids for job in here.interpreter.jobs] == [{known}, {writer}]


@linux
def test_the_writer_of_a_pipe_is_its_job(tools, reader):
    reading, writing = os.pipe()
    process = subprocess.Popen(["sleep", "600"], stdout=writing, start_new_session=True)
    os.close(writing)
    try:
        here = reader(Path(readers.writable_path(reading)))
        read(here)
        assert here.interpreter.jobs[0].pids == {process.pid}
    finally:
        process.kill()
        process.wait()
        os.close(reading)


@linux
def test_a_process_with_a_hostile_name_is_inert(tools, reader, tmp_path):
    log = tmp_path / "log"
    program = tmp_path / "a) b\x1b[31m"
    program.symlink_to("/bin/sleep" if Path("/bin/sleep").exists() else "/usr/bin/sleep")
    with log.open("w") as file:
        process = subprocess.Popen([str(program), "600"], stdout=file, start_new_session=True)
    try:
        here = reader(log)
        read(here)
        [found] = here.interpreter.jobs[0].processes
        assert (found.pid, found.name) == (process.pid, "a) b␛[31m")
    finally:
        process.kill()
        process.wait()


# NVML


@pytest.fixture
def driver(tools, tmp_path, monkeypatch):
    """A module that pretends to be NVML."""
    fake_tools.nvml_module(tmp_path / "modules")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setattr(nvml, "plausible", lambda: True)
    return tools


def test_gpus_are_read_by_nvml_with_their_parts(driver, reader, monkeypatch):
    monkeypatch.setenv("FAKE_PID", "4242")
    fake_tools.nvidia_smi(driver)
    here = reader()
    read(here)
    first, second, *parts, lost = here.interpreter.gpus
    assert here.interpreter.source == "nvml"
    assert (first.name, first.load, first.temperature, first.power, first.power_limit) == (
        "NVIDIA H200",
        97,
        63,
        402.31,
        700,
    )
    assert (first.memory_share, first.hot, [process.pid for process in first.processes]) == (0.125, True, [4242])
    assert (second.name, second.load) == ("NVIDIA A100␛[31m MIG (MIG)", None)
    assert [part.index for part in parts] == ["1:0", "1:1"]
    assert lost.name == "not readable: GPU is lost"
    assert not fake_tools.calls(driver, "nvidia-smi")


def test_where_nvml_fails_nvidia_smi_is_asked(driver, reader, monkeypatch):
    monkeypatch.setenv("FAKE_NVML", "fails")
    here = reader()
    read(here)
    assert here.interpreter.problem == "NVML: Driver/library version mismatch"
    read(here)
    assert here.interpreter.problem == "NVML: Driver/library version mismatch"
    fake_tools.nvidia_smi(driver)
    read(here)
    assert (here.interpreter.source, here.interpreter.problem) == ("nvidia-smi", "")
    other = reader()
    read(other)
    assert other.interpreter.source == "nvidia-smi", "it is asked at once"


def test_nvml_that_hangs_is_ended_and_reported(driver, reader, monkeypatch):
    monkeypatch.setenv("FAKE_NVML", "hangs")
    here = reader()
    now = 100.0
    assert here.ask(now, gpus=True, find=True, known=())
    until(lambda: not here._shell.waiting or here.poll(now))
    process = here._nvml._process
    assert not here.poll(now + 4.0)
    assert here.poll(now + 6.0)
    assert "NVML did not answer within 5 s" in here.interpreter.problem
    assert process.poll() is not None
