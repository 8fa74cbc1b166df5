"""Whole logs, from the file to the state of the run: those of made-up programs, and the shared ones."""

import json

import pytest

from tdiff.watch.follow import Watched
from tdiff.watch.targets import Target
from tests.support.paths import ROOT, SHARED

MADE_UP = ROOT / "tests" / "golden" / "logs"
EXPECTED = json.loads((MADE_UP / "EXPECT.json").read_text("utf-8"))
LOGS = SHARED / "logs"
# file: (points, last loss, evaluations, last evaluation, last step, total); None: anything
SHARED_LOGS = {
    "bar_desc_postfix.log": (10, 2.23, 0, None, 900, 1000),
    "bar_nodesc_postfix.log": (8, 0.804, 0, None, 240, 300),
    "blank_columns.log": (6, 0.415, 6, 0.515, 5, None),
    "block_batch.log": (6, 8.278, 1, 8.41, 30, 200),
    "bracket_round.log": (9, 0.304, 9, 0.354, 8, None),
    "camel.jsonl": (8, 1.904, 8, 2.004, 8, None),
    "current_of_total.jsonl": (9, 0.367, 1, 1.05, 90, 900),
    "dict_of_epochs.log": (8, 0.704, 8, 0.804, 8, None),
    "ends_in_traceback.log": (6, 1.578, 0, None, 300, 1000),
    "epoch_and_batch.csv": (15, 0.982, 0, None, 14, None),
    "epochs_bars_new.log": (4, 0.752, 4, 0.952, 4, 6),
    "eval_process_apart.jsonl": (12, 1.856, 2, 2.33, 120, None),
    "folds.csv": (4, 2.589, 4, 2.689, 3, None),
    "index_column.csv": (8, 0.441, 8, 0.541, 7, None),
    "json_after_pipe.log": (8, 5.304, 1, 5.02, 1400, None),
    "json_updates_bare.jsonl": (7, 3.941, 0, None, 2700, None),
    "kv_iter.log": (9, 3.104, 2, 3.18, 80, None),
    "kv_step_of.log": (10, 5.63, 0, None, 10, 400),
    "logger_epoch_of.log": (8, 0.604, 1, 0.715, 80, 2000),
    "logger_kv.log": (12, 1.156, 0, None, 300, 900),
    "loss_step_epoch.csv": (8, 1.341, 1, 1.41, 399, None),
    "nan_windows.csv": (6, 1.315, 0, None, 7, None),
    "nested.jsonl": (8, 1.904, 8, 2.104, 80, None),
    "newest_is_eval.log": (6, 1.578, 1, 1.7, 300, 1000),
    "null_loss.jsonl": (6, 1.315, 0, None, 9, None),
    "packed.csv": (8, 1.904, 8, 2.004, 80, None),
    "pipes_iteration.log": (12, 8.056, 1, 8.31, 12, 60),
    "rank_prefix.log": (6, 1.578, 0, None, 300, 1000),
    "ranks_interleaved.jsonl": (8, 1.904, 0, None, 80, None),
    "settings_then_text.log": (8, 1.504, 0, None, 8, None),
    "slashes.csv": (12, 1.556, 3, 1.656, 120, None),
    "slow_bars.log": (5, 1.715, 0, None, 50, 500),
    "state_of_trainer.json": (7, 1.641, 1, 1.81, 350, 1500),
    "underscore_step.jsonl": (8, 2.704, 8, 2.804, 200, None),
    "val_step_is_epoch.json": (20, 0.26, 0, None, 200, None),
    "wide_le.csv": (8, 1.904, 8, 2.004, 80, None),
}


def reading(path) -> tuple:
    """(points, last loss, evaluations, last evaluation, last step, total) of a log."""
    watched = Watched(Target("file", path.name, path=path))
    watched.finish(10.0)
    run = watched.run_state
    numbers = []
    for name in ("train/loss", "eval/loss"):
        series = run.metrics.get(name)
        numbers += [0, None] if series is None else [len(series.steps), series.last[1]]
    watched.close()
    return (*numbers, run.step, run.total)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_logs_of_programs_that_do_not_exist_are_read(name):
    fields = ("points", "last_loss", "eval_points", "last_eval", "last_step", "total")
    for field, value in zip(fields, reading(MADE_UP / name), strict=True):
        fair = EXPECTED[name][field]
        fair = fair if isinstance(fair, list) else [fair]
        assert any(one is None or value == pytest.approx(one, rel=1e-4) for one in fair), (field, value, fair)


@pytest.mark.parametrize("name", SHARED_LOGS)
def test_shared_logs_are_read(name):
    # These logs lie beside the project, not in it. Golden logs of every kind in them are in the project, always read.
    if not LOGS.exists():
        pytest.skip(f"THE LOGS ARE MISSING: {LOGS} is not there")
    for value, right in zip(reading(LOGS / name), SHARED_LOGS[name], strict=True):
        assert right is None or value == pytest.approx(right, rel=1e-4)


def test_a_value_column_alone_is_drawn_under_its_name(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text("Wall time,Step,Value\n1930000011.25,10,2.763\n1930000022.25,20,2.626\n")
    watched = Watched(Target("file", "export", path=path))
    watched.finish(10.0)
    assert list(watched.run_state.metrics["Value"].steps) == [10, 20]
    assert "train/loss" not in watched.run_state.metrics


def test_parts_of_a_loss_keep_their_names(tmp_path):
    path = tmp_path / "parts.csv"
    path.write_text("epoch,train/box_loss,train/cls_loss,val/box_loss\n1,1.3,2.8,1.4\n2,1.2,2.7,1.3\n")
    watched = Watched(Target("file", "parts", path=path))
    watched.finish(10.0)
    assert {"train/box_loss", "train/cls_loss", "val/box_loss"} <= set(watched.run_state.metrics)
    assert "train/loss" not in watched.run_state.metrics


def test_a_bar_with_validation_lines_between_has_a_step_a_total_and_the_time_left():
    """As tiny-diffusion's training script prints it."""
    watched = Watched(Target("file", "log", path=MADE_UP / "tiny_diffusion.log"))
    watched.finish(10.0)
    run = watched.run_state
    assert list(run.metrics["eval/loss"].steps) == [0, 500, 1000, 1500, 2000]
    assert run.metrics["train/loss"].last == (2000, pytest.approx(2.7))
    assert (run.step, run.total, run.progress, run.eta) == (2000, 5000, 0.4, 120)
    assert run.timing.gap == 1, "a record a second, by the bar's clock"
    watched.close()


def test_the_errors_that_a_regression_minimizes_are_its_loss_and_metrics_are_not():
    from tests.support.fed import FedState

    run = FedState("log")
    run.feed([f"[{n}]\ttrain-rmse:{3 - n / 10}\tvalid-rmse:{4 - n / 10}" for n in range(5)])
    assert run.metrics["train/loss"].last == (4, pytest.approx(2.6))
    other = FedState("log")
    other.feed([f"[{n}]\ttrain-auc:0.{n}\tvalid-auc:0.{n}" for n in range(5)])
    other.feed(["step 3 loss 2.5 val_mse 0.3", "train: 0.91 val: 0.88", "epoch 3 val_mae: 0.5"])
    assert other.metrics["train/loss"].count == 1 and "eval/loss" not in other.metrics


def test_parts_of_a_loss_in_columns_between_other_tables_are_drawn():
    watched = Watched(Target("file", "log", path=MADE_UP / "style_yolo.log"))
    watched.finish(10.0)
    run = watched.run_state
    assert list(run.metrics["box_loss"].steps) == list(range(1, 13))
    assert run.metrics["box_loss"].last == (12, pytest.approx(1.99))
    assert "no whole loss found" in run.note
    watched.close()
