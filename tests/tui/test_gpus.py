"""The GPU pane: what stands in it for each kind of host, at each width."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from tdiff.draw.palettes import Theme
from tdiff.tui.gpu_figures import figures_of
from tdiff.tui.gpu_lines import device_lines
from tdiff.watch.devices.reading import GIB, Devices, Gpu, GpuProcess, JobProcess, RunProcesses
from tests.support.stage import NOW, Stage, golden, in_utc, play, run_lines, run_state, terminal_with  # noqa: F401

PYTHON = JobProcess(pid=4242, name="python", cpu=3.125, memory=round(4.1 * GIB), threads=34)
WORKER = JobProcess(pid=4250, name="pt_data_worker", cpu=0.5, memory=300 << 20, threads=2)
JOB = RunProcesses((PYTHON, WORKER))


def gpu(index: int | str, load: float | None = 97.0, *pids: int, **more) -> Gpu:
    values = {
        "name": "NVIDIA GeForce RTX 4090", "memory": round(41.2 * GIB), "total": 48 * GIB, "temperature": 63.0,
        "power": 402.31,
    }  # fmt: skip
    processes = tuple(GpuProcess(pid=pid) for pid in pids)
    return Gpu(**({"index": str(index), "load": load, "processes": processes} | values | more))


def host(*gpus: Gpu, **more) -> Devices:
    loads = {gpu.index: [(NOW - 100 + n * 5, n * 5.0 % 101) for n in range(20)] for gpu in gpus}
    values = {"source": "nvidia-smi", "jobs": (JOB,), "read_at": NOW, "histories": loads}
    return Devices(gpus=gpus, **(values | more))


TWO = host(gpu(0, 97.0, 4242), gpu(1, 3.0, 99, memory=0, power=None, temperature=91.0))
UNREPORTED = {"memory": None, "total": None, "temperature": None, "power": None}
HOSTS = {
    "two": [TWO],
    "eight": [host(*(gpu(n, n * 12.5, *([4242, 5000, 5001] if n < 4 else [])) for n in range(8)))],
    "none": [
        Devices(problem="no GPU is visible: NVML, nvidia-smi, amd-smi and rocm-smi are not available", jobs=(JOB,))
    ],
    "failed": [host(problem="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. " * 2)],
    "parts": [
        host(
            gpu(0, None, **UNREPORTED),
            gpu("0:1", None, name="A100 MIG 1g.5gb", **{**UNREPORTED, "total": 5 * GIB}),
        )
    ],
    "hosts": [host(gpu(0, 50.0), host="gpu01"), host(gpu(0, 97.0, 4242), host="gpu02")],
    "unread": [Devices()],
    "nothing": [],
}


class Board:
    """In the place of what reads the hosts: readings that stay the same."""

    def __init__(self, *readings: Devices) -> None:
        self.readings, self.calls, self.closed = list(readings), [], False

    def update(self, watched, now, *, visible=False, attached=True) -> bool:
        self.calls.append((visible, attached))
        return len(self.calls) == 1

    def of(self, run) -> tuple[Devices, RunProcesses]:
        return self.readings[0], self.readings[0].jobs[0]

    def close(self) -> None:
        self.closed = True


def lines(readings: list[Devices], width: int, *, histories: bool = False, theme: Theme | None = None) -> list[str]:
    shown = device_lines(readings, NOW, width, theme or terminal_with().theme, histories=histories)
    return ["".join(text for text, _ in line) for line in shown]


def test_each_kind_of_host_at_each_width():
    parts = []
    for name, readings in HOSTS.items():
        for width in (116, 76, 56, 36, 16):
            shown = lines(readings, width, histories=width == 116)
            parts += [f"-- {name}, {width} columns", *(line.rstrip() for line in shown)]
            rows = [line for line in shown if re.match(r"\d", line)]
            assert all(cell_len(row) <= max(width, 20) for row in rows), rows
    golden("gpus", "\n".join(parts) + "\n")


@pytest.mark.parametrize("colour", ["256", "none"])
@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_with_the_pane(size, colour):
    async def scene(stage: Stage) -> None:
        await stage.settle()
        if size == (80, 24):
            assert "GPUs ·" not in stage.text()
            await stage.press("g")
        golden(f"gpus-{size[0]}x{size[1]}-{colour}", stage.text())

    play(scene, run_state(run_lines()), size=size, colour=colour, model=False, board=Board(TWO))


def test_eight_gpus_are_scrolled_in_a_small_pane_and_all_shown_when_zoomed():
    async def scene(stage: Stage) -> None:
        await stage.press("g")
        assert "more below" in stage.text()
        stage.app.arranger.focus_on("gpus")
        await stage.press(*["down"] * 20)
        assert "job python 4242" in stage.text() and "more above" in stage.text()
        await stage.press("z")
        assert all(f" {n} RTX 4090" in stage.text() for n in range(8))

    play(scene, run_state(run_lines()), size=(80, 24), model=False, board=Board(*HOSTS["eight"]))


def test_the_pane_is_read_often_while_it_is_shown_only_and_the_board_is_closed():
    board = Board(TWO)

    async def scene(stage: Stage) -> None:
        await stage.settle()
        assert board.calls[-1] == (False, True)
        await stage.press("g")
        assert board.calls[-1] == (True, True)
        stage.app.attached.now = lambda: False
        await stage.settle()
        assert board.calls[-1] == (True, False)

    play(scene, run_state(run_lines()), board=board)
    assert board.closed


def test_hostile_names_are_shown_inert_and_keep_the_columns():
    names = ["\x1b[31m", "[/x]", "名" * 40, "a" * 500]
    from tdiff.watch.devices import nvidia

    gpus = nvidia.gpus([f"{n}, u{n}, {name}, 5, 1, 2000, 3, 4, 5" for n, name in enumerate(names)], {})
    shown = lines([host(*gpus)], 76)
    assert {cell_len(line.rstrip()) for line in shown[:4]} == {cell_len(shown[0].rstrip())}
    assert "\x1b" not in "".join(shown) and "[/x]" in shown[1]


def short_text(devices, job) -> str:
    return " ".join(part for pair in figures_of(devices, job) for part in pair if part)


def test_figures_are_those_of_the_gpus_of_the_run():
    assert short_text(TWO, JOB) == "GPU 97% 41.2/48G 63°C 402W"
    assert short_text(HOSTS["eight"][0], JOB) == "GPU 4× 19% 164.8/192G 63°C 1609W"
    assert short_text(host(gpu(0), gpu(1)), RunProcesses()) == "", "which of them is unknown"
    assert short_text(host(gpu(0)), RunProcesses()) == "GPU 97% 41.2/48G 63°C 402W"
    assert short_text(HOSTS["failed"][0], JOB) == short_text(Devices(), RunProcesses()) == ""


def test_the_training_pane_shows_the_gpus_of_a_log_that_does_not_report_them():
    from tests.support.fed import FedState

    state = FedState("log")
    state.feed([f"step {n} loss {3 / n:.3f}" for n in range(1, 50)])

    async def scene(stage: Stage) -> None:
        await stage.settle()
        assert "GPU 97%  41.2/48G" in stage.text() and "402W" in stage.text()

    play(scene, state, size=(100, 30), model=False, board=Board(TWO))
