"""Following a target: its reader is fed each line once and in order, however the lines come."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from tdiff.errors import TdiffError
from tdiff.protocol.events import End, Train, to_line
from tdiff.watch import follow
from tdiff.watch.follow import Watched
from tdiff.watch.reader import Reader
from tdiff.watch.sources.local import FileSource, PipeSource
from tdiff.watch.sources.ssh import SshSource
from tdiff.watch.targets import locate
from tests.support.paths import SHARED


class Lines:
    """A reader, and its state, that stores the lines it is fed."""

    def __init__(self) -> None:
        self.state = self
        self.lines: list[str] = []
        self.format, self.job, self.seen_until = "", None, None
        self.resets = self.settled = 0
        self.closed = False
        self.threads: set[str] = set()
        self.arrived: float | None = None

    def feed(self, lines, arrived=None) -> None:
        self.lines += lines
        self.arrived = arrived
        self.threads.add(threading.current_thread().name)

    def settle(self, *, over: bool = False) -> bool:
        self.settled += 1
        return False

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        self.lines = []
        self.resets += 1


@pytest.fixture
def watch():
    opened: list[Watched] = []

    def start(word, reader=Lines) -> Watched:
        opened.append(Watched(locate(str(word)), reader))
        return opened[-1]

    yield start
    for watched in opened:
        watched.close()


@pytest.fixture
def small(monkeypatch):
    """Make a few kilobytes count as big."""
    monkeypatch.setattr(follow, "BIG", 4000)
    monkeypatch.setattr(follow, "NEWEST", 20)
    monkeypatch.setattr(follow, "_PIECE", 512)


def write(path: Path, lines: list[str], mode: str = "a") -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def numbered(begin: int, end: int) -> list[str]:
    return [f"{i},{i / 7:.3f}" for i in range(begin, end)]


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_small_file_is_read_line_by_line_and_poll_reports_news(tmp_path, watch):
    log = tmp_path / "log"
    write(log, ["a", "b"])
    one = watch(log)
    assert one.poll()
    assert not one.poll()
    write(log, ["c"])
    assert one.poll()
    assert one.run_state.lines == ["a", "b", "c"]
    assert one.filling is None
    assert one.status().bytes == 6


def test_replaced_file_resets_the_reader(tmp_path, watch):
    log = tmp_path / "log"
    write(log, ["a", "b"])
    one = watch(log)
    one.poll()
    write(tmp_path / "new", ["c"])
    (tmp_path / "new").replace(log)
    assert one.poll()
    assert (one.run_state.lines, one.run_state.resets) == (["c"], 1)
    write(log, [], "w")
    assert one.poll()
    assert (one.run_state.lines, one.run_state.resets) == ([], 2)


def test_poll_respects_its_time_limit_and_reports_that_it_is_behind(tmp_path, watch, monkeypatch):
    monkeypatch.setattr(follow, "_PIECE", 100)
    log = tmp_path / "log"
    lines = numbered(0, 1000)
    write(log, lines)
    one = watch(log)
    assert one.poll(0)
    assert one.behind
    assert 0 < len(one.run_state.lines) < 20
    assert one.poll(60)
    assert not one.behind
    assert one.run_state.lines == lines


class Held(Lines):
    """A reader that waits in the thread until a test lets it continue."""

    gate = threading.Event()

    def feed(self, lines, arrived=None) -> None:
        if threading.current_thread().name == "fill":
            self.gate.wait(20)
        super().feed(lines, arrived)


@pytest.fixture
def gate():
    Held.gate.clear()
    yield Held.gate
    Held.gate.set()


def test_big_file_shows_newest_lines_first_then_everything(tmp_path, watch, small, gate):
    log, lines = tmp_path / "log", ["step,loss", *numbered(0, 2000)]
    write(log, lines)
    one = watch(log, Held)
    assert one.poll()
    first = one.run_state
    assert first.lines == [lines[0], *lines[-20:]]
    assert one.filling == 0
    more = numbered(2000, 2010)
    write(log, more)  # which both of them see
    assert one.poll()
    assert first.lines == [lines[0], *lines[-20:], *more]
    gate.set()
    until(lambda: one.poll() and one.run_state is not first)
    assert one.filling is None
    write(log, ["torn"])
    one.poll()
    assert one.run_state.lines == [*lines, *more, "torn"]
    assert one.run_state.threads == {"fill", threading.current_thread().name}
    assert one.run_state.resets == 0
    assert first.lines == [lines[0], *lines[-20:], *more]


def test_complete_read_starts_after_the_newest_lines(tmp_path, watch, small):
    write(tmp_path / "log", [line * 10 for line in numbered(0, 2000)])
    one = watch(tmp_path / "log")
    while one.poll(0) and one.behind:
        assert one.filling == 0
        assert "fill" not in {thread.name for thread in threading.enumerate()}
    assert len(one.run_state.lines) == 21
    assert one.finish(5)
    assert len(one.run_state.lines) == 2000


@pytest.mark.parametrize("seed", range(4))
def test_growing_big_file_is_read_exactly_once(tmp_path, watch, small, seed):
    log, draw = tmp_path / "log", random.Random(seed)
    lines = numbered(0, 3000)
    write(log, lines)
    one, shares = watch(log), []
    one.poll()
    while one.filling is not None or len(lines) < 3100:
        more = numbered(len(lines), len(lines) + draw.randrange(9))
        text = "".join(f"{line}\n" for line in more)
        cut = draw.randrange(len(text) + 1)
        for part in (text[:cut], text[cut:]):  # torn anywhere
            with log.open("a") as file:
                file.write(part)
            shares.append(one.filling)
            one.poll(draw.choice([0, 0.01]))
        lines += more
    assert one.finish(5)
    assert one.run_state.lines == lines
    known = [share for share in shares if share is not None]
    assert known == sorted(known)
    assert known[0] >= 0 and known[-1] <= 1


def test_big_file_replaced_during_the_complete_read_is_the_new_one(tmp_path, watch, small, gate):
    log = tmp_path / "log"
    write(log, numbered(0, 2000))
    one = watch(log, Held)
    one.poll()
    write(tmp_path / "new", ["x", "y"])
    (tmp_path / "new").replace(log)
    assert one.poll()
    assert one.run_state.lines == ["x", "y"]
    gate.set()
    assert one.finish(5)
    assert one.run_state.lines == ["x", "y"]


def test_failure_in_the_thread_is_raised_by_poll(tmp_path, watch, small):
    class Broken(Lines):
        def feed(self, lines, arrived=None) -> None:
            if threading.current_thread().name == "fill":
                raise ZeroDivisionError
            super().feed(lines, arrived)

    write(tmp_path / "log", numbered(0, 2000))
    one = watch(tmp_path / "log", Broken)
    with pytest.raises(ZeroDivisionError):
        until(lambda: one.poll() and False)


def test_closing_ends_the_thread(tmp_path, watch, small, monkeypatch):
    monkeypatch.setattr(follow, "_PAUSE", 0.02)
    write(tmp_path / "log", numbered(0, 20_000))
    one = watch(tmp_path / "log")
    one.poll()
    assert "fill" in {thread.name for thread in threading.enumerate()}
    one.close()
    assert "fill" not in {thread.name for thread in threading.enumerate()}
    assert one.filling is None


def test_the_newest_lines_come_with_the_time_they_were_written(tmp_path, watch, monkeypatch):
    monkeypatch.setattr(follow, "_PIECE", 4)
    log = tmp_path / "log"
    write(log, ["one", "two"])
    os.utime(log, (1e9, 1e9))
    one = watch(log)
    one.poll(0)
    assert (one.run_state.lines, one.run_state.arrived) == (["one"], None)
    one.poll(0)
    assert one.run_state.lines == ["one", "two"]
    assert one.run_state.arrived == pytest.approx(1e9, abs=1)


def test_snapshot_reads_the_unfinished_last_line_of_a_file_at_rest(tmp_path, watch):
    log = tmp_path / "log"
    log.write_text("a\nb")
    one = watch(log)
    assert one.finish(5)
    assert one.run_state.lines == ["a"]
    os.utime(log, (1e9, 1e9))
    one = watch(log)
    assert one.finish(5)
    assert one.run_state.lines == ["a", "b"]


BAR = " 30%|###  | 300/1000 [00:18<01:00, 16.60it/s]"
TRAINER = f"{BAR}\n{{'loss': 1.578, 'epoch': 0.3}}\n{BAR}\n"
LOGS = SHARED / "logs"


def rested(log: Path, text: str, mode: str = "w", age: float = 9) -> Path:
    """The file with this text, modified `age` seconds ago."""
    with log.open(mode) as file:
        file.write(text)
    os.utime(log, (time.time() - age, time.time() - age))
    return log


@pytest.mark.parametrize("last", ["{'eval_loss': 1.7, 'epoch': 0.3}\n", "{'eval_loss': 1.7, 'epoch': 0.3}"])
@pytest.mark.parametrize("how", ["poll", "finish"])
def test_newest_dictionary_is_reported_without_a_following_line(tmp_path, watch, last, how):
    log = rested(tmp_path / "log", TRAINER + last)
    one = watch(log, Reader)
    one.finish(5) if how == "finish" else one.poll()
    assert one.run_state.metrics["eval/loss"].last == (300, pytest.approx(1.7))
    assert one.run_state.metrics["train/loss"].last == (300, pytest.approx(1.578))
    logged = len(one.run_state.log)
    assert not one.poll()
    rested(log, ("" if last.endswith("\n") else "\n") + "{'loss': 1.5, 'step': 350}\n", "a")
    assert one.poll()
    assert one.run_state.metrics["eval/loss"].last == (300, pytest.approx(1.7))
    assert len(one.run_state.metrics["eval/loss"].steps) == 1, "an early read line is not read twice"
    assert len(one.run_state.log) == logged + 1
    assert one.run_state.metrics["train/loss"].last == (350, 1.5)


def test_while_lines_come_a_dictionary_waits_for_the_bar_that_counts_it(tmp_path, watch):
    log = tmp_path / "log"
    log.write_text(" 29%|##  | 297/1000 [00:18<01:00, 16.60it/s]\n{'loss': 1.578, 'epoch': 0.3}\n")
    one = watch(log, Reader)
    one.poll()
    assert "train/loss" not in one.run_state.metrics
    with log.open("a") as file:
        file.write(BAR + "\n")
    one.poll()
    assert one.run_state.metrics["train/loss"].last == (300, pytest.approx(1.578))


def test_closed_pipe_reports_its_last_dictionary_or_heading(watch):
    for text, lines in ((TRAINER + "{'eval_loss': 1.7, 'epoch': 0.3}", 2), ("step,loss", 1)):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        one = Watched(locate("-"), Reader, PipeSource(reader))
        one.finish(5)
        assert len(one.run_state.log) == lines
        one.close()


def test_unfinished_last_line_waits_for_its_end(tmp_path, watch):
    log = rested(tmp_path / "log", "step,loss\n1,2.5\n2,2.")
    one = watch(log, Reader)
    one.poll()
    rested(log, "75\n", "a")
    one.poll()
    assert one.run_state.metrics["train/loss"].last == (2, 2.75)
    assert list(one.run_state.metrics["train/loss"].steps) == [1, 2]


@pytest.mark.parametrize(
    ("name", "age", "state", "val", "reason"),
    [
        ("slow_bars.log", 90, "running", None, ""),
        ("slow_bars.log", 5000, "stalled", None, ""),
        ("ends_in_traceback.log", 5, "failed", None, "RuntimeError: CUDA error: out of memory"),
        ("ends_in_traceback.log", 5000, "failed", None, "RuntimeError: CUDA error: out of memory"),
        ("newest_is_eval.log", 5, "running", (300, 1.7), ""),
    ],
)
def test_real_logs_have_the_expected_state(tmp_path, watch, name, age, state, val, reason):
    # These logs lie beside the project, not in it. The states themselves are tested in test_run_lifecycle, and logs of
    # every kind that are in the project in formats/test_whole_logs, everywhere; these are the two together.
    if not (LOGS / name).exists():
        pytest.skip(f"THE LOGS ARE MISSING: {LOGS} is not there")
    log = rested(tmp_path / name, (LOGS / name).read_text(), age=age)
    one = watch(log, Reader)
    one.poll()
    assert (one.run_state.state(time.time()), one.run_state.failure) == (state, reason)
    held = one.run_state.metrics.get("eval/loss")
    assert (held.last if held else None) == (pytest.approx(val) if val else None)
    what = [notice.what for notice in one.run_state.check(time.time())]
    assert what == {"running": [], "failed": ["failed"], "stalled": ["stall"]}[state]


def test_snapshot_of_a_pipe_reads_to_its_end_within_the_limit():
    reader, writer = os.pipe()
    one = Watched(locate("-"), Lines, PipeSource(reader))
    os.write(writer, b"a\nb")
    assert not one.finish(0.05)
    assert one.run_state.lines == ["a"]
    threading.Timer(0.1, lambda: (os.write(writer, b"c\nd"), os.close(writer))).start()
    assert one.finish(20)
    assert one.run_state.lines == ["a", "bc", "d"]
    one.close()


def test_source_follows_from_the_target(tmp_path, monkeypatch, watch):
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\nexec sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("TDIFF_SSH", str(fake))
    write(tmp_path / "log", ["far"])
    far = watch(f"ssh://host{tmp_path}/log")
    assert isinstance(far._source, SshSource)
    assert far.finish(20)
    assert far.run_state.lines == ["far"]
    assert isinstance(watch(tmp_path / "log")._source, FileSource)
    os.mkfifo(tmp_path / "fifo")
    pipe = watch(tmp_path / "fifo")
    assert isinstance(pipe._source, PipeSource)
    (tmp_path / "fifo").unlink()
    with pytest.raises(TdiffError, match="cannot be read"):
        Watched(pipe.target, Lines)


def test_run_is_followed_before_its_event_log_exists(tmp_path, watch):
    run = tmp_path / "checkpoints" / "tiny"
    run.mkdir(parents=True)
    write(run / "config.toml", [])
    one = watch(run)
    assert not one.poll()
    assert "not there yet" in one.status().text
    write(run / "events.jsonl", ["{}"])
    assert one.poll()
    assert one.run_state.lines == ["{}"]


def test_state_of_a_big_run_equals_feeding_all_lines_at_once(tmp_path, watch, small):
    run = tmp_path / "tiny"
    run.mkdir()
    common = {"tokens": 1, "loss_by_mask": [], "lr": 0.1, "grad_norm": 1.0, "tokens_per_second": 9.0, "eta": 1.0}
    trains = [Train(time=1e9 + i, step=i, loss=2 + i % 7, progress=i / 999, **common) for i in range(1000)]
    lines = [to_line(record).strip() for record in [*trains, End(time=2e9, step=999, reason="finished")]]
    write(run / "events.jsonl", lines)
    reader = Reader("tiny")
    reader.feed(lines)
    complete = reader.state
    one = watch(run, None)
    assert one.poll()
    assert (one.run_state.name, one.run_state.step, one.run_state.format) == ("tiny", 999, "tdiff")
    assert one.run_state.metrics["train/loss"].count < 30
    assert one.finish(5)
    assert one.run_state.state(2e9) == "finished"
    assert list(one.run_state.metrics) == list(complete.metrics)
    for name, series in one.run_state.metrics.items():
        assert (series.count, series.last) == (complete.metrics[name].count, complete.metrics[name].last)
    assert one.run_state.metrics["train/loss"].count == 1000
    assert list(one.run_state.log) == list(complete.log)
