"""What is news about a run, and the command that runs for it."""

import os
import threading
from pathlib import Path

import pytest

from tdiff.watch import notify
from tdiff.watch.notify import MAX_RUNNING, Alert, AlertCommand, News
from tests.support.fed import FedState
from tests.support.ptys import soon
from tests.support.run_records import STARTED, TRACEBACK, end, run_of, start, to_line, train
from tests.tui.test_terminals import alive

NOW = STARTED + 100


def fed(run: FedState, *records) -> None:
    run.feed([record if isinstance(record, str) else to_line(record).rstrip() for record in records])


def kinds(news: News, run: FedState, now: float = NOW, *, current: bool = True) -> list[str]:
    return [alert.kind for alert in news.take("source", run, run.check(now), now, current=current)]


def test_alerts_that_exist_when_the_view_starts_are_no_news():
    news, run = News(), run_of(start(), train(1), train(2, float("nan")))
    assert kinds(news, run, current=False) == []
    fed(run, train(3), train(4, float("nan")))
    assert kinds(news, run) == [], "read for the first time only now"
    fed(run, train(5), train(6, float("nan")))
    assert kinds(news, run) == ["nan"]


def test_run_that_had_ended_before_the_view_started_is_no_news():
    news, run = News(), run_of(start(), train(1), end(1))
    assert kinds(news, run) == kinds(news, run) == []


def test_a_kind_is_news_once_a_minute_and_other_kinds_are_not_held_back():
    news, run = News(), run_of(start(), train(1))
    kinds(news, run)
    found = []
    for n in range(2, 12):
        fed(run, train(n, float("nan") if n % 2 else 2.0))
        found += kinds(news, run, NOW + n)
    assert found == ["nan"]
    fed(run, train(12), train(13, float("nan")), end(13, "nan"))
    assert kinds(news, run, NOW + 20) == ["ended"]
    fed(run, train(14), train(15, float("nan")))
    assert kinds(news, run, NOW + 70) == ["nan"]


def test_the_state_of_a_big_file_that_replaces_its_newest_lines_repeats_no_alert():
    news, run = News(), run_of(start(), train(1))
    kinds(news, run)
    whole = run_of(start(), train(1, float("nan")), train(2))
    assert kinds(news, whole) == []
    fed(whole, train(3, float("nan")))
    assert kinds(news, whole) == ["nan"]


def test_log_without_an_end_record_is_news_when_it_has_finished():
    news, run = News(), FedState("x")
    run.feed([f"step {n}/9 loss 2.5" for n in range(1, 9)], NOW)
    assert kinds(news, run) == []
    run.feed(["step 9/9 loss 2.5"], NOW + 1)
    assert kinds(news, run, NOW + 2) == []
    [alert] = news.take("source", run, run.check(NOW + 500), NOW + 500, current=True)
    assert str(alert) == "x: ended: finished (step 9)"


def test_failure_is_news_once_with_its_reason():
    news, run = News(), FedState("x")
    run.feed(["step 1/9 loss 2.5", "step 2/9 loss 2.25"], NOW)
    kinds(news, run)
    run.feed(TRACEBACK, NOW + 1)
    [alert] = news.take("source", run, run.check(NOW + 1), NOW + 1, current=True)
    assert (alert.kind, alert.text, alert.step, alert.loss) == ("failed", "ValueError: 1", 2, 2.25)
    assert kinds(news, run, NOW + 200) == []


EVIL = "$(touch owned); `touch owned` \" ' \\ | & > owned"


def an_alert(**changes) -> Alert:
    return Alert(**{"kind": "failed", "text": EVIL, "run": "x; touch owned", "step": 7, "loss": 2.5} | changes)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_gets_the_alert_in_variables_and_as_text_and_executes_none_of_it(folder):
    command = AlertCommand('cat > text; printf "%s|" "$TDIFF_ALERT_KIND" "$TDIFF_ALERT_TEXT" $TDIFF_ALERT_STEP > got')
    command.run(an_alert())
    command.wait()
    assert command.failures() == []
    assert (folder / "got").read_text() == f"failed|{EVIL}|7|"
    assert (folder / "text").read_text() == f"x; touch owned: failed: {EVIL} (step 7)\n"
    assert not (folder / "owned").exists()
    assert an_alert(loss=None).variables["TDIFF_ALERT_LOSS"] == ""
    assert an_alert().variables["TDIFF_ALERT_LOSS"] == "2.5"


def test_a_failed_command_is_reported_with_its_last_line_safe_to_print(folder):
    command = AlertCommand(r"echo first; printf 'no such \033[2Jhost\n' >&2; exit 3")
    command.run(an_alert())
    command.wait()
    [failure] = command.failures()
    assert failure.startswith("the alert command failed with exit code 3: no such ") and "\x1b" not in failure
    assert command.failures() == []


def test_a_command_that_reads_nothing_or_writes_much_does_not_block(folder):
    command = AlertCommand("exec 0<&-; head -c 3000000 /dev/zero; sleep 20 & true")
    command.run(an_alert(text="x" * 500))
    command.wait()
    assert command.failures() == []


def test_a_command_beyond_its_time_limit_is_ended_with_its_children(folder, monkeypatch):
    monkeypatch.setattr(notify, "TIME_LIMIT", 2.0)
    command = AlertCommand("sleep 600 & echo $! > child; wait")
    command.run(an_alert())
    command.wait()
    assert command.failures() == ["the alert command ended by signal 9"]
    child = int((folder / "child").read_text())
    assert soon(lambda: not alive(child))


def test_no_more_than_a_few_commands_run_at_once_and_none_stays_a_zombie(folder):
    os.mkfifo(folder / "gate")
    command = AlertCommand("read line < gate")
    for _ in range(MAX_RUNNING + 2):
        command.run(an_alert())
    assert len([thread for thread in threading.enumerate() if thread.name == "alert-command"]) == MAX_RUNNING
    assert command.failures() == [f"the alert command was not started: {MAX_RUNNING} of them are still running"] * 2
    gate = os.open(folder / "gate", os.O_RDWR)
    os.write(gate, b"go\n" * MAX_RUNNING)
    command.wait()
    os.close(gate)
    assert not [thread for thread in threading.enumerate() if thread.name == "alert-command"]
