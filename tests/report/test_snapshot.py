"""A snapshot says what is known, in lines that fit, and as data that any program can read."""

import json
import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.cells import cell_len

from tdiff.protocol.events import Alert, Heartbeat, to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader
from tdiff.report import snapshot
from tdiff.visible import visible
from tests.support.fed import FedState
from tests.support.paths import ROOT
from tests.support.run_records import STARTED, eval_at, mixed, resume, run_of, sample, start, train, verdicts
from tests.watch.test_run_limits import HOSTILE

FEW = examples(derandomize=True, deadline=None, max_examples=60, database=None)
SHIPPED = ROOT / "checkpoints" / "shakespeare" / "events.jsonl"
GPU = {"gpu_load": 97.0, "gpu_memory": 41.25, "gpu_temperature": 63.0, "gpu_power": 402.0}


def a_run() -> FedState:
    return run_of(
        start(steps=400, parameters=1_260_000, time=STARTED),
        *(train(n, 3 - n / 200, tokens=1_000_000 * n, **GPU) for n in range(1, 101)),
        *(
            eval_at(50, 2.5),
            eval_at(100, 2.75),
            sample(100, "A king\nand\ta queen"),
            train(101, 2.0, eta=400.0, **GPU),
        ),
    )


NOW = STARTED + 1010 + 60


def test_snapshot_shows_figures_curve_and_newest_sample():
    lines = snapshot.text([a_run()], NOW).split("\n")
    assert lines[0] == "fed" + " " * 62 + "running · tdiff"
    assert lines[1:8] == [
        "step        101 of 400 · 50.0% · ETA 5 min 40 s · last record 1 min 00 s ago",
        "run         1.3M parameters on text · cpu",
        "train       2.0000 · smoothed 2.3045 · 10,100 tokens",
        "validation  2.7500 · nats a token · 95%: 2.7500 to 2.7500",
        "best        2.5000 at step 50",
        "pace        lr 1.00e-01 · gradient norm 1.0000 · 5 tokens/s",
        "GPU         97% · 41.2 GiB · 63 °C · 402 W",
    ]
    assert any("\u2801" <= c <= "\u28ff" for line in lines for c in line)
    assert lines[-4:] == ["", "sample at step 100:", "  A king", "  and    a queen"]


def test_verdicts_appear_as_text_and_data():
    run = run_of(start(), train(5), verdicts(5))
    shown = snapshot.text([run], NOW)
    assert "classifier  accuracy 85.0% on 200 texts · 95%: 80.0% to 90.0%\n" in shown
    assert " calibration error 0.03 · temperature 1.5\n" in shown
    assert shown.count("accuracy") == 1
    figures = {"texts": 200, "accuracy": 0.85, "interval_95": [0.8, 0.9], "ece": 0.03, "temperature": 1.5}
    assert snapshot.data(run, NOW)["verdicts"] == {"step": 5, **figures}
    assert snapshot.data(run_of(start(), train(5)), NOW)["verdicts"] is None
    pairs = {"kind": "verdicts", "time": 1.7e9, "step": 1, "texts": 2, "ece": 1, "temperature": 1}
    odd = json.dumps({**pairs, "accuracy": None, "interval_95": [None, None]})
    assert "accuracy not finite on 2 texts" in snapshot.text([run_of(odd)], NOW)


def test_earlier_attempts_appear_as_text_and_data():
    lines = [f"step {n}/900 loss {4 - n / 400:.3f}" for n in (*range(1, 801), *range(500, 851), *range(600, 620))]
    run = FedState("job")
    run.feed(lines)
    shown = snapshot.text([run], NOW)
    assert "attempts    2 earlier attempts, the last until step 850 at loss 1.875\n" in shown
    data = snapshot.data(run, NOW)
    assert data["restarts"] == 2
    assert [(a["number"], a["restart_step"], a["last_step"], a["loss"], a["records"]) for a in data["attempts"]] == [
        (1, 500, 800, 2.0, 301),
        (2, 600, 850, 1.875, 251),
    ]
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_ascii_snapshot_is_ascii():
    shown = snapshot.text([a_run()], NOW, ascii=True)
    assert shown.isascii()
    assert "101 of 400 . 50.0%" in shown
    assert len(shown.split("\n")) == len(snapshot.text([a_run()], NOW).split("\n"))


def test_data_has_the_documented_keys():
    run = a_run()
    data = snapshot.data(run, NOW)
    assert list(data) == [
        *("name", "format", "state", "doing", "reason", "failed", "points", "eval_points", "note"),
        *("step", "total", "progress", "eta_seconds", "train", "eval"),
        *("verdicts", "best", "gpu", "gpus", "gpus_problem", "processes"),
        *("metrics", "alerts", "sample", "last_record_age_seconds", "resets", "restarts", "attempts", "source", "job"),
    ]
    assert (data["name"], data["format"], data["state"]) == ("fed", "tdiff", "running")
    assert (data["step"], data["total"], data["progress"]) == (101, 400, 0.5)
    assert (data["eta_seconds"], data["last_record_age_seconds"]) == (340, 60)
    assert data["train"] == {
        "loss": 2.0,
        "lr": 0.1,
        "grad_norm": 1.0,
        "tokens_per_second": 5.0,
        "smoothed": pytest.approx(run.metrics["train/loss"].smoothed(snapshot.SMOOTHING)[-1]),
        "tokens": 10_100.0,
    }
    assert data["eval"] == {
        "loss": 2.75,
        "step": 100,
        "nats_per_char": 2.75,
        "interval_95": [2.75, 2.75],
        "tokens": 9,
        "whole": False,
    }
    assert data["best"] == {"metric": "eval/loss", "loss": 2.5, "step": 50}
    assert data["gpu"] == {"load": 97, "memory": 41.25, "temperature": 63, "power": 402}
    assert data["sample"]["text"] == "A king\nand\ta queen"
    assert (data["metrics"], data["alerts"], data["resets"], data["doing"]) == ({}, [], 0, None)
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_stall_appears_in_text_and_data_without_eta():
    run = a_run()
    data = snapshot.data(run, NOW + 5000)
    assert (data["state"], data["eta_seconds"]) == ("stalled", None)
    assert [alert["what"] for alert in data["alerts"]] == ["stall"]
    shown = snapshot.text([run], NOW + 5000)
    assert "stalled · tdiff" in shown
    assert "ETA" not in shown
    assert "stall: no record for 2 min 00 s, usually one in 10 s (step 101)" in shown


def test_non_finite_loss_is_null_in_data_and_named_in_text():
    run = run_of(train(1, 2.5), train(2, math.nan))
    data = snapshot.data(run, STARTED + 21)
    assert data["train"]["loss"] is None
    assert data["best"]["loss"] == 2.5
    assert "train       not finite" in snapshot.text([run], STARTED + 21)
    assert snapshot.data(run_of(train(1, math.nan)), STARTED)["train"]["loss"] is None


def test_busy_run_shows_its_operation():
    run = run_of(train(1), Heartbeat(time=STARTED + 11, step=1, doing="evaluating"))
    assert snapshot.text([run], STARTED + 12).split("\n")[0].endswith("running, evaluating · tdiff")


def test_notices_of_other_days_show_dates_and_older_ones_are_counted():
    run = run_of(*(Alert(time=STARTED + n, step=n, what="heat", text="hot") for n in range(8)), train(9))
    shown = snapshot.text([run], STARTED + 10 * 86400)
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(STARTED + 7))
    assert f"{day}  alert: heat: hot (step 7)" in shown
    assert "(4 older)" in shown  # the stall is one of the newest five
    assert "(step 2)" not in shown


def test_other_columns_are_shown():
    run = run_of(*(json.dumps({"step": n, "loss": 2.5, "accuracy": 0.5, "eval_runtime": 9.0}) for n in (1, 2)))
    data = snapshot.data(run, STARTED)
    assert data["metrics"] == {"accuracy": 0.5, "eval_runtime": 9}
    assert (data["eval"], data["sample"], data["last_record_age_seconds"]) == ({}, None, None)
    shown = snapshot.text([run], STARTED)
    assert "also        accuracy 0.5\n" in shown
    assert "best        2.5000 of training at step 1" in shown


def test_a_trace_shows_its_text():
    header = TraceHeader(
        version="0", model="m", decoder="d", settings={}, seed=0, row=0, prompt="A", cells=2, given=[], steps=0
    )
    run = run_of(header, TraceEnd(text="A king", model_calls=1, forced=0, tokens=1, seconds=0.1))
    assert snapshot.data(run, STARTED)["sample"] == {"step": 0, "time": None, "prompt": "A", "text": "A king"}
    assert snapshot.text([run], STARTED).endswith("  A king")


def test_log_shows_newest_lines_and_an_empty_source_says_so():
    shown = snapshot.text([run_of(*(f"line {n}" for n in range(20))), FedState("empty")], STARTED)
    assert "\nline 14\nline 15\nline 16\nline 17\nline 18\nline 19\n\nempty" in shown
    assert "line 13" not in shown
    assert shown.endswith("no data yet")
    assert snapshot.data(FedState("empty"), STARTED)["state"] == "waiting"


def test_snapshot_of_the_shipped_run():
    run = FedState("shakespeare")
    run.feed(SHIPPED.read_text(encoding="utf-8").splitlines())
    data = snapshot.data(run, run.last_time + 60)
    assert (data["state"], data["step"], data["progress"]) == ("finished", 20000, 1.0)
    # It was resumed after its end, and stopped once in between.
    assert [alert["text"] for alert in data["alerts"]] == ["finished", "stopped", "finished"]
    assert {alert["what"] for alert in data["alerts"]} == {"ended"}
    assert data["eval"]["whole"]
    assert len(snapshot.text([run], run.last_time + 60).split("\n")) <= 36


@given(st.integers(0, 2**32), st.integers(1, 160), st.booleans())
@FEW
def test_any_run_fits_any_width_and_is_finite_data(seed, width, ascii):
    run = FedState("日本語 [/x] \x1b[2J")
    run.feed(mixed(random.Random(seed)))
    shown = snapshot.text([run, run], STARTED + 1e6, width, ascii=ascii)
    assert all(cell_len(line) <= width for line in shown.split("\n"))
    assert shown == visible(shown)
    data = snapshot.data(run, STARTED + 1e6)
    assert json.loads(json.dumps(data, allow_nan=False)) == data


@pytest.mark.parametrize("text", [text for text in HOSTILE if len(text) < 10_000], ids=repr)
def test_hostile_text_is_inert_in_a_snapshot(text):
    run = run_of(
        *(start(run=text, corpus=text, device=text), train(1), train(2), sample(2, text)),
        *(Alert(time=STARTED, step=2, what=text, text=text), Heartbeat(time=STARTED + 30, step=2, doing=text)),
    )
    other = run_of(json.dumps({text: 1.0, "loss": 2.0}), text, "a,b", text)
    shown = snapshot.text([run, other], STARTED + 40, 60)
    assert shown == visible(shown)
    assert all(cell_len(line) <= 60 for line in shown.split("\n"))


def test_resumed_run_is_running():
    run = run_of(train(1), resume(1, time=STARTED + 100))
    assert snapshot.data(run, STARTED + 101)["state"] == "running"
    assert to_line(resume(1)).endswith("\n")


@pytest.mark.slow  # it waits for the host for 15 s
def test_once_with_an_unreachable_host_fails_with_one_line(cli, here):
    ssh = here / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host nowhere port 22: Connection refused' >&2; exit 255\n")
    ssh.chmod(0o755)
    done = cli("watch", "--once", "ssh://nowhere/run", TDIFF_SSH=str(ssh))
    assert done.returncode == 2 and done.stdout == ""
    assert "Connection refused" in done.stderr and done.stderr.count("\n") == 1


def test_once_is_ascii_on_an_ascii_terminal(cli, tiny_run):
    done = cli("watch", "--once", str(tiny_run.path), "--glyphs", "ascii")
    assert done.returncode == 0 and done.stdout.isascii()


def test_folder_without_a_checkpoint_yet_is_waited_for(cli, here, tiny_run):
    (here / "results").mkdir()
    (here / "train.log").write_text("{'loss': 1.5}\n")
    assert cli("watch", "train.log", "--model", "results/", "--once").returncode == 0
    assert cli("watch", "train.log", "--model", "resluts", "--once").returncode == 2


@pytest.mark.parametrize("how", ["--once", "--json", "--doctor"])
@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        ("--theme=nrd", "unknown theme 'nrd'; did you mean nord?"),
        ("--color=25", "did you mean 256?"),
        ("--glyphs=asci", "did you mean ascii?"),
        ("--palette=drk", "did you mean dark?"),
        ("--device=cud", "did you mean cuda?"),
        ("--decoder=confidenc", "did you mean confidence?"),
        ("--model=shakespere", "did you mean shakespeare"),
    ],
)
def test_unknown_choice_is_refused_even_with_once(cli_fast, tiny_run, option, how, nearest):
    assert nearest in cli_fast("watch", str(tiny_run.path), how, option).refused()


def test_an_unknown_theme_of_the_preferences_is_refused_too(cli_fast, here, tiny_run, monkeypatch):
    (here / "watch.toml").write_text('theme = "nrd"\n')
    monkeypatch.setenv("TDIFF_WATCH_CONFIG", str(here / "watch.toml"))
    assert "did you mean nord?" in cli_fast("watch", str(tiny_run.path), "--once").refused()
