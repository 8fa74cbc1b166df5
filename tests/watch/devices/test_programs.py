"""What nvidia-smi, amd-smi and rocm-smi print, and the stream in which answers come."""

import json

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.watch.devices import amd, nvidia
from tdiff.watch.devices.answers import Answers
from tdiff.watch.devices.reading import GIB, GpuProcess, number, one_line, size_text
from tdiff.watch.devices.readings import NO_TOOL, Interpreter, nvml_gpus, seconds_spent
from tests.support.fake_tools import AMD_METRIC, AMD_STATIC, NVIDIA_GPUS, ROCM

SLOW = [HealthCheck.too_slow]
FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None, suppress_health_check=SLOW)


def test_gpus_of_nvidia_smi_are_read_with_their_processes():
    processes = nvidia.processes(["GPU-aaaa, 4242, 42000", "GPU-aaaa, 99, [N/A]", "No running processes found", ""])
    first, second = nvidia.gpus(NVIDIA_GPUS.splitlines(), processes)
    assert (first.index, first.name, first.load) == ("0", "NVIDIA GeForce RTX 4090", 97)
    assert (first.memory, first.total) == (42189 << 20, 49140 << 20)
    assert (first.temperature, first.power, first.power_limit, first.hot) == (63, 402.31, 450, False)
    assert [(process.pid, process.memory) for process in first.processes] == [(4242, 42000 << 20), (99, None)]
    assert (second.load, second.power, second.processes) == (0, None, ())


@pytest.mark.parametrize(
    "unknown", ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "ERR!", "[GPU requires reset]", ""]
)
def test_fields_that_the_driver_does_not_report_are_unknown(unknown):
    line = f"0, GPU-a, A100, {unknown}, {unknown}, 81920, {unknown}, {unknown}, {unknown}, {unknown}"
    [gpu] = nvidia.gpus([line], {})
    assert (gpu.load, gpu.memory, gpu.total, gpu.temperature, gpu.power, gpu.hot) == (
        None,
        None,
        80 * GIB,
        None,
        None,
        False,
    )
    assert gpu.memory_share is None


def test_names_with_commas_and_escape_sequences_are_inert():
    name = "Odd, \x1b[31mGPU\u202e, Inc.\x07"
    [gpu] = nvidia.gpus([f"3, GPU-a, {name}, 5, 1, 2, 3, 4, 5, 0x0000000000000060"], {})
    assert gpu.name == "Odd, ␛[31mGPU\\u202e, Inc.␇"
    assert (gpu.index, gpu.load, gpu.hot) == ("3", 5, True)


def test_a_query_without_throttle_reasons_is_read():
    [gpu] = nvidia.gpus(["0, GPU-a, Tesla K80, 5, 1, 2, 3, 4, 5"], {})
    assert (gpu.name, gpu.load, gpu.power_limit) == ("Tesla K80", 5, 5)
    assert nvidia.gpus(["NVIDIA-SMI has failed", "a, b, c", ",,,,,,,,,,"], {}) == ()


def test_gpus_of_amd_smi_are_read_in_both_forms():
    names = amd.names(AMD_STATIC)
    processes = amd.processes([{"gpu": 0, "process_list": [{"process_info": {"pid": 7, "mem_usage": "N/A"}}, 3]}])
    for document in (AMD_METRIC, {"gpu_data": AMD_METRIC}):
        [gpu] = amd.gpus(document, names, processes)
        assert (gpu.index, gpu.name, gpu.load, gpu.temperature, gpu.power) == ("0", "AMD Instinct MI300X", 88, 63, 402)
        assert (gpu.memory, gpu.total) == (98296 << 20, 196592 << 20)
        assert gpu.processes == (GpuProcess(pid=7),)
    assert amd.processes([{"gpu": 0, "process_list": [{"process_info": "No running processes detected"}]}]) == {"0": ()}


def test_cards_of_rocm_smi_are_read():
    [gpu] = amd.rocm_gpus(ROCM)
    assert (gpu.index, gpu.name, gpu.load, gpu.temperature, gpu.power) == ("0", "Instinct MI210", 12, 44, 41)
    assert gpu.memory_share == 0.25
    assert gpu.processes == (GpuProcess(pid=4242, memory=8 * GIB),)
    two = amd.rocm_gpus({"card1": {}, "card0": {"Card series": "x"}, "system": ROCM["system"]})
    assert [(gpu.index, gpu.name, gpu.processes) for gpu in two] == [("0", "x", ()), ("1", "AMD GPU", ())]


@FEW
@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.floats() | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_is_read_without_an_error(document):
    amd.gpus(document, {}, {}), amd.names(document), amd.processes(document), amd.rocm_gpus(document)
    amd.gpus([{"usage": document, "mem_usage": document, "gpu": document}], {}, {})
    nvml_gpus(json.dumps(document))


def test_json_is_found_between_warnings():
    assert amd.document('WARNING: [odd]\n{"card0": {}}\nKilled') == {"card0": {}}
    assert amd.document("no json [") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("97", 97),
        (" 402.31 W", 402.31),
        ("63 °C", 63),
        ("5%", 5),
        ("N/A", None),
        ("nan", None),
        ("1e9999", None),
        (True, None),
        (float("inf"), None),
    ],
)
def test_numbers_of_drivers(text, value):
    assert number(text) == value


def test_a_message_is_one_short_safe_line():
    assert one_line("\n  \n +---+\nNVIDIA-SMI has  failed\x1b[0m because\nmore") == "NVIDIA-SMI has failed␛[0m because"
    assert len(one_line("x" * 5000)) == 200
    assert (size_text(13 << 20), size_text(5 * GIB)) == ("13 MiB", "5.0 GiB")


# The stream

TOKEN = "tdiff-0123"
STREAM = f"ssh: noise\n{TOKEN} begin\n{TOKEN} nvidia 0\na\nb\n{TOKEN} job 3\n{TOKEN} end\nPermission denied\n"


@FEW
@given(st.data())
def test_answers_are_the_same_however_the_stream_is_cut(data):
    stream, answers, found, other = (STREAM * 2).encode(), Answers(TOKEN), [], b""
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        new, rest = answers.take(stream[:count])
        found, other, stream = found + new, other + rest, stream[count:]
    assert other == b"ssh: noise\nPermission denied\n" * 2
    for answer in found:
        assert {name: (section.status, section.text) for name, section in answer.items()} == {
            "nvidia": (0, "a\nb"),
            "job": (3, ""),
        }
    assert len(found) == 2


def test_a_message_without_a_line_end_is_not_held_back():
    assert Answers(TOKEN).take(b"Permission denied") == ([], b"Permission denied")


def test_an_endless_answer_is_cut():
    answers = Answers(TOKEN)
    answers.take(f"{TOKEN} begin\n{TOKEN} nvidia 0\n".encode())
    for _ in range(100):
        assert answers.take(b"x" * 50_000) == ([], b"")
        assert answers.take(b"x\n" * 50_000) == ([], b"")
    [answer], _ = answers.take(f"\n{TOKEN} end\n".encode())
    assert len(answer["nvidia"].text) < 1 << 20


def test_cpu_seconds_are_those_of_the_shell_and_its_children():
    [answer], _ = Answers("t").take(b"t begin\nt spent 0\n0m0.010s 0m0.020s\n1m2.5s 0m0,25s\nt end\n")
    assert seconds_spent(answer) == pytest.approx(62.78)


def answer_of(*sections: tuple[str, int, str]):
    text = "".join(f"t {name} {status}\n{content}\n" for name, status, content in sections)
    [answer], _ = Answers("t").take(f"t begin\n{text}t end\n".encode())
    return answer


def test_problems_are_one_line():
    interpreter = Interpreter()
    interpreter.take(answer_of(("host", 0, "box")), 1)
    assert interpreter.problem == NO_TOOL
    failed = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nMake sure ..."
    interpreter.take(answer_of(("nvidia", 9, failed)), 1)
    assert interpreter.problem.startswith("NVIDIA-SMI has failed because") and "\n" not in interpreter.problem
    interpreter.take(answer_of(("nvidia", 137, "")), 1)
    assert interpreter.problem == "nvidia-smi did not answer within 5 s and was killed"
    interpreter.take(answer_of(("nvidia", 0, "No devices were found")), 1)
    assert interpreter.problem == "nvidia-smi: No devices were found"
    interpreter.take(answer_of(("nvidia", 9, failed), ("rocm", 0, json.dumps(ROCM))), 1)
    assert (interpreter.problem, interpreter.source, len(interpreter.gpus)) == ("", "rocm-smi", 1)


def test_load_of_a_process_is_that_since_the_last_answer():
    def job(now: float, ticks: int, start: int = 1000):
        return answer_of(
            ("clock", 0, f"100 4096 {now}"), ("job", 0, f"0 42 {ticks} 8 1024 {start} python\x1b[3 1\nnonsense")
        )

    interpreter = Interpreter()
    interpreter.take(job(20.0, 500), 1)
    [job_now] = interpreter.jobs
    [process] = job_now.processes
    assert (process.pid, process.name, process.threads, process.memory) == (42, "python␛[3 1", 8, 1024 * 4096)
    assert process.cpu == pytest.approx(0.5), "since its start at 10 s"
    interpreter.take(job(22.0, 1100), 1)
    assert interpreter.jobs[0].cpu == pytest.approx(3.0)
    interpreter.take(job(24.0, 100, start=2300), 1)
    assert interpreter.jobs[0].cpu == pytest.approx(1.0), "another process with the same id"
