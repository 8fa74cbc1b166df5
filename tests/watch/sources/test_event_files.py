"""The event files of one run are one source."""

import json
import os
import time

import pytest

from tdiff.watch.follow import Watched
from tdiff.watch.sources.event_files import EventFilesSource
from tdiff.watch.targets import locate
from tests.support.event_files import write_events


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def rows_of(source: EventFilesSource) -> list[dict]:
    """All rows there are now, with the newest step."""
    rows, has_more = [], True
    while has_more:
        read = source.read()
        rows = [] if read.reset else rows
        rows += [json.loads(line) for line in read.lines]
        has_more = read.has_more or bool(read.lines)
    return rows


def age(path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_later_files_continue_the_run_and_appear_while_it_is_watched(tmp_path, clock):
    first, second = tmp_path / "events.out.tfevents.1.h", tmp_path / "events.out.tfevents.2.h"
    write_events(first, [(n, {"loss": 3.0 - n}) for n in range(3)])
    age(first, 60)
    source = EventFilesSource(tmp_path, clock)
    assert [row["step"] for row in rows_of(source)] == [0, 1, 2]
    write_events(second, [(n, {"loss": 3.0 - n}) for n in range(2, 5)])
    age(second, 60)
    assert rows_of(source) == []
    clock.now = 6
    assert [row["step"] for row in rows_of(source)] == [2, 3, 4]
    assert source.status().connected and source.status().current
    source.close()


def test_newest_step_waits_until_nothing_more_comes(tmp_path, clock):
    path = tmp_path / "events.out.tfevents.1.h"
    write_events(path, [(1, {"loss": 3.0}), (2, {"loss": 2.0})])
    source = EventFilesSource(tmp_path, clock)
    assert [row["step"] for row in rows_of(source)] == [1]
    write_events(path, [(2, {"lr": 0.5})], mode="ab")
    age(path, 60)
    [row] = rows_of(source)
    assert (row["step"], row["loss"], row["lr"]) == (2, 2.0, 0.5)
    assert rows_of(source) == []


def test_tags_of_a_part_get_its_name_and_rows_are_in_the_order_of_time(tmp_path, clock):
    write_events(tmp_path / "train/events.out.tfevents.1.h.v2", [(n, {"epoch_loss": 3.0 - n}) for n in range(3)])
    write_events(
        tmp_path / "validation/events.out.tfevents.2.h.v2",
        [(n, {"epoch_loss": 4.0 - n, "evaluation_loss_vs_iterations": 9.0}) for n in range(3)],
        time=1.7e9 + 0.5,
    )
    for path in tmp_path.glob("*/*"):
        age(path, 60)
    rows = rows_of(EventFilesSource(tmp_path, clock))
    assert [next(iter(row.keys() - {"step", "wall_time"})) for row in rows[:4]] == [
        "train/epoch_loss",
        "validation/epoch_loss",
    ] * 2
    assert not any("iterations" in key for row in rows for key in row)


def test_replaced_file_starts_everything_again(tmp_path, clock):
    path = tmp_path / "events.out.tfevents.1.h"
    write_events(path, [(n, {"loss": 3.0}) for n in range(50)])
    age(path, 60)
    source = EventFilesSource(tmp_path, clock)
    assert len(rows_of(source)) == 50
    path.unlink()
    write_events(path, [(7, {"loss": 1.0})])
    age(path, 60)
    assert [row["step"] for row in rows_of(source)] == [7]


def test_keras_folder_is_a_training_and_a_validation_curve(tmp_path):
    for part, loss in (("train", 3.0), ("validation", 4.0)):
        path = tmp_path / f"logs/{part}/events.out.tfevents.1.h.v2"
        write_events(path, [(n, {"epoch_loss": loss - n / 8, "epoch_accuracy": 0.5}) for n in range(8)])
        age(path, 60)
    watched = Watched(locate(str(tmp_path / "logs")))
    assert watched.finish(20)
    run = watched.run_state
    watched.close()
    assert list(run.metrics["train/loss"].mean) == [3.0 - n / 8 for n in range(8)]
    assert list(run.metrics["eval/loss"].mean) == [4.0 - n / 8 for n in range(8)]
    assert run.step == 7
    assert run.source == "reading 2 event files (TensorBoard)"


def test_absent_folder_is_waited_for(tmp_path, clock):
    source = EventFilesSource(tmp_path / "absent", clock)
    assert not source.read().lines
    assert not source.status().connected
    assert "waiting for one" in source.status().text


def test_total_of_a_trainer_comes_from_its_newest_checkpoint(tmp_path):
    path = tmp_path / "out/runs/x/events.out.tfevents.1.h"
    write_events(path, [(n, {"train/loss": 3.0 - n / 8}) for n in range(8)], time=time.time() - 70)
    age(path, 60)
    for checkpoint, total in ((2, 20), (4, 40)):
        state = tmp_path / f"out/checkpoint-{checkpoint}/trainer_state.json"
        state.parent.mkdir()
        history = [{"step": 2, "loss": 3.0}]
        state.write_text(json.dumps({"log_history": history, "max_steps": total}, indent=2))
        age(state, 300 - checkpoint)
    watched = Watched(locate(str(tmp_path / "out")))
    watched.finish(20)
    run = watched.run_state
    watched.close()
    assert (run.step, run.total) == (7, 40)
    assert run.progress == 7 / 40
