"""Alerts about the GPUs under a run."""

import pytest

from tdiff.watch.devices.device_alerts import DeviceAlerts
from tdiff.watch.devices.reading import GIB, Devices, Gpu, GpuProcess, JobProcess, RunProcesses

JOB = RunProcesses((JobProcess(pid=7, name="python", cpu=1.0, memory=1, threads=1),))


def gpu(index: str = "0", load: float | None = 97.0, memory: float = 10.0, used: bool = True, **more) -> Gpu:
    processes = (GpuProcess(pid=7),) if used else ()
    return Gpu(index=index, load=load, memory=round(memory * GIB), total=48 * GIB, processes=processes, **more)


def play(*moments: tuple[float, list[Gpu]], awaited: bool = True, job: RunProcesses = JOB) -> list[tuple[float, str]]:
    alerts = DeviceAlerts()
    return [
        (now, text)
        for now, gpus in moments
        for text in alerts.examine(Devices(gpus=tuple(gpus)), job, now, awaited=awaited)
    ]


def every(seconds: float, until: float, *gpus: Gpu) -> list[tuple[float, list[Gpu]]]:
    return [(n * seconds, list(gpus)) for n in range(int(until / seconds) + 1)]


def test_a_gpu_of_the_run_that_is_idle_for_five_minutes_is_reported_once():
    moments = every(15, 900, gpu("2", 0.0), gpu("3", 50.0), gpu("4", 0.0, used=False))
    assert play(*moments) == [(300.0, "GPU 2 idle 5 min while loss is awaited")]


def test_an_idle_gpu_is_reported_again_after_it_was_busy():
    moments = [
        *every(15, 300, gpu(load=0.0)),
        (315.0, [gpu(load=80.0)]),
        *((330.0 + n * 15, [gpu(load=0.0)]) for n in range(30)),
    ]
    assert [now for now, _ in play(*moments)] == [300.0, 630.0]


@pytest.mark.parametrize("load", [None, 3.0])
def test_a_gpu_that_works_or_does_not_say_is_not_reported(load):
    assert play(*every(15, 900, gpu(load=load))) == []


def test_nothing_is_idle_once_the_run_has_ended_or_while_nothing_was_read():
    assert play(*every(15, 900, gpu(load=0.0)), awaited=False) == []
    assert play(*every(200, 1000, gpu(load=0.0))) == []


def test_without_known_processes_only_gpus_that_were_busy_are_reported():
    busy, idle = (
        [gpu("0", 90.0, used=False), gpu("1", 0.0, used=False)],
        [gpu("0", 0.0, used=False), gpu("1", 0.0, used=False)],
    )
    moments = [(0.0, busy), *((15.0 + n * 15, idle) for n in range(30))]
    assert play(*moments, job=RunProcesses()) == [(315.0, "GPU 0 idle 5 min while loss is awaited")]


def test_memory_that_is_nearly_full_and_rises_is_reported_once():
    rising = [(n * 30.0, [gpu(memory=memory)]) for n, memory in enumerate((40.0, 45.0, 46.0, 46.8, 47.2, 47.4))]
    assert play(*rising) == [(90.0, "GPU 0 memory 97% and rising: 46.8 of 48.0 GiB")]


def test_memory_that_a_program_has_reserved_is_not_reported():
    assert play((0.0, [gpu(memory=10.0)]), *((n * 30.0, [gpu(memory=47.5)]) for n in range(1, 20))) == []


def test_heat_is_reported_once_and_again_after_it_has_cooled_down():
    degrees = (91, 92, 93, 87, 92, 93, 80, 92, 92)
    moments = [(n * 15.0, [gpu(temperature=float(value))]) for n, value in enumerate(degrees)]
    assert play(*moments) == [(15.0, "GPU 0 is hot: 92 °C"), (120.0, "GPU 0 is hot: 92 °C")]
    slowed = [(n * 15.0, [gpu(temperature=84.0, hot=True)]) for n in range(5)]
    assert play(*slowed) == [(15.0, "GPU 0 is slowed down by heat at 84 °C")]
