"""What is asked of the C library for the sake of a CPU's memory."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tdiff.config.decoding import PRODUCTS
from tdiff.core import devices
from tdiff.errors import TdiffError

ASKS = """
import resource
import torch
from tdiff.core import devices
from tdiff.errors import TdiffError

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


def test_a_lower_precision_is_for_cuda_and_changes_no_text_on_a_cpu(cli_fast):
    texts = {p: cli_fast("generate", "ROMEO:", "--length=12", "--seed=7", f"--precision={p}").stdout for p in PRODUCTS}
    assert len(set(texts.values())) == 1 and texts["tf32"].startswith("ROMEO:")
    assert "did you mean bfloat16?" in cli_fast("generate", "--precision=bfloat").refused()
    assert "did you mean bfloat16?" in cli_fast("eval", "shakespeare", "--precision=bfloat").refused()


def test_elsewhere_products_are_taken_in_bfloat16(monkeypatch):
    seen = []
    real = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, dtype: seen.append((device, dtype)) or real("cpu", dtype))
    network = SimpleNamespace(logits=torch.nn.Linear(2, 2))
    devices.lower_precision(network, "bfloat16", "cuda")
    assert network.logits(torch.ones(1, 2)).dtype is torch.bfloat16
    assert seen == [("cuda", torch.bfloat16)]


def test_a_missing_device_is_refused_with_those_that_are_available(monkeypatch, cli_fast, here, corpus_file):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    expected = "device 'cuda' is not available on this machine; available: cpu"
    for command in (["train", f"--data={corpus_file}", "--steps=1"], ["generate"], ["eval", "shakespeare"]):
        assert cli_fast(*command, "--device=cuda").refused() == expected
    assert not (here / "checkpoints").exists()


def test_a_gpu_without_bfloat16_trains_in_float32_and_refuses_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert not devices.in_bfloat16("auto", "cuda")
    refusal = "precision bfloat16: Tesla T4 has no bfloat16 products: use float32"
    with pytest.raises(TdiffError, match=refusal):
        devices.in_bfloat16("bfloat16", "cuda")
    with pytest.raises(TdiffError, match=refusal):
        devices.lower_precision(SimpleNamespace(), "bfloat16", "cuda")


def test_a_cpu_without_fast_bfloat16_refuses_it(monkeypatch, cli_fast, corpus_file, here):
    monkeypatch.setattr(devices, "_slowdown", lambda: 80.0)
    options = [f"--data={corpus_file}", "--device=cpu", "--steps=1", "--set=train.precision=bfloat16", "--context=8"]
    assert cli_fast("train", *options).refused() == (
        "precision bfloat16: on this CPU its products take 80.0 times as long as those of float32, which is the "
        "default here"
    )
