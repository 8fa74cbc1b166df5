"""The rows of the table: state, total, ETA and trend of a run; their order; the filter."""

import json
import math
import os
from dataclasses import replace

import pytest

from tdiff.runs.process import LOST, ThisMachine, TrainingProcess, this_process
from tdiff.series.series import Series
from tdiff.watch.listing.rows import Row, data, matching, ordered, row, trend
from tests.support.stage import NOW, run_lines, run_state, train_line

END = json.dumps({"kind": "end", "time": NOW, "step": 1000, "reason": "finished"})
HERE = ThisMachine()
FAR = TrainingProcess(pid=os.getpid(), host="far", began="1")


def made(lines: list[str], seconds: float = 1.0, **known) -> Row:
    """The row of a run `seconds` after its last record."""
    state = run_state(lines)
    return row(state, **({"name": "mine", "where": "x", "now": NOW + seconds, "machine": HERE} | known))


def gone() -> TrainingProcess:
    return replace(this_process(), began="another moment")


@pytest.mark.parametrize(
    ("seconds", "known", "state"),
    [
        (5, {"process": this_process()}, "running"),
        (5000, {"process": this_process()}, "stalled"),  # slow, and alive
        (5, {"process": gone()}, "died"),
        (5, {"process": FAR, "heartbeat": 3.0}, "running"),
        (5000, {"process": FAR, "heartbeat": 3.0}, "stalled"),  # slow, and alive on another host
        (5000, {"process": FAR, "heartbeat": LOST + 1}, "lost"),
        (5, {"process": FAR, "heartbeat": LOST + 1}, "lost"),
        (5, {"process": gone(), "machine": None, "heartbeat": 1.0}, "running"),
        (5, {}, "running"),
        (5000, {}, "stalled"),
        (100_000, {}, "lost"),
    ],
)
def test_a_dead_run_is_distinguished_from_a_slow_one(seconds, known, state):
    assert made(run_lines(1000), seconds, **known).state == state


@pytest.mark.parametrize("process", [this_process(), gone(), FAR, None])
def test_a_recorded_end_decides_whatever_the_process_does(process):
    assert made([*run_lines(1000), END], 1e6, process=process, heartbeat=1e6).state == "finished"


def test_reasons_say_why():
    assert made(run_lines(1000), process=gone()).reason == f"its process {os.getpid()} is gone"
    assert made(run_lines(1000), process=FAR, heartbeat=600.0).reason == "no heartbeat from far for 10 min"
    assert made(run_lines(1000), problem="\x1b[2J").reason == "␛[2J"


def test_numbers_of_a_run_are_those_of_its_newest_records():
    shown = made(run_lines(1000), 10.0, process=FAR, heartbeat=2.0, size=5)
    assert (shown.step, shown.total, shown.progress) == (1000, 2000, 0.5)
    assert shown.eta == 990 and shown.age == 10 and shown.host == "far" and shown.size == 5
    assert shown.loss == pytest.approx(1.54, abs=0.03) and shown.eval_loss == pytest.approx(1.74, abs=0.03)
    assert math.isnan(made([*run_lines(1000), train_line(1010, math.nan).replace("NaN", "null")]).loss)


def test_a_process_of_another_start_is_not_looked_up_where_lines_were_skipped():
    first, *others = run_lines(1000)
    lines = [json.dumps(json.loads(first) | {"host": HERE.host, "pid": 4194303}), *others]
    assert made(lines).state == "died"
    assert made(lines, skipped=True).state == "running"


def test_a_total_that_does_not_fit_the_progress_is_replaced_where_lines_were_skipped():
    lines = [*run_lines(1000), train_line(3000, 1.0, progress=0.5)]
    assert made(lines, -2000).total == 2000
    assert made(lines, -2000, skipped=True).total == 6000


def test_time_left_is_estimated_by_the_speed_where_the_log_does_not_report_it():
    lines = [json.dumps({"step": n, "max_steps": 100, "loss": 3.0, "time": NOW - 50 + n}) for n in range(1, 51)]
    shown = made(lines, 1.0)
    assert (shown.step, shown.state) == (50, "running")
    if shown.total:
        assert shown.eta == pytest.approx(49, abs=1)


def series(*values: float) -> Series:
    made_of = Series()
    for step, value in enumerate(values):
        made_of.append(step, value)
    return made_of


def test_trend_is_the_change_between_halves_and_zero_for_noise():
    assert trend(series(4, 4, 4, 2, 2, 2)) == -0.5
    assert trend(series(2, 2, 2, 3, 3, 3)) == 0.5
    assert trend(series(*[3 + (-1) ** n * 0.5 for n in range(100)])) == 0.0
    assert trend(series(1, 2, 3)) is None
    assert trend(series(*[0.0] * 10)) == 0.0


def named(name: str, state: str = "running", time: float = 0.0, **more) -> Row:
    return replace(made(run_lines(20)), name=name, state=state, time=time, **more)


def test_runs_at_work_come_first_and_then_the_newest():
    rows = [named("old", "stopped", 1), named("b", time=1), named("new", "died", 9), named("a", "stalled", 5)]
    assert [r.name for r in ordered(rows)] == ["a", "b", "new", "old"]


def test_filter_matches_all_words_in_name_state_format_or_host():
    rows = [named("Alpha-1", host="gpu01"), named("alpha-2", "failed"), named("beta")]
    assert [r.name for r in matching(rows, "ALPHA")] == ["Alpha-1", "alpha-2"]
    assert [r.name for r in matching(rows, "alpha fail")] == ["alpha-2"]
    assert [r.name for r in matching(rows, "gpu01")] == ["Alpha-1"]
    assert matching(rows, "") == rows


def test_data_is_valid_json_with_null_for_what_is_unknown():
    values = data(replace(made(run_lines(20)), loss=math.nan, gpu="", where="a\x1b"))
    assert values["loss"] is None and values["gpu"] is None and values["where"] == "a␛"
    assert {"eta_seconds", "age_seconds", "bytes", "heartbeat_age_seconds", "trend", "pid", "host"} <= values.keys()
    json.dumps(values, allow_nan=False)
