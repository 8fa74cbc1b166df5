"""What is asked of the C library for the sake of a CPU's memory."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tdiff.core import devices

ASKS = """
import resource
import torch
from tdiff.core import devices

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
devices.keep_memory("cpu")
torch.ones(12_000_000)
print(given_back, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is asked")
def test_the_memory_of_a_large_tensor_is_there_for_the_next_one():
    child = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True)
    given_back, kept = map(int, child.stdout.split())
    assert kept < given_back / 2


def test_only_a_cpu_is_asked_for(monkeypatch):
    asked = []
    library = SimpleNamespace(mallopt=lambda option, value: asked.append((option, value)) or 1)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda _name: library)
    devices.keep_memory("cuda")
    assert not asked
    devices.keep_memory("cpu")
    assert asked


@pytest.mark.parametrize("none", [OSError, TypeError, AttributeError])
def test_another_library_is_let_be(none, monkeypatch):
    def missing(_name):
        raise none

    monkeypatch.setattr(devices.ctypes, "CDLL", missing)
    devices.keep_memory("cpu")
