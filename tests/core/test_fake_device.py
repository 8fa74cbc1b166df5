"""On a pretended accelerator no two devices are mixed, and the host seldom waits; see `fake_device`.

The runs are in a process of their own, since the device is a property of a whole process.
"""

import functools
import json
import subprocess
import sys

import pytest
import torch

from tests.support.paths import ROOT
from tests.support.runs import environment

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10), reason="torch before 2.10 has no backend in Python"
)
FAST = ("planted", "decode_briefly", "narrated", "training_briefly", "bound", "mps")


@functools.cache
def results(*names: str) -> dict[str, dict[str, dict]]:
    """Run -> case -> result."""
    command = [sys.executable, "-m", "tests.support.fake_device_runs", *names]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=900
    )
    reports: dict[str, dict[str, dict]] = {name: {} for name in names}
    for line in map(json.loads, filter(lambda line: line.startswith("{"), done.stdout.splitlines())):
        reports[line["run"]][line["case"]] = line
    assert all(reports.values()), done.stderr
    for cases in reports.values():
        assert "error" not in cases, (cases["error"]["error"], done.stderr)
    return reports


def too_many(cases: dict[str, dict], a_step: float) -> dict[str, dict]:
    """Those in which the host waits more often in a step, and where."""
    return {name: case["waits"] for name, case in cases.items() if sum(case["waits"].values()) > a_step * case["steps"]}


@pytest.mark.slow
def test_faults_that_are_planted_are_seen():
    planted = results(*FAST)["planted"]
    refused = {name for name, case in planted.items() if "refused" in case}
    assert refused == {"an addition", "an index", "a scalar in a product", "a generator"}
    waited = {name for name, case in planted.items() if case["waits"]}
    assert waited == planted.keys() - refused - {"a copy from pinned memory"}


def test_a_decoding_step_waits_once():
    cases = results(*FAST)["decode_briefly"]
    assert len(cases) == 5 and all(case["steps"] >= 3 for case in cases.values())
    assert not too_many(cases, 1)


@pytest.mark.slow
def test_a_decoding_step_waits_once_whatever_the_decoder_and_the_model():
    from tdiff.config.decoding import DECODERS

    cases = results("decode")["decode"]
    assert cases.keys() > set(DECODERS)
    assert all(case["steps"] >= 3 for case in cases.values())
    block = cases.pop("block")
    assert not too_many(cases, 1)
    assert sum(block["waits"].values()) <= block["steps"] + 4  # each block starts with one more


def test_a_reported_step_waits_once_more():
    assert not too_many(results(*FAST)["narrated"], 2)


def test_a_training_step_never_waits():
    cases = results(*FAST)["training_briefly"]
    assert len(cases) == 2 and all(case["steps"] == 3 for case in cases.values())
    assert not too_many(cases, 0)


@pytest.mark.slow
def test_a_training_step_never_waits_whatever_is_trained():
    cases = results("training")["training"]
    assert len(cases) >= 8 and all(case["steps"] == 3 for case in cases.values())
    assert not too_many(cases, 0)


def test_the_bound_waits_once_for_a_batch_of_masks():
    assert not too_many(results(*FAST)["bound"], 1)


def test_a_device_without_float64_decodes_and_evaluates():
    assert {"schedule", "likelihood"} <= results(*FAST)["mps"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ("whole_runs", "weighed"))
def test_device_tensors_are_not_mixed_with_host_tensors(name):
    assert results(name)[name]


@pytest.mark.slow
def test_pretrained_models_wait_once_a_step_and_causal_ones_twice():
    cases = results("families")["families"]
    assert not too_many({name: case for name, case in cases.items() if "gpt2" not in name}, 1)
    assert not too_many({name: case for name, case in cases.items() if "gpt2" in name}, 2)
