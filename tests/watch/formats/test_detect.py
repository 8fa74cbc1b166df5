"""Detection of formats from content, and the parsers of each format."""

import json
import math
import time

import pytest

from tdiff.protocol.events import End, Eval, Train, to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.watch.formats.fields import Bar
from tdiff.watch.formats.text import LineReader
from tests.support.fed import FedState


def run_of(*lines: str, arrived: float | None = None) -> FedState:
    run = FedState("fed")
    run.feed(list(lines), arrived)
    return run


def curve(run: FedState, name: str) -> list[tuple[float, float]]:
    series = run.metrics[name]
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in zip(series.steps, series.mean, strict=True)]


def train(step: int, loss: float = 2.0, **others: float) -> str:
    return to_line(
        Train(
            **{
                "time": 1e9 + step,
                "step": step,
                "tokens": 10 * step,
                "loss": loss,
                "loss_by_mask": [],
                "lr": 0.1,
                "grad_norm": 1.0,
                "tokens_per_second": 5.0,
                "progress": 0.5,
                "eta": 9.0,
            }
            | others
        )
    ).rstrip()


def read(line: str):
    return LineReader().read(line)


HEADER = TraceHeader(
    version="0", model="m", decoder="d", settings={}, seed=0, row=0, prompt="p", cells=2, given=[(0, "p", 1)], steps=4
)
TRACE = [
    HEADER,
    TraceStep(index=1, t=0.0, calls=1, cells=[(1, "x", 2, 0.5, "commit")]),
    TraceEnd(text="px", model_calls=1, forced=0, tokens=1, seconds=0.1),
]

# As a Trainer of transformers 5.19 prints it through `2>&1 | tee`, one evaluation of 7 batches included.
TRAINER = (
    "some warning: be warned\n"
    "\r  0%|          | 0/40 [00:00<?, ?it/s]\r  5%|▌         | 2/40 [00:00<00:01, 19.95it/s]"
    "\r 10%|█         | 4/40 [00:00<00:01, 19.92it/s]\r                                              \r"
    "{'loss': '4.396', 'grad_norm': '1.235', 'learning_rate': '4.375e-05', 'epoch': '0.375'}\n"
    "\r 12%|█▎        | 5/40 [00:00<00:01, 19.92it/s]\r 15%|█▌        | 6/40 [00:00<00:01, 19.70it/s]"
    "\r 50%|█████     | 20/40 [00:01<00:01, 19.82it/s]\r                                               \r"
    "{'loss': '2.944', 'grad_norm': '1.235', 'learning_rate': '2.5e-05', 'epoch': '1.5'}\n"
    "\r 50%|█████     | 20/40 [00:01<00:01, 19.82it/s]\n"
    "\r  0%|          | 0/7 [00:00<?, ?it/s]\x1b[A\n\r 43%|████▎     | 3/7 [00:00<00:00, 28.36it/s]\x1b[A\n"
    "\r                                               \r\n\r                                             \r\x1b[A"
    "{'eval_loss': '2.85', 'eval_runtime': '1.23', 'eval_samples_per_second': '33', 'epoch': '1.5'}\n"
    "\r 50%|█████     | 20/40 [00:01<00:01, 19.82it/s]\n\r100%|██████████| 7/7 [00:00<00:00, 22.69it/s]\x1b[A\n"
    "\r                                             \x1b[A\r 55%|█████▌    | 22/40 [00:01<00:01,  9.50it/s]"
    "\r 60%|██████    | 24/40 [00:01<00:01, 11.30it/s]\r                                               \r"
    "{'loss': '2.708', 'grad_norm': '1.235', 'learning_rate': '1.875e-05', 'epoch': '1.875'}\n"
    "\r 62%|██████▎   | 25/40 [00:01<00:01, 11.30it/s]"
)
FINISH = (
    "\r100%|██████████| 40/40 [00:02<00:00, 18.79it/s]\r                        \r"
    "{'loss': '2.349', 'grad_norm': '1.235', 'learning_rate': '0', 'epoch': '3'}\n"
    "\r100%|██████████| 40/40 [00:02<00:00, 18.79it/s]\r                        \r"
    "{'train_runtime': '12', 'train_samples_per_second': '33.1', 'train_loss': '1.234', 'epoch': '3'}\n"
    "\r100%|██████████| 40/40 [00:02<00:00, 18.79it/s]\n"
)


def split(text: str) -> list[str]:
    return text.replace("\r", "\n").split("\n")


# Recognition


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([], ""),
        (["", "   "], ""),
        (["Loading the model, please wait"], "log"),
        (["Loading the model, please wait", "Done, in 5 seconds"], "log"),
        ([train(1)], "tdiff"),
        (['torn": 1}', train(1)], "tdiff"),
        ([to_line(End(time=1e9, step=3, reason="stopped"))], "tdiff"),
        ([to_line(HEADER)], "trace"),
        (['{"kind":"train","step":1,"loss":2.5}'], "json"),
        (['{"step": 1, "loss": 2.5}'], "json"),
        (['\ufeff{"step": 1, "loss": 2.5}'], "json"),
        (["WARNING: all is well", '{"loss": NaN}'], "json"),
        (['{"message": "no number", "ok": true, "nothing": null}'], "log"),
        (["step,loss", "1,2.5"], "csv"),
        (["a;b", "1;2,5"], "csv"),
        (["a\tb", "1\tx"], "csv"),
        (["WARNING: all is well", "epoch,accuracy", "1,0.5"], "csv"),
        (["WARNING: all is well", "one,two", "1,0.5"], "log"),
        (["a,b", "c,d"], "log"),
        (["a,a", "1,2"], "log"),
        (["{'loss': 2.31, 'epoch': 0.4}"], "text"),
        (["{'batch_size': 32, 'lr': 0.1}"], "log"),
        (["{'batch_size': 32, 'lr': 0.1}", "{'eval_loss': 2.31}"], "text"),
        (["warn"] * 500 + ["{'loss': 2.31, 'epoch': 0.4}"], "text"),
        (["warn"] * 500 + [train(1)], "tdiff"),
        (["warn"] * 500 + ["step,loss", "1,2.5"], "log"),
    ],
)
def test_format_is_detected_from_content(lines, name):
    assert run_of(*lines).format == name


def test_unconfirmed_heading_is_still_logged():
    assert list(run_of("a,b", "c,d", "{'loss': 2.5, 'epoch': 1}").log) == ["a,b", "c,d", "{'loss': 2.5, 'epoch': 1}"]


# JSON and CSV


def test_json_lines_give_a_curve_for_each_numeric_column():
    run = run_of(
        '{"step": 10, "loss": 2.5, "lr": 0.1, "accuracy": 0.5, "note": "x", "ok": true, "none": null, "list": [1]}',
        '{"step": 20, "loss": 2, "val_loss": 2.25, "accuracy": 0.75}',
    )
    assert curve(run, "train/loss") == [(10, 2.5), (20, 2)]
    assert curve(run, "eval/loss") == [(20, 2.25)]
    assert curve(run, "train/lr") == [(10, 0.1)]
    assert curve(run, "accuracy") == [(10, 0.5), (20, 0.75)]
    assert set(run.metrics) == {"train/loss", "eval/loss", "train/lr", "accuracy"}
    assert run.step == 20


@pytest.mark.parametrize("names", ["step", "global_step", "iteration", "iter", "it", "epoch", "Step", "Global step"])
def test_usual_step_column_names_are_recognized(names):
    assert curve(run_of(json.dumps({names: 7, "loss": 2.5})), "train/loss") == [(7, 2.5)]


def test_preferred_step_column_wins_and_rows_are_counted_without_one():
    assert curve(run_of('{"epoch": 1, "iter": 30, "global_step": 400, "loss": 2.5}'), "train/loss") == [(400, 2.5)]
    assert curve(run_of('{"loss": 2.5}', '{"loss": 1.5}'), "train/loss") == [(1, 2.5), (2, 1.5)]
    assert curve(run_of('{"step": null, "loss": 2.5}', '{"step": 1e999, "loss": 1.5}'), "train/loss") == [
        (1, 2.5),
        (2, 1.5),
    ]


def test_iterations_restarting_each_epoch_are_continued():
    rows = [(1, 50), (1, 100), (2, 50), (2, 100), (3, 50)]
    run = run_of(*(json.dumps({"epoch": epoch, "iter": it, "loss": 2.5}) for epoch, it in rows))
    assert list(run.metrics["train/loss"].steps) == [50, 100, 150, 200, 250]
    run.feed([json.dumps({"epoch": 2, "iter": 100, "loss": 1.5})])
    assert list(run.metrics["train/loss"].steps) == [50, 100, 150, 200]
    assert run.metrics["train/loss"].last == (200, 1.5)


def test_epoch_before_the_first_seen_starts_at_zero():
    rows = [(5, 50), (5, 100), (6, 50), (3, 60)]
    run = run_of(*(json.dumps({"epoch": epoch, "iter": it, "loss": it / 100}) for epoch, it in rows))
    assert curve(run, "train/loss") == [(50, 0.5), (60, 0.6)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_of_json_that_are_not_finite_count_as_broken(value):
    run = run_of('{"step": 1, "loss": 2.5}', f'{{"step": 2, "loss": {value}}}')
    assert list(run.metrics["train/loss"].broken) == [2]
    assert [notice.what for notice in run.alerts] == ["nan"]


NOON = 1_700_000_000.25


@pytest.mark.parametrize("name", ["time", "timestamp", "wall_time", "_timestamp", "Wall time"])
@pytest.mark.parametrize(
    "value", [NOON, 1000 * NOON, 1e9 * NOON, "2023-11-14T22:13:20.250Z", "2023-11-14 23:13:20.250+01:00"]
)
def test_time_column_sets_the_clock(name, value):
    run = run_of(json.dumps({"step": 3, name: value, "loss": 2.5}))
    assert run.last_time == pytest.approx(NOON, abs=1e-3)
    assert run.clock.last == (3, pytest.approx(NOON, abs=1e-3))
    assert set(run.metrics) == {"train/loss"}


def test_date_without_zone_is_local():
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOON))
    assert run_of("timestamp,loss", f"{day},2.5").last_time == pytest.approx(NOON, abs=1)


def test_elapsed_seconds_are_not_a_date():
    run = run_of('{"step": 3, "time": 12.5, "loss": 2.5}')
    assert run.last_time is None
    assert curve(run, "time") == [(3, 12.5)]


@pytest.mark.parametrize("name", ["tokens", "tokens_seen", "num_tokens"])
def test_token_column_fills_the_token_series(name):
    run = run_of(json.dumps({"step": 3, name: 4096, "loss": 2.5}))
    assert run.tokens.last == (3, 4096)
    assert set(run.metrics) == {"train/loss"}


def test_two_columns_of_one_metric_stay_separate():
    run = run_of('{"step": 3, "train_loss": 1.5, "loss": 2.5}')
    assert curve(run, "train/loss") == [(3, 2.5)]
    assert curve(run, "train_loss") == [(3, 1.5)]


@pytest.mark.parametrize(
    "lines",
    [
        ["step,loss,val_loss", "10,2.5,", "20,2.0,2.25"],
        ["step;loss;val_loss", "10;2,5;", "20;2,0;2,25"],
        ["step\tloss\tval_loss", "10\t2.5\t", "20\t2.0\t2.25"],
        ['"step", "loss", "val_loss"', '"10", "2.5", ""', '20, "2.0", 2.25'],
        ["# made by hand", "step,loss,val_loss", "10,2.5,None", "20,2.0,2.25,more"],
    ],
)
def test_tables_of_any_delimiter_give_the_same_curves(lines):
    run = run_of(*lines)
    assert run.format == "csv"
    assert curve(run, "train/loss") == [(10, 2.5), (20, 2)]
    assert curve(run, "eval/loss") == [(20, 2.25)]


def test_restarted_table_drops_later_rows():
    run = run_of("step,loss", "10,3", "20,2", "30,1", "step,lr,loss", "20,0.1,2.5")
    assert curve(run, "train/loss") == [(10, 3), (20, 2.5)]
    assert curve(run, "train/lr") == [(20, 0.1)]
    assert any("started again" in line for line in run.log)


def test_repeated_steps_and_late_evaluations_are_not_a_restart():
    run = run_of('{"step": 10, "loss": 2.5}', '{"step": 10, "eval_loss": 2}', '{"step": 12, "loss": 1.5}')
    run.feed(['{"step": 11, "eval_loss": 1}'])
    assert curve(run, "train/loss") == [(10, 2.5), (12, 1.5)]
    assert curve(run, "eval/loss") == [(10, 2), (11, 1)]


# Hugging Face


def test_trainer_output_uses_the_steps_of_the_progress_bar():
    run = run_of(*split(TRAINER))
    assert run.format == "text"
    assert curve(run, "train/loss") == [(5, 4.396), (20, 2.944), (25, 2.708)]
    assert curve(run, "eval/loss") == [(20, 2.85)]
    assert curve(run, "train/lr") == [(5, 4.375e-05), (20, 2.5e-05), (25, 1.875e-05)]
    assert (run.step, run.total, run.progress, run.eta) == (25, 40, 25 / 40, 1)
    assert list(run.clock.steps) == [5, 20, 20, 25]
    assert run.log[0] == "some warning: be warned"
    assert len(run.log) == 5


def test_finished_trainer_is_detected():
    run = run_of(*split(TRAINER + FINISH), arrived=NOON)
    assert run.state(NOON) == "finished"
    assert run.ended == End(time=NOON, step=40, reason="finished")
    assert run.metrics["train/loss"].last == (40, pytest.approx(2.349))
    assert run.eta is None
    assert [(notice.what, notice.time) for notice in run.alerts] == [("ended", NOON)]


def test_trainer_that_continues_after_finishing_has_not_ended():
    run = run_of(*split(TRAINER + FINISH))
    run.feed(["{'loss': 2.0, 'epoch': 3.1, 'step': 41}", "."])
    assert run.ended is None


def test_all_printed_number_forms_are_read():
    assert read(
        "{'loss': nan, 'grad_norm': inf, 'b': -inf, 'learning_rate': 5e-05, 'epoch': np.float64(0.5), "
        "'t': tensor(2.5, device='cuda:0'), 'q': '1.5', 's': 'it''s', 'n': None, 'ok': True, \"d\": 1, 'i': 3}"
    ).values == {
        "loss": pytest.approx(math.nan, nan_ok=True),
        "grad_norm": math.inf,
        "b": -math.inf,
        "learning_rate": 5e-05,
        "epoch": 0.5,
        "t": 2.5,
        "q": 1.5,
        "d": 1,
        "i": 3,
    }
    assert read("{'text': 'a \\'quoted\\' {1}', 'list': [1, 2], 'step': 7}").values == {"step": 7}


@pytest.mark.parametrize(
    "text",
    [
        "{'loss'",
        "{'loss': }",
        "{'loss': __import__('os')}",
        "{'loss': 1_0__0}",
        "{'loss': ınf}",
        "{'loss': ٣}",
        "{}",
        "{'a': 1}",
    ],
)
def test_other_dictionaries_are_ignored(text):
    assert not run_of(text).metrics


def test_without_bars_dictionaries_are_counted_unless_they_contain_a_step():
    run = run_of("{'loss': 3.0, 'epoch': 0.1}", "{'loss': 2.0, 'epoch': 0.2}", "{'eval_loss': 2.5, 'epoch': 0.2}")
    assert curve(run, "train/loss") == [(1, 3), (2, 2)]
    assert curve(run, "eval/loss") == [(2, 2.5)]
    run = run_of("{'loss': 3.0, 'step': 500}", "{'loss': 2.0, 'step': 1000}")
    assert curve(run, "train/loss") == [(500, 3), (1000, 2)]


def test_counted_dictionaries_restart_where_the_epoch_falls_back():
    run = run_of(*(f"{{'loss': {9 - n}.0, 'epoch': 0.{n}}}" for n in range(1, 7)))
    run.feed(["{'loss': 1.5, 'epoch': 0.4}", "{'loss': 1.25, 'epoch': 0.5}"])
    assert curve(run, "train/loss") == [(1, 8), (2, 7), (3, 6), (4, 1.5), (5, 1.25)]


def job(*steps: int, total: int = 100, loss: float = 3.0) -> list[str]:
    lines = [f"  0%|          | 0/{total} [00:00<?, ?it/s]"]
    for step in steps:
        bar = f" {step}/{total} [00:{step:02}<00:10, 3.1it/s]"
        lines += [bar, f"{{'loss': {loss}, 'epoch': {step / 100}}}", bar]
    return lines


def test_job_restarted_into_the_same_log_drops_later_points():
    run = run_of(*job(10, 20, 30), *job(20, 30, loss=2.0))
    assert curve(run, "train/loss") == [(10, 3), (20, 2), (30, 2)]
    assert list(run.clock.mean) == [10, 50, 60]
    assert sum("started again" in line for line in run.log) == 1


def test_job_with_another_total_is_distinguished_from_an_evaluation():
    run = run_of(*job(10, 20), *job(10, 20, 30, total=60, loss=2.0))
    assert curve(run, "train/loss") == [(10, 2), (20, 2), (30, 2)]
    assert (run.step, run.total) == (30, 60)


def test_a_bar_and_a_dictionary_on_one_line_are_both_read():
    run = run_of(" 37/4458 [00:10<20:11, 3.1it/s]{'loss': 2.5, 'epoch': 0.4}", "done")
    assert curve(run, "train/loss") == [(37, 2.5)]
    assert (run.total, run.eta) == (4458, 20 * 60 + 11)


def test_bars_are_parsed():
    assert read("  1%|          | 37/4458 [00:10<1:20:11,  3.10it/s]").bar == Bar("", 37, 4458, 10, 4811)
    assert read("Map: 100%|████| 5000/5000 [01:00<00:00, 80.1 examples/s]").bar == Bar("Map", 5000, 5000, 60, 0)
    assert read("\x1b[A 37/4458 [00:10<?, ?it/s]").bar == Bar("", 37, 4458, 10, None)
    assert read("37it [00:10, 3.1it/s]").bar is None
    assert read("a/b [c<d").bar is None


def test_labelled_bar_is_logged_once_and_is_not_progress():
    lines = [f"Map: {n}%|█| {n}/100 [00:00<00:00, 80 examples/s]" for n in (1, 50, 100, 100)]
    run = run_of(*lines, *job(10))
    assert (run.step, run.total) == (10, 100)
    assert [line for line in run.log if line.startswith("Map")] == [lines[-1]]


def test_a_plain_log_with_a_bar_has_progress():
    run = run_of("starting", " 37/4458 [00:10<20:11, 3.1it/s]")
    assert (run.format, run.step, run.total, run.eta) == ("log", 37, 4458, 1211)


def test_colours_are_removed_from_the_log():
    assert list(run_of("\x1b[32mINFO\x1b[0m all is well").log) == ["INFO all is well"]


# tdiff


def test_trace_lines_are_stored():
    run = run_of(*(to_line(line) for line in TRACE[:2]))
    assert (run.step, run.total, run.progress, run.state(0)) == (1, 4, 1, "running")
    run.feed([to_line(TRACE[2])])
    assert [to_line(line) for line in run.trace] == [to_line(line) for line in TRACE]
    assert run.state(0) == "finished"


def test_trace_without_header_is_skipped():
    assert run_of(*(to_line(line) for line in TRACE[1:])).format == ""


@pytest.mark.parametrize(
    "line",
    [
        train(3)[:-1],
        train(3).replace('"step":3', '"step":"3"'),
        train(3).replace('"step":3', '"step":true'),
        train(3).replace('"step":3', '"step":3.5'),
        train(3).replace('"step":3', '"step":-3'),
        train(3).replace('"step":3', f'"step":{10**40}'),
        train(3).replace('"tokens":30', '"tokens":1.5'),
        train(3).replace('"tokens":30', f'"tokens":{10**400}'),
        train(3).replace('"loss_by_mask":[]', '"loss_by_mask":3'),
        train(3).replace('"loss":2.0', '"loss":"2"'),
        train(3).replace('"loss":2.0,', ""),
        train(3).replace('"kind":"train"', '"kind":"train","kind":"unheard of"'),
        train(3) + "," + train(3),
        "[" * 100_000,
        '{"kind":"train",' + "[" * 100_000,
    ],
)
def test_invalid_train_record_is_skipped_alone(line):
    lines = [train(1), train(2), line, train(4)]
    assert list(run_of(*lines).metrics["train/loss"].steps) == [1, 2, 4]
    run = FedState()
    for each in lines:
        run.feed([each])
    assert list(run.metrics["train/loss"].steps) == [1, 2, 4]


def test_every_field_of_a_train_record_becomes_a_curve():
    mask = [0.5, None, *[1.5] * 8]
    run = run_of(train(7, 2.5, loss_by_mask=mask, gpu_load=97.0, gpu_power=400.0), train(8, gpu_load=98.0))
    assert curve(run, "train/loss") == [(7, 2.5), (8, 2)]
    assert curve(run, "gpu/load") == [(7, 97), (8, 98)]
    assert curve(run, "gpu/power") == [(7, 400)]
    assert curve(run, "mask/0.05") == [(7, 0.5)]
    assert curve(run, "mask/0.95") == [(7, 1.5)]
    assert "mask/0.15" not in run.metrics
    assert "gpu/memory" not in run.metrics
    assert run.clock.last == (8, 1e9 + 8)
    assert run.tokens.last == (8, 80)
    assert (run.step, run.progress, run.eta) == (8, 0.5, 9)


def test_losses_by_mask_ratio_are_thinned_evenly():
    run = run_of(*(train(n, loss_by_mask=[float(n)] * 10) for n in range(20_000)))
    series = run.metrics["mask/0.45"]
    assert series.count == 4096 + 4096 // 2 + 8192 // 4 + -(-(20_000 - 16_384) // 8)
    assert len(series.steps) <= 4096
    assert series.last == (19_992, 19_992)
    assert all(step - 16 < value <= step for step, value in zip(series.steps, series.mean, strict=True))
    assert run.metrics["train/loss"].count == 20_000


def test_null_means_not_finite():
    run = run_of(train(1), train(2, math.nan, progress=math.nan, eta=math.inf))
    assert list(run.metrics["train/loss"].broken) == [2]
    assert (run.progress, run.eta) == (None, None)


def test_an_evaluation_is_a_point_of_two_curves():
    run = run_of(
        train(5),
        to_line(Eval(time=1e9 + 9, step=5, nats_per_token=2.5, nats_per_char=0.5, interval_95=(2.0, 3.0), tokens=9)),
    )
    assert curve(run, "eval/loss") == [(5, 2.5)]
    assert curve(run, "eval/nats_per_char") == [(5, 0.5)]
    assert run.evaluation.interval_95 == [2.0, 3.0]
    assert run.last_time == 1e9 + 9
