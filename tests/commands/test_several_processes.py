"""The commands in several processes, as torchrun starts them: results of all, errors once, no row lost or twice."""

import contextlib
import io
import json
import os
import platform
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from tdiff import cli, ranks
from tdiff.core import devices
from tdiff.core.models.transformer import Transformer
from tdiff.core.training import processes
from tdiff.core.training.distributed import World
from tdiff.errors import TdiffError
from tdiff.runs import lock
from tdiff.runs.per_class import PerClassRun
from tdiff.runs.run import Run
from tests.conftest import Done
from tests.support.classifying import model as model
from tests.support.classifying import rows_of
from tests.support.forked import environment_of, in_processes
from tests.support.replaced import failing
from tests.support.runs import SET_TINY, settings_of, train_in


def command(*arguments: str) -> Done:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["tdiff", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main exits")


def stay(world: World) -> None:
    """Stay in the group for the next command, and do not wait for a launcher."""
    processes.leave = lambda: None
    ranks.wait_for_the_first = lambda: None


def prompts(path: Path) -> None:
    """Lines of different lengths, of which some are invalid."""
    lines = [json.dumps({"prompt": "The hare"[: 3 + n % 4], "length": 6 + n % 2}) for n in range(9)]
    lines[4] = lines[6] = "{bad"
    path.write_text("\n".join(lines))


def terminate_when_training(*_: object) -> None:
    """Send this process SIGTERM once the run has a few losses."""
    events = Run(Path("checkpoints/stopped")).events
    if events.exists() and events.read_text().count('"train"') > 3:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(os.getpid(), signal.SIGTERM)


def records(path: Path) -> list[dict]:
    """The records of an output, without their times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("second") and k != "seconds"} for line in lines]


def test_two_processes_train_generate_evaluate_and_report_errors_once(here, tiny_run, corpus_file, tmp_path):
    prompts(here / "prompts.jsonl")
    corpus, model = str(corpus_file), str(tiny_run.path)
    shutil.copytree(tiny_run.path, here / "checkpoints" / "used")
    train = ["train", "--data", corpus, "--device=cpu", *SET_TINY]
    generate = ["generate", "--model", model, "--input", "prompts.jsonl", "--seed=3"]
    evaluate = ["eval", model, "--data", corpus, "--split=val", "--draws=2", "--json", "--device=cpu"]

    def work(world: World) -> dict[str, Done]:
        stay(world)
        done = {
            "indivisible": command(*train, "--steps=3", "--set=train.batch_size=5", "--run=bad"),
            "no file": command(*train, "--steps=3", f"--data=missing-{world.rank and 'x'}"),
            "stdin": command(*train, "--steps=3", "--data=-"),
            "option": command(*train, "--stepz=3"),
            "detached": command(*train, "--steps=3", "--detach"),
            "detached resume": command("resume", "used", "--detach"),
            "in use": command("train", "--resume=used", "--steps=99"),
            "one text": command("generate", "--model", model),
            "no shared work": command("runs"),
            "generate": command(*generate, "--output=two.jsonl"),
            "eval": command(*evaluate),
            "train": command(*train, "--steps=4", "--run=both"),
        }
        if world.rank == 1:  # a signal in any process stops all
            signal.signal(signal.SIGALRM, terminate_when_training)
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        return done | {"stopped": command(*train, "--minutes=5", "--run=stopped", "--set=train.eval_every=0")}

    with lock.held(here / "checkpoints" / "used"):
        first, second = in_processes(2, work, tmp_path)
    assert {done.stdout + done.stderr for done in second.values()} == {""}
    assert {name: done.returncode for name, done in first.items()} == {
        name: done.returncode for name, done in second.items()
    } | {"generate": 1}
    assert first["indivisible"].refused() == (
        "train.batch_size 5 does not divide by 2 processes; use a train.batch_size of 4 or 6, or 1 process"
    )
    assert first["no file"].refused().startswith("no such file or folder: 'missing-0'")
    assert first["stdin"].refused() == "--data -: 2 processes cannot read one stdin: give a file"
    assert first["option"].refused().startswith("unknown option '--stepz'")
    for name in ("detached", "detached resume"):
        assert first[name].refused() == "--detach is for one process: start torchrun itself in tmux or screen"
    assert first["in use"].refused().startswith("run 'used' is being trained by another process")
    for name, what in (("one text", "generate without --input"), ("no shared work", "runs")):
        assert first[name].refused().startswith(f"tdiff {what} is for one process, not 2: start it without torchrun; ")
    assert not (here / "checkpoints" / "bad").exists()

    alone = [command(*generate, "--output=one.jsonl"), command(*evaluate)]
    assert records(here / "two.jsonl") == records(here / "one.jsonl")
    assert first["generate"].stderr == alone[0].stderr
    both, one = (json.loads(done.stdout) for done in (first["eval"], alone[1]))
    assert both | {"seconds": 0} == one | {"seconds": 0}

    assert [first["train"].returncode, first["stopped"].returncode] == [0, 0]
    kinds = [event.kind for event in Run(here / "checkpoints" / "both").history()]
    assert (kinds[0], kinds.count("train"), kinds.count("end")) == ("start", 4, 1)
    last = Run(here / "checkpoints" / "stopped").history()[-1]
    assert last.reason == "stopped"
    rates = {event.lr for event in Run(here / "checkpoints" / "stopped").history() if event.kind == "train"}
    assert len(rates) > 1  # they follow the clock of the first process
    _, events = train_in(here / "checkpoints", "both", settings_of(corpus_file, {"train": {"steps": 6}}), resume=True)
    assert "saved by 2 processes, resumed by 1 process" in events[1].doing


def test_a_resume_in_processes_that_do_not_divide_the_rows_of_a_step_names_numbers_that_do(here, tiny_run, tmp_path):
    checkpoints = here / "checkpoints"
    shutil.copytree(tiny_run.path, checkpoints / "used")
    settings = tiny_run.settings()
    shared = {"classes": ("bad", "good"), "runs": ("bad", "good"), "counts": (5, 5), "settings": settings.as_layer()}
    (checkpoints / "kinds").mkdir()
    PerClassRun(**shared).write(checkpoints / "kinds")
    assert settings.train.batch_size * settings.train.accumulate == 4

    def work(world: World) -> list[Done]:
        stay(world)
        return [command("train", "--resume=used", "--steps=99"), command("train", "--resume=kinds")]

    first, *others = in_processes(3, work, tmp_path)
    assert [done.refused() for done in first] == [
        f"a step of run {name!r} has 4 rows, also after a resume, which do not divide by 3 processes: "
        "use 2 or 4 processes"
        for name in ("used", "kinds")
    ]
    assert {done.stdout + done.stderr for rank in others for done in rank} == {""}


def test_an_error_of_one_process_is_printed_once(here, tiny_run, corpus_file, model, tmp_path):
    full, memory = OSError(28, "No space left on device"), RuntimeError("MPS backend out of memory (18 GB)")
    prompts(here / "prompts.jsonl")
    rows_of(here / "texts.jsonl", 3)
    train = ["train", "--data", str(corpus_file), "--device=cpu", *SET_TINY, "--steps=3"]
    evaluate = ["eval", str(tiny_run.path), "--data", str(corpus_file), "--split=val", "--device=cpu"]
    generate = ["generate", "--model", str(tiny_run.path), "--input=prompts.jsonl", "--output=out.jsonl"]
    classify = ["classify", f"--model={model}", "--device=cpu", "--input=texts.jsonl", "--json"]

    def work(world: World) -> dict[str, Done]:
        stay(world)

        def of(rank: int, owner: object, name: str, error: Exception, arguments: list[str]) -> Done:
            with failing(owner, name, error) if world.rank == rank else contextlib.nullcontext():
                return command(*arguments)

        return {
            "train, lock": of(0, Run, "locked", full, train),
            "train, device": of(1, devices, "choose", full, train),
            "train, connection": of(1, devices, "choose", ConnectionError("the server has refused"), train),
            "eval, device": of(1, devices, "choose", full, evaluate),
            "generate, device": of(0, devices, "choose", full, generate),
            "classify, memory": of(1, Transformer, "forward", memory, classify),
            "generate, memory": of(1, Transformer, "forward", memory, generate),
            "classify, rows": of(1, json, "loads", MemoryError(), classify),
        }

    first, second = in_processes(2, work, tmp_path, timeout=120)
    host = f"process 1 on {platform.node()}: "
    space, row = "[Errno 28] No space left on device", "does not fit; free memory, or use another --device"
    expected = {
        "train, lock": (1, space),
        "train, device": (1, f"{host}{space}"),
        "train, connection": (1, f"{host}the server has refused"),
        "eval, device": (1, f"{host}{space}"),
        "generate, device": (1, space),
        "classify, memory": (2, f"{host}out of memory on cpu: a window of up to 16 tokens {row}"),
        "generate, memory": (2, f"{host}out of memory on cpu: a text of that length {row}"),
        "classify, rows": (2, f"{host}out of memory: MemoryError: use a smaller batch, length or model, or another "),
    }
    for name, (code, text) in expected.items():
        assert (first[name].returncode, second[name].returncode) == (code, code), (name, first[name], second[name])
        assert second[name].stdout + second[name].stderr == "", name
        assert first[name].stderr.splitlines()[-1].startswith(f"tdiff: {text}"), (name, first[name])
        assert first[name].stderr.count("tdiff: ") == 1, (name, first[name])


@pytest.mark.parametrize(
    ("batch", "accumulate", "size", "expected"),
    [
        (8, 1, 2, 1),
        (8, 3, 4, 3),
        (6, 2, 4, 3),
        (2, 4, 8, 1),
    ],
)
def test_passes_of_a_process_have_at_most_its_part_of_a_batch(batch, accumulate, size, expected):
    world = World(0, size)
    assert world.passes(batch, accumulate) == expected
    own = [row for rank in range(size) for row in World(rank, size).rows(batch * accumulate, expected)]
    assert sorted(own) == list(range(batch * accumulate))


@pytest.mark.parametrize(
    ("batch", "accumulate", "size", "expected"),
    [
        (
            3,
            1,
            4,
            "train.batch_size 3: 4 processes require at least 4 rows; use a train.batch_size of 4, or 3 processes",
        ),
        (
            10,
            1,
            4,
            "train.batch_size 10 does not divide by 4 processes; use a train.batch_size of 8 or 12, or 2 processes",
        ),
        (
            5,
            3,
            4,
            "train.batch_size 5 x train.accumulate 3 = 15 rows does not divide by 4 processes; "
            "use a train.batch_size of 4 or 8, or 3 processes",
        ),
    ],
)
def test_rows_that_do_not_divide_are_refused_with_the_nearest_numbers(batch, accumulate, size, expected):
    with pytest.raises(TdiffError) as error:
        World(0, size).passes(batch, accumulate)
    assert str(error.value) == expected


def test_rows_of_a_resumed_run_with_more_processes_than_rows_are_refused_with_fewer_processes():
    with pytest.raises(TdiffError) as error:
        World(0, 5).passes(4, 1, resumed="both")
    assert str(error.value) == (
        "a step of run 'both' has 4 rows, also after a resume, which do not divide by 5 processes: use 4 processes"
    )


def test_a_port_that_is_in_use_is_refused_with_the_options_that_choose_another(here, corpus_file, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for name, value in environment_of(0, 2, port).items():
            monkeypatch.setenv(name, value)
        done = command("train", "--data", str(corpus_file), "--steps=1")
    assert done.refused() == (
        f"port {port} of 127.0.0.1 is in use: choose another one with torchrun --master-port, or --standalone"
    )


def test_ranks_are_those_of_the_environment_and_one_without_a_launcher():
    assert (ranks.size({}), ranks.rank({}), ranks.size({"WORLD_SIZE": "4"})) == (1, 0, 1)
    started = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert (ranks.size(started), ranks.rank(started), ranks.local_rank(started)) == (4, 2, 1)
    assert ranks.size({"RANK": "x", "WORLD_SIZE": "many"}) == 1


def test_a_shell_in_a_container_of_a_training_runs_any_command(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    ranks.check_alone("runs")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(TdiffError, match=r"tdiff runs is for one process, not 2"):
        ranks.check_alone("runs")
