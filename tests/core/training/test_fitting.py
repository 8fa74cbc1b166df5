"""A step that does not fit into memory: how many rows would, and what the command says."""

import json
import math
import os
import resource
import sys

import pytest
import torch

from tdiff.core import devices
from tdiff.core.memory import Portions
from tdiff.core.models.transformer import Transformer
from tdiff.core.training.fitting import largest
from tdiff.core.training.state import TrainState
from tdiff.errors import OutOfMemory, is_out_of_memory
from tdiff.runs.run import Run
from tests.commands.test_several_processes import command, stay
from tests.support.classifying import model as model
from tests.support.classifying import rows_of
from tests.support.forked import in_processes
from tests.support.runs import SET_TINY

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
    ),
    MemoryError(),
)


@pytest.fixture
def fitting_rows(monkeypatch):
    """Return a function that pretends that calls of a model with more rows run out of memory."""

    def limit(most: int, error: Exception = ERRORS[2]) -> list[int]:
        sizes: list[int] = []
        original = Transformer.forward

        def forward(self, tokens, *arguments):
            sizes.append(len(tokens))
            if len(tokens) > most:
                raise error
            return original(self, tokens, *arguments)

        monkeypatch.setattr(Transformer, "forward", forward)
        return sizes

    return limit


def train(corpus_file, *options: str) -> list[str]:
    return [
        "train",
        f"--data={corpus_file}",
        "--device=cpu",
        *SET_TINY,
        "--steps=4",
        "--set=train.eval_every=0",
        *options,
    ]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "mps", "cpu", "python"])
def test_every_way_to_run_out_of_memory_is_recognized(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError("can't allocate memory"))


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 499])
def test_the_largest_number_that_fits_is_found_to_an_eighth(limit):
    found = largest(lambda n: n <= limit, 500 // 2, 500, math.inf)
    assert found <= limit < found + max(2, found // 8 + 1)


def test_after_the_deadline_only_smaller_numbers_are_tried():
    tried = []
    assert largest(lambda n: bool(tried.append(n)) or n <= 100, 256, 512, -math.inf) == 64
    assert tried == [256, 128, 64]


def test_a_step_that_does_not_fit_is_one_line_with_a_batch_that_would_and_the_run_continues_with_it(
    fitting_rows, corpus_file, cli_fast, here, monkeypatch
):
    fitting_rows(8)
    done = cli_fast(*train(corpus_file, "--set=train.batch_size=16", "--run=big"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "tdiff: out of memory on cpu: a step of train.batch_size 16 does not fit, about 7 would; the same steps with "
        "less memory, after step 0: tdiff train --resume big --batch-size 4 --accumulate 4"
    )
    assert "Traceback" not in done.stderr
    done = cli_fast("train", "--resume=big", "--batch-size=4", "--accumulate=2")
    assert done.refused() == (
        "a step of run 'big' has 16 rows (--batch-size x --accumulate), also after a resume; got 8: "
        "use --batch-size 4 --accumulate 4"
    )
    done = cli_fast("train", "--resume=big", "--batch-size=4", "--accumulate=4")
    assert done.returncode == 0, done.stderr
    run = Run(here / "checkpoints" / "big")
    assert (run.settings().train.batch_size, run.settings().train.accumulate) == (4, 4)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert cli_fast(*train(corpus_file, "--set=train.batch_size=16", "--run=whole")).returncode == 0
    losses = [
        [event.loss for event in Run(here / "checkpoints" / name).history() if event.kind == "train"]
        for name in ("big", "whole")
    ]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_step_of_which_no_row_fits_asks_for_a_smaller_model(fitting_rows, corpus_file, cli_fast):
    fitting_rows(0)
    done = cli_fast(*train(corpus_file, "--set=train.batch_size=16", "--run=none"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "tdiff: out of memory on cpu: a step of train.batch_size 16 does not fit, nor does one of a single row: use a "
        "smaller model or model.window, or another --device"
    )


def test_a_cpu_tries_no_step_for_which_its_memory_is_too_small(fitting_rows, corpus_file, cli_fast, monkeypatch):
    sizes = fitting_rows(63)
    monkeypatch.setattr(devices, "free_memory", lambda: 1)
    done = cli_fast(*train(corpus_file, "--set=train.batch_size=64", "--run=small"))
    assert "does not fit, about 1 would" in done.stderr
    assert sizes == [64, 1, 2, 1]


def test_one_process_of_two_without_memory_is_one_line_and_both_end(corpus_file, here, tmp_path):
    def work(world):
        stay(world)
        forward = Transformer.forward

        def limited(self, tokens, *arguments):
            if world.rank == 1 and len(tokens) > 2:
                raise ERRORS[0]
            return forward(self, tokens, *arguments)

        def leave(code: int) -> None:
            raise SystemExit(code)

        Transformer.forward, exit_process = limited, os._exit
        os._exit = leave  # of the process whose exchange fails
        try:
            return command(*train(corpus_file, "--set=train.batch_size=16", "--run=two"))
        finally:
            os._exit = exit_process

    first, second = in_processes(2, work, tmp_path, timeout=120)
    assert (first.returncode, second.returncode) == (1, 2)
    assert first.stderr.count("tdiff: ") == 0
    assert second.stderr.splitlines() == [
        "tdiff: process 1 of 2: out of memory on cpu: a step of train.batch_size 16 in 2 processes does not fit, about "
        "2 would; the same steps with less memory, after step 0: tdiff train --resume two --batch-size 2 --accumulate 8"
    ]


def test_batches_of_texts_are_divided_until_they_fit(fitting_rows, cli_fast, tiny_run, here):
    options = ["generate", "--model", str(tiny_run.path), "--samples=6", "--length=8", "--seed=1", "--json", "The"]
    whole = cli_fast(*options)
    fitting_rows(2)
    parts = cli_fast(*options)
    assert parts.returncode == 0, parts.stderr
    assert parts.stderr.splitlines() == [
        "seed 1",
        "out of memory on cpu: 6 texts at once do not fit, 1 do",
    ]
    texts = [[json.loads(line)["text"] for line in done.stdout.splitlines()] for done in (whole, parts)]
    assert texts[0] == texts[1]


def test_an_evaluation_is_divided_until_it_fits_with_the_same_result(fitting_rows, cli_fast, tiny_run, corpus_file):
    options = ["eval", str(tiny_run.path), f"--data={corpus_file}", "--split=val", "--json", "--device=cpu"]
    results = []
    for most in (1000, 3):
        fitting_rows(most)
        done = cli_fast(*options)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert results[0]["nats_per_token"] == pytest.approx(results[1]["nats_per_token"], abs=1e-5)
    fitting_rows(0)
    assert cli_fast(*options).refused() == (
        "out of memory on cpu: a window of 32 tokens does not fit; free memory, or use another --device"
    )


@pytest.mark.parametrize("separate", [False, True], ids=["one model", "one model a class"])
def test_a_classification_is_divided_until_it_fits_with_the_same_predictions(
    separate, fitting_rows, cli_fast, model, tiny_run, here
):
    rows_of(here / "in.jsonl", 3)
    (here / "long.jsonl").write_text(json.dumps({"text": "the hare runs over the hill and sings " * 3}) + "\n")
    one = [f"--model={model}", "--input=in.jsonl"]
    several = [f"--model=a={tiny_run.path}", f"--model=b={tiny_run.path}", "--input=long.jsonl"]
    results = []
    for most in (1000, 3, 1):
        fitting_rows(most)
        done = cli_fast("classify", *(several if separate else one), "--json", "--device=cpu", "--max-draws=8")
        assert done.returncode == 0, done.stderr
        results.append([list(json.loads(line)["posterior"].values()) for line in done.stdout.splitlines()])
    assert len(results[0]) == (1 if separate else 6)
    for divided in results[1:]:
        assert divided == [pytest.approx(posterior, abs=1e-5) for posterior in results[0]]


def test_portions_remember_what_fits():
    calls = []

    def work(rows):
        calls.append(len(rows))
        if len(rows) > 3:
            raise ERRORS[0]
        return list(rows)

    portions = Portions("cpu", "a row")
    assert list(portions(range(8), work)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert list(portions("abc", work)) == [["a", "b"], ["c"]]
    assert calls == [8, 4, 2, 2, 2, 2, 2, 1]
    with pytest.raises(OutOfMemory):
        list(Portions("cpu", "a row")(range(2), lambda rows: work(range(9))))


def test_memory_that_runs_out_elsewhere_is_one_line_without_a_traceback(cli_fast, corpus_file, monkeypatch):
    def fail(*_):
        raise ERRORS[2]

    monkeypatch.setattr(TrainState, "start_clock", fail)
    line = cli_fast(*train(corpus_file, "--run=early")).refused()
    assert line.startswith("out of memory: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator")
    assert line.endswith(": use a smaller batch, length or model, or another --device")


def test_the_free_memory_of_a_cpu_is_at_most_that_of_its_limit():
    free = devices.free_memory()
    assert free is None if sys.platform != "linux" else 0 < free < 1 << 50  # only Linux reports it
    limit, most = resource.getrlimit(resource.RLIMIT_AS)
    assert limit != resource.RLIM_INFINITY or most == resource.RLIM_INFINITY or free is None or free <= most
