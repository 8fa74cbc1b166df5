"""The model behind a pipe: what each request is answered with, and that a live process keeps to it."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.config.decoding import DECODERS, DecodeSettings
from tdiff.core import serve
from tdiff.core.diffusion.generate import default_prompt, narrate
from tdiff.core.models.load import load_model, save_model
from tdiff.core.serve import Inbox, Server, pause
from tdiff.protocol import messages
from tdiff.protocol.messages import Begin, Cancel, Cancelled, Generate, Load, Ready, Refused
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.watch.generation.process import Child, command
from tests.support.runs import environment, settings_of, train_in

FEW = examples(derandomize=True, deadline=None, max_examples=25, database=None)
QUICK = {"decoder": "schedule", "steps": 6}


class Bench:
    """A server without a process: what it says is kept, and more can be asked at any of its lines."""

    def __init__(self, model, **how) -> None:
        self.inbox, self.said, self.then = Inbox(), [], {}
        self.server = Server(self.inbox, self.say, "cpu", **how)
        self.server.answer(Load(model=str(model)))

    def say(self, answer) -> None:
        self.said.append(answer)
        for request in self.then.pop(len(self.said), ()):
            self.inbox.put(request)

    def ask(self, *asked) -> list:
        """Everything said to these requests, and to those that come meanwhile."""
        first = len(self.said)
        for request in asked:
            self.inbox.put(request)
        while self.inbox._waiting:
            self.server.answer(self.inbox.take())
        return self.said[first:]


@pytest.fixture(scope="session")
def loaded(tiny_run):
    return load_model(str(tiny_run.path))


@pytest.fixture
def bench(tiny_run):
    return Bench(tiny_run.path)


def timeless(lines) -> list:
    return [dataclasses.replace(line, seconds=0.0) if isinstance(line, TraceEnd) else line for line in lines]


def shape_of(answers) -> list[str]:
    """The kinds of the answers, steps that follow one another once."""
    kinds = [answer.kind for answer in answers]
    return [kind for before, kind in zip([None, *kinds], kinds, strict=False) if (before, kind) != ("step", "step")]


def test_loaded_model_is_described_by_ready(tiny_run, loaded, bench):
    assert bench.said == [
        Ready(
            model="tiny",
            window=32,
            device="cpu",
            threads=torch.get_num_threads(),
            vocabulary=len(loaded.tokenizer),
            step=30,
            weights=(tiny_run.model / "model.safetensors").stat().st_mtime,
            decoders=list(DECODERS),
            presets=loaded.presets,
        )
    ]


@pytest.mark.parametrize("name", DECODERS)
def test_the_trace_is_that_of_the_same_generation_without_a_pipe(name, loaded, bench):
    settings = {"decoder": name, "steps": 5, "temperature": 1, "top_p": 0.9}
    said = bench.ask(Generate(id=4, prompt="The ", length=40, seed=9, row=3, settings=settings))
    alone = list(narrate(loaded, "The ", DecodeSettings(seed=9, **settings), length=40, row=3))
    assert said[0] == Begin(id=4)
    assert timeless(said[1:]) == timeless(alone)


def test_without_a_prompt_a_stored_prompt_is_selected_by_seed_and_row(loaded, bench):
    prompts = {(seed, row): default_prompt(loaded, seed, row) for seed in range(3) for row in range(3)}
    assert len(set(prompts.values())) > 1
    for (seed, row), prompt in prompts.items():
        said = bench.ask(Generate(id=1, seed=seed, row=row, settings=QUICK))
        assert (said[1].prompt, said[1].seed, said[1].row) == (prompt, seed, row)
    assert bench.ask(Generate(id=1, prompt="", settings=QUICK))[1].prompt == ""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"settings": {"decoder": "confidance"}}, "unknown decoder 'confidance'; did you mean confidence?"),
        ({"settings": {"treshold": 0.5}}, "unknown setting 'treshold'; did you mean threshold?"),
        ({"settings": {"threshold": "high"}}, "setting 'threshold' takes a number; got 'high'"),
        ({"settings": {"steps": True}}, "setting 'steps' takes a whole number; got True"),
        ({"settings": {"temperature": None}}, "setting 'temperature' takes a number; got None"),
        ({"settings": {"top_p": 2}}, "top-p must lie between 0 and 1; got 2"),
        ({"settings": {"temperature": float("nan")}}, "takes a number; got nan"),
        ({"settings": {"__class__": 1}}, "unknown setting"),
        ({"prompt": "a" * 32}, "context length of tiny is 32"),
        ({"prompt": "The λ"}, "is not in the model's vocabulary"),
        ({"prompt": "\ud800"}, "is not in the model's vocabulary"),
        ({"length": -1}, "length must lie between 0 and"),
        ({"length": 10**12}, "length must lie between 0 and"),
        ({"row": 2**70}, "row must lie between 0 and"),
    ],
    ids=str,
)
def test_invalid_request_is_refused_by_id_and_the_server_continues(bench, wrong, says):
    (refusal,) = bench.ask(Generate(id=5, **wrong))
    assert isinstance(refusal, Refused) and refusal.id == 5
    assert says in refusal.text and "\n" not in refusal.text
    assert shape_of(bench.ask(Generate(id=6, settings=QUICK))) == ["begin", "trace", "step", "text"]


def test_any_seed_is_a_seed(bench):
    for seed in (-1, 2**64, 10**40):
        assert isinstance(bench.ask(Generate(id=1, seed=seed, settings=QUICK))[-1], TraceEnd)


def test_a_model_that_is_not_there_is_refused_and_so_is_a_text_until_one_is_loaded(tiny_run, here):
    bench = Bench("nowhere")
    assert [(answer.kind, answer.id) for answer in bench.said] == [("refused", None)]
    assert "no model 'nowhere'" in bench.said[0].text
    (refusal,) = bench.ask(Generate(id=2))
    assert refusal.id == 2 and "no model is loaded" in refusal.text
    assert shape_of(bench.ask(Load(model=str(tiny_run.path)), Generate(id=3))) == ["ready", *WHOLE]


WHOLE = ["begin", "trace", "step", "text"]


def test_failed_load_leaves_the_old_model_in_use(tmp_path, bench):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    before = bench.ask(Generate(id=1, settings=QUICK))
    (refusal,) = bench.ask(Load(model=str(tmp_path / "broken")))
    assert refusal.id is None and "is of type None" in refusal.text
    assert timeless(bench.ask(Generate(id=1, settings=QUICK))) == timeless(before)


def test_loading_again_takes_the_newest_weights_of_a_run(tmp_path, corpus_file):
    run, _ = train_in(tmp_path, "run", settings_of(corpus_file, {"train": {"steps": 2}}))
    bench = Bench(run.path)
    before = bench.ask(Generate(id=1, settings=QUICK))
    model = load_model(str(run.path))
    for weight in model.network.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    save_model(run.model, model.network, model.tokenizer, dataclasses.replace(model.origin, steps=77))
    weights = run.model / "model.safetensors"
    os.utime(weights, (0, bench.said[0].weights + 60))
    (ready,) = bench.ask(Load(model=str(run.path)))
    assert (ready.step, ready.weights) == (77, bench.said[0].weights + 60)
    assert bench.ask(Generate(id=1, settings=QUICK))[-1].text != before[-1].text


def test_memory_that_runs_out_is_a_refusal(bench, monkeypatch):
    plain = RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)")
    for error in (torch.OutOfMemoryError("CUDA out of memory.\nTried"), MemoryError(), plain):

        def fail(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patched:
            patched.setattr("tdiff.core.diffusion.generate.resolve", fail)
            said = bench.ask(Generate(id=8, settings=QUICK))
        assert shape_of(said) == ["begin", "trace", "refused"]
        assert said[-1].id == 8 and "out of memory" in said[-1].text and "\n" not in said[-1].text


def test_cancellation_ends_a_generation_at_the_next_step(bench):
    bench.then[len(bench.said) + 4] = [Cancel(id=1)]  # with the second step
    said = bench.ask(Generate(id=1, settings=QUICK))
    assert [answer.kind for answer in said] == ["begin", "trace", "step", "step", "cancelled"]
    assert said[-1] == Cancelled(id=1)


def test_cancellation_of_another_id_has_no_effect(bench):
    bench.then[len(bench.said) + 4] = [Cancel(id=2)]
    assert shape_of(bench.ask(Cancel(id=1), Generate(id=1, settings=QUICK), Cancel(id=3))) == WHOLE


def test_new_generation_cancels_the_current_and_waiting_ones(bench):
    bench.then[len(bench.said) + 3] = [Generate(id=2), Generate(id=3), Generate(id=4, settings=QUICK)]
    said = bench.ask(Generate(id=1, settings=QUICK))
    assert [answer for answer in said if isinstance(answer, Begin | Cancelled)] == [
        *(Begin(id=1), Cancelled(id=1), Cancelled(id=2), Cancelled(id=3), Begin(id=4))
    ]
    assert isinstance(said[-1], TraceEnd)


def test_a_model_is_changed_between_generations(tiny_run, bench):
    bench.then[len(bench.said) + 3] = [Load(model=str(tiny_run.path))]
    assert shape_of(bench.ask(Generate(id=1, settings=QUICK))) == [*WHOLE, "ready"]


ASKED = st.one_of(
    st.builds(Generate, id=st.just(0), settings=st.sampled_from([QUICK, QUICK, {"decoder": "none"}])),
    st.builds(Cancel, id=st.integers(1, 6)),
    st.builds(Load, model=st.just("nowhere")),
)


@pytest.fixture(scope="session")
def any_bench(tiny_run):
    return Bench(tiny_run.path)


@given(asked=st.lists(st.tuples(st.integers(1, 30), ASKED), max_size=6))
@FEW
def test_whenever_requests_come_each_generation_has_one_ending_and_its_lines_stand_together(any_bench, asked):
    ids = iter(range(1, 100))
    asked = [(at, dataclasses.replace(r, id=next(ids)) if isinstance(r, Generate) else r) for at, r in asked]
    generations = [r.id for _, r in asked if isinstance(r, Generate)]
    any_bench.then = {}
    for at, request in asked:
        any_bench.then.setdefault(len(any_bench.said) + at, []).append(request)
    in_text, endings = 0, Counter()
    said = any_bench.ask(Generate(id=0, settings=QUICK))
    while any_bench.then:  # what would have come at a line that never was said comes now
        said += any_bench.ask(*any_bench.then.pop(min(any_bench.then)))
    for answer in said:
        if isinstance(answer, Begin):
            assert not in_text
            in_text, now, last = True, answer.id, None
        elif isinstance(answer, TraceLine):
            assert in_text
            assert isinstance(answer, TraceHeader) == (last is None)
            last = answer
        if isinstance(answer, TraceEnd):
            endings[now] += 1
            in_text = False
        elif isinstance(answer, Cancelled | Refused) and answer.id is not None:
            assert not in_text or answer.id == now
            endings[answer.id] += 1
            in_text = False
    assert endings == Counter([0, *generations])


def test_a_pause_lets_only_the_processes_run_that_were_waited_for():
    assert pause(0.010, 0.010) == pause(0.011, 0.010) == pause(0.0, 0.0) == 0.0
    assert pause(0.3, 0.01) == pytest.approx(1.7)  # 10 ms of two seconds
    assert pause(2.0, 0.01) == 0.0  # it had less already


@pytest.mark.parametrize("sparing", [False, True])
def test_only_a_sparing_server_rests_and_a_request_ends_its_rest(tiny_run, monkeypatch, sparing):
    bench = Bench(tiny_run.path, sparing=sparing)
    rests = []
    monkeypatch.setattr(serve, "pause", lambda passed, computed: 3600.0)
    real = bench.inbox.overtaken

    def overtaken(generation, within=0.0):
        rests.append(within)
        if within:
            bench.inbox.put(Cancel(id=generation))
        return real(generation, within)

    monkeypatch.setattr(bench.inbox, "overtaken", overtaken)
    said = bench.ask(Generate(id=1, settings=QUICK))
    assert any(rests) == sparing
    assert shape_of(said) == (["begin", "trace", "step", "cancelled"] if sparing else WHOLE)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_share_computes_on_the_cpu(cli_fast, device):
    assert "computes on the CPU only" in cli_fast("serve", "--share", f"--device={device}").refused()


def test_the_command_is_hidden(cli_fast):
    done = cli_fast("--help")
    assert "generate" in done.stdout and "serve" not in done.stdout


def until(child: Child, *kinds: type, seconds: float = 60.0) -> list:
    """The answers up to the first of one of those kinds."""
    answers, patience = [], time.monotonic() + seconds
    while time.monotonic() < patience:
        for answer in child.take():
            answers.append(answer)
            if isinstance(answer, kinds):
                return answers
        assert child.alive, (child.reason, child.said, answers)
        time.sleep(0.002)
    raise AssertionError(answers)


def gone(child: Child, seconds: float = 20.0) -> str:
    """Why it ended."""
    patience = time.monotonic() + seconds
    while child.alive:
        assert time.monotonic() < patience
        time.sleep(0.002)
    return child.reason


LONG = {"length": 3000, "settings": {"decoder": "schedule"}}


def test_real_process_generates_cancels_replaces_refuses_and_loads(tiny_run, loaded, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    child = Child(command("nowhere", "cpu"))
    assert "no model 'nowhere'" in until(child, Refused)[-1].text
    child.send(Load(model=str(tiny_run.path)))
    assert until(child, Ready)[-1].model == "tiny"

    child.send(Generate(id=1, prompt="The ", seed=7))
    alone = [messages.parse_answer(messages.to_line(line)) for line in narrate(loaded, "The ", DecodeSettings(seed=7))]
    assert timeless(until(child, TraceEnd)) == [Begin(id=1), *timeless(alone)]

    child.send(Generate(id=2, **LONG))
    until(child, TraceStep)
    child.send(Cancel(id=2))
    assert until(child, Cancelled, TraceEnd)[-1] == Cancelled(id=2)

    child.send(Generate(id=3, **LONG))
    until(child, TraceStep)
    child.send(Generate(id=4, settings=QUICK))
    said = until(child, TraceEnd)
    assert [answer for answer in said if isinstance(answer, Begin | Cancelled)] == [Cancelled(id=3), Begin(id=4)]

    child.send(Generate(id=5, settings={"decoder": "\x1b[31m"}))
    refusal = until(child, Refused)[-1]
    assert refusal.id == 5 and "unknown decoder" in refusal.text and "\x1b" not in refusal.text

    child.send(Generate(id=6, **LONG))
    until(child, TraceStep)
    os.kill(child.pid, signal.SIGKILL)
    assert gone(child, 1.0) == "killed by signal 9 (out of memory, or kill -9)"
    assert not child.send(Cancel(id=6))
    child.close()


NOISY = """
import os, sys
from tdiff.core.models import load
real = load.load_model
def load_model(*arguments):
    print("a library's advertisement")
    os.write(1, b"from deep below\\n")
    os.system("echo from a program")
    assert not sys.stdin.read(), "stdin is for requests alone"
    assert not os.environ["CUDA_VISIBLE_DEVICES"]
    return real(*arguments)
load.load_model = load_model
from tdiff.core.serve import serve
serve(sys.argv[1], share=True)
"""


def test_prints_stay_out_of_the_answers_and_the_end_of_stdin_ends_the_process(tiny_run):
    process = subprocess.Popen(
        [sys.executable, "-c", NOISY, str(tiny_run.path)],
        env=environment(CUDA_VISIBLE_DEVICES="0", OMP_NUM_THREADS="7"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    ready = messages.parse_answer(process.stdout.readline().decode())
    assert isinstance(ready, Ready)
    assert (ready.device, ready.threads) == ("cpu", 1)
    # Longer than any pipe takes in: it is in the midst of it, or blocked in a write, when stdin ends.
    for request in (Generate(id=1, length=100_000, settings={"decoder": "random", "steps": 1}), "nonsense", "{}"):
        line = request + "\n" if isinstance(request, str) else messages.to_line(request)
        process.stdin.write(line.encode())
    process.stdin.flush()
    answers = [messages.parse_answer(process.stdout.readline().decode()).kind for _ in range(2)]
    assert answers == ["begin", "trace"]
    if hasattr(os, "SCHED_IDLE"):
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        about = Path(f"/proc/{process.pid}")
        assert int((about / "oom_score_adj").read_text()) == 1000
        with suppress(FileNotFoundError):  # a kernel that does not share the machine out among sessions
            assert (about / "autogroup").read_text().endswith(" nice 19\n")
    process.stdin.close()
    assert process.wait(20) == 0
    talk = process.stderr.read().decode()
    assert talk.splitlines() == ["a library's advertisement", "from deep below", "from a program"]
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("end", ["stdin", "stdout"])
def test_closed_pipe_during_the_load_ends_the_process_silently(end, here):
    process = subprocess.Popen(
        [sys.executable, "-m", "tdiff", "serve", "--model=nowhere"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    getattr(process, end).close()  # with stdout closed, the refusal of the model finds no reader
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def test_invalid_line_is_refused():
    inbox = Inbox()
    read, write = os.pipe()
    os.write(write, b'{"kind":"gen')
    os.write(write, b'erate","id":1,"prompt":"\xc3\xa4"}\nnonsense \xff\x1b[0m\n')
    os.close(write)
    with pytest.raises(EndOfStdin):
        listen(read, inbox)
    os.close(read)
    assert inbox.take() == Generate(id=1, prompt="ä")
    refusal = inbox.take()
    assert refusal.id is None and "nonsense" in refusal.text


class EndOfStdin(Exception):
    pass


def listen(stdin, inbox) -> None:
    def leave():
        raise EndOfStdin

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serve, "_leave", leave)
        serve._listen(stdin, inbox)
