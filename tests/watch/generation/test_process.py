"""A process behind a pipe, as its owner sees it: never waited for, never left over, and dead for a reason."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.errors import TdiffError
from tdiff.protocol.messages import Begin, Cancel, Generate, Load, Refused, parse_answer, to_line
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.visible import visible
from tdiff.watch.generation import process as module
from tdiff.watch.generation.process import Child, command, why_ended
from tests.support.paths import ROOT

FEW = examples(derandomize=True, deadline=None, max_examples=15, database=None)


def python(code: str, *arguments: str) -> list[str]:
    """A program that starts fast: what a child is here, in place of a model."""
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


@pytest.fixture
def start():
    """Children that are closed after the test."""
    started = []

    def begin(command) -> Child:
        started.append(Child(command))
        return started[-1]

    yield begin
    for child in started:
        child.close(0.2)
        ended(child)


def soon(condition, seconds: float = 20.0):
    """What `condition` says, once that is true."""
    patience = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < patience
        time.sleep(0.002)
    return answer


def ended(child: Child) -> str:
    soon(lambda: not child.alive)
    return child.reason


def everything(child: Child, last) -> list:
    """What it said up to that answer."""
    answers = []
    soon(lambda: answers.extend(child.take()) or (answers and answers[-1] == last))
    return answers


def running(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


ECHO = """
import sys
for line in sys.stdin:
    print('{"kind":"refused","text":"%d"}' % len(line), flush=True)
"""


def test_requests_go_in_and_answers_come_out(start):
    child = start(python(ECHO))
    requests = [Generate(id=1, prompt="ä\n"), Cancel(id=1), Load(model="m")]
    assert all(map(child.send, requests))
    answers = []
    soon(lambda: answers.extend(child.take()) or len(answers) == 3)
    assert answers == [Refused(text=str(len(to_line(request)))) for request in requests]
    assert child.alive and child.reason is None
    assert child.take() == []


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        (-9, "", "killed by signal 9 (out of memory, or kill -9)"),
        (137, "Killed", "killed by signal 9 (out of memory, or kill -9)"),
        (-11, "", "killed by signal 11 (Segmentation fault)"),
        (-15, "bye", "killed by signal 15 (Terminated)"),
        (2, "tdiff: no", "exit 2: tdiff: no"),
        (255, "ssh: no route", "exit 255: ssh: no route"),
        (127, "sh: tdiff: not found", "exit 127: sh: tdiff: not found"),
        (0, "", "exit 0"),
        (128, "", "exit 128"),
    ],
)
def test_ended_process_has_a_reason(status, words, reason):
    assert why_ended(status, words) == reason


def test_reason_contains_the_last_stderr_line_made_safe(start):
    code = r"import sys; print('first', 'x\x1b[31m\u202e', sep='\n', file=sys.stderr, flush=True); sys.exit(3)"
    child = start(["env", "PYTHONIOENCODING=utf-8", *python(code.replace("-I", "-S"))])
    assert ended(child) == "exit 3: x␛[31m\\u202e"
    assert child.messages == ["first", "x␛[31m\\u202e"]
    assert not child.send(Cancel(id=1))


def test_only_the_last_stderr_lines_are_stored_and_shortened(start):
    child = start(python("import sys\nfor i in range(100): print(i, 'x' * 100_000, file=sys.stderr)"))
    ended(child)
    soon(lambda: child.messages and child.messages[-1].startswith("99 "))
    assert [line.split()[0] for line in child.messages] == [str(i) for i in range(80, 100)]
    assert max(map(len, child.messages)) < 500


def test_text_on_stdout_is_stored_as_a_message(start):
    child = start(python("print('This account is currently not available.'); raise SystemExit(1)"))
    assert ended(child).startswith("exit 1")
    soon(lambda: child.messages == ["This account is currently not available."])


def test_answers_before_a_kill_remain_available(start):
    child = start(python('import time; print(\'{"kind":"begin","id":3}\', flush=True); time.sleep(60)'))
    answers = []
    soon(lambda: answers.extend(child.take()) or answers)
    os.kill(child.pid, signal.SIGKILL)
    assert ended(child) == "killed by signal 9 (out of memory, or kill -9)"
    assert answers == [Begin(id=3)]


@pytest.mark.parametrize("words", [["/nowhere/at-all"], ["a\0b"], [str(Path(__file__))]], ids=["absent", "nul", "text"])
def test_a_program_that_cannot_be_started_is_refused_on_one_line(words):
    with pytest.raises(TdiffError, match="cannot start") as error:
        Child(words)
    assert len(visible(str(error.value)).splitlines()) == 1


HEADER = TraceHeader(version="", model="m", decoder="", settings={}, seed=0, row=0, prompt="", cells=2, given=[])
STEP = TraceStep(index=1, t=0.5, calls=1, cells=[(1, "a", 1, 0.5, "commit")])
OUTSIDE = TraceStep(index=1, t=0.5, calls=1, cells=[(2, "a", 1, 0.5, "commit")])
SAY = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"


def test_step_outside_its_canvas_is_dropped(start, tmp_path):
    lines = [STEP, HEADER, OUTSIDE, STEP]
    (tmp_path / "said").write_text("".join(map(to_line, lines)))
    child = start(python(SAY, str(tmp_path / "said")))
    header, step = (parse_answer(to_line(line)) for line in (HEADER, STEP))
    assert everything(child, step) == [header, step]


@given(
    junk=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.just(b"\x1b]52;c;AAAA\x07"),
            st.just(b'{"kind":"begin","id":'),
            st.just(b"[" * 50_000),
            st.just(b"\0" * 5_000_000),  # longer than any answer
        ),
        max_size=4,
    )
)
@FEW
def test_junk_between_answers_loses_none_of_them(junk, tmp_path_factory):
    path = tmp_path_factory.mktemp("junk") / "said"
    answers = [Begin(id=i) for i in range(len(junk) + 1)]
    with path.open("wb") as file:
        for answer, between in zip(answers, [*junk, b""], strict=True):
            file.write(to_line(answer).encode() + between + b"\n")
    child = Child(python(SAY, str(path)))
    try:
        known = [answer for answer in everything(child, answers[-1]) if answer in answers]
        assert known == answers
        assert all(line == visible(line) and "\n" not in line for line in child.messages)
    finally:
        child.close()


FLOOD = """
import os, sys
count = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
for i in range(8000):
    os.pwrite(count, b"%04d" % i, 0)
    print('{"kind":"refused","text":"%s","id":%d}' % ("x" * 100, i), flush=True)
"""


def test_untaken_answers_make_the_process_wait_and_are_not_lost(start, tmp_path):
    count = tmp_path / "count"
    child = start(python(FLOOD, str(count)))
    held = (module._MAX_WAITING + 64 * 1024 + 16 * 1024) // 130  # here, in the pipe, and between the two
    soon(lambda: child._size >= module._MAX_WAITING)
    before, now = -1, 0
    while now != before:
        time.sleep(0.2)
        before, now = now, int(count.read_text())
    assert child.alive and 1000 < now <= held < 4000
    last = Refused(text="x" * 100, id=7999)
    assert [answer.id for answer in everything(child, last)] == list(range(8000))


def test_send_returns_false_when_the_process_does_not_read(start):
    child = start(python("import time; time.sleep(60)"))
    request = Generate(id=1, prompt="x" * 10_000)
    sent = sum(child.send(request) for _ in range(1000))
    assert 100 < sent < 250  # a pipe's worth and what is kept here
    assert child.alive


def test_unsent_requests_follow_when_the_pipe_has_room(start):
    child = start(python("import time; time.sleep(0.3)\n" + ECHO))
    requests = [Generate(id=i, prompt="x" * 10_000) for i in range(50)]
    assert all(map(child.send, requests))
    answers = []
    soon(lambda: answers.extend(child.take()) or len(answers) == 50)


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"kind":"begin","id":1}', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["listens", "deaf", "stopped", "dead"])
def test_closed_process_leaves_no_zombie(how):
    child = Child(python(STUBBORN if how == "deaf" else "import time; print(); input()"))
    if how == "deaf":
        soon(child.take)
    elif how == "stopped":
        os.kill(child.pid, signal.SIGSTOP)
    elif how == "dead":
        os.kill(child.pid, signal.SIGKILL)
        ended(child)
    child.close(0.2)
    child.close()
    assert ended(child) == ("killed by signal 9 (out of memory, or kill -9)" if how == "dead" else "closed")
    assert not running(child.pid)
    assert not child.send(Cancel(id=1))
    assert child.take() == []


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


BUSY = """
import subprocess, sys
helper = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
print('{"kind":"begin","id":%d}' % helper.pid, flush=True)
for line in sys.stdin:
    print('{"kind":"refused","text":"%d"}' % len(line), flush=True)
helper.kill()
"""


def test_halt_stops_the_process_group_and_resume_continues_it(start):
    child = start(python(BUSY))
    [begin] = soon(child.take)
    child.halt()
    child.halt()
    soon(lambda: state(child.pid) == state(begin.id) == "T")
    assert child.send(Cancel(id=1))
    time.sleep(0.1)
    assert not child.take()
    child.resume()
    child.resume()
    assert soon(child.take) == [Refused(text=str(len(to_line(Cancel(id=1)))))]
    assert state(begin.id) != "T"


def test_close_ends_a_halted_process(start):
    child = start(python("input()"))
    child.halt()
    child.close(20.0)
    assert ended(child) == "closed"
    soon(lambda: not running(child.pid))


def test_ended_process_cannot_be_halted(start):
    child = start(python("pass"))
    ended(child)
    child.halt()
    child.resume()


def test_process_ends_when_its_owner_is_killed_while_both_are_stopped():
    code = VIEW.replace("time.sleep", "child.halt(); print(flush=True); time.sleep")
    words = [sys.executable, "-c", code, *python("input()")]
    view = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    pid = int(view.stdout.readline())
    view.stdout.readline()
    os.kill(view.pid, signal.SIGSTOP)
    soon(lambda: state(pid) == "T")
    view.kill()
    view.wait()
    view.stdout.close()
    soon(lambda: not running(pid) or state(pid) == "Z")


def test_close_ends_a_process_that_waits_with_answers(start):
    child = start(python('while True: print(\'{"kind":"begin","id":1}\')'))
    soon(lambda: child._size >= module._MAX_WAITING)
    child.close()
    assert ended(child) == "closed"
    soon(lambda: not running(child.pid))


def test_terminal_signals_of_the_owner_do_not_reach_the_process(start):
    child = start(python("import time; time.sleep(60)"))
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid != os.getsid(0)


VIEW = """
import sys, time
from tdiff.watch.generation.process import Child
child = Child(sys.argv[1:])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_process_ends_when_its_owner_is_killed(tmp_path):
    """The process is the real one: it heeds its stdin before it has imported anything large."""
    view = subprocess.Popen(
        [sys.executable, "-c", VIEW, *command(str(tmp_path / "nowhere"))], stdout=subprocess.PIPE, text=True
    )
    pid = int(view.stdout.readline())
    assert running(pid)
    view.kill()
    view.wait()
    view.stdout.close()
    # The process that reaps orphans, if any, is then its parent: a zombie counts as ended.
    soon(lambda: not running(pid) or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")


def test_process_ends_when_its_owner_exits_without_closing():
    code = VIEW.replace("time.sleep(60)", "")
    done = subprocess.run([sys.executable, "-c", code, *python("input()")], stdout=subprocess.PIPE, text=True)
    soon(lambda: not running(int(done.stdout)))


def test_files_in_the_current_folder_do_not_shadow_libraries(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    words = command("m")
    done = subprocess.run([*words[: words.index("serve")], "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("tdiff ")


def test_source_tree_stays_importable(tmp_path, monkeypatch):
    root = ROOT
    for folder, options in ((root, ["-m", "tdiff"]), (root / "tdiff", ["-P", "-m", "tdiff"]), (tmp_path, ["-P", "-m"])):
        monkeypatch.chdir(folder)
        assert command("m")[1 : 1 + len(options)] == options


def test_command_contains_model_and_device_and_accepts_another_program():
    assert command("m", "cpu")[-3:] == ["serve", "--model=m", "--device=cpu"]
    assert command("-x y", share=True, program=["tdiff"]) == [
        *("tdiff", "serve", "--model=-x y", "--device=auto", "--share")
    ]
