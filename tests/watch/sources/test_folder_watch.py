"""A folder is watched for something newer than what is read in it."""

import os
import time
from pathlib import Path

import pytest

from tdiff.watch.follow import Watched
from tdiff.watch.place import Place
from tdiff.watch.sources.folder_choice import choose
from tdiff.watch.sources.folder_watch import FolderWatch
from tdiff.watch.targets import locate

CSV = "step,loss\n" + "".join(f"{n},{3 - n / 40}\n" for n in range(10))
STATE = '{"log_history": [{"step": 5, "loss": 2.0}],\n "max_steps": 10}\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(path: str, text: str, age: float) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (time.time() - age, time.time() - age))


def watch_of(folder: str) -> FolderWatch:
    choice = choose(Path(folder))
    assert choice is not None
    return FolderWatch(Path(folder), choice)


def test_next_checkpoint_is_read_at_once():
    put("f/checkpoint-5/trainer_state.json", STATE, 10)
    watch = watch_of("f")
    put("f/checkpoint-10/trainer_state.json", STATE, 1)
    assert watch.take(choose(Path("f")))
    assert watch.choice.name == "checkpoint-10/trainer_state.json"
    assert not watch.take(choose(Path("f")))


def test_next_version_is_read_once_the_present_one_is_silent():
    put("f/version_0/metrics.csv", CSV, 10)
    watch = watch_of("f")
    put("f/version_1/metrics.csv", CSV, 1)
    assert not watch.take(choose(Path("f")))
    assert watch.choice.name == "version_0/metrics.csv"
    os.utime("f/version_0/metrics.csv", (time.time() - 100, time.time() - 100))
    assert watch.take(choose(Path("f")))
    assert watch.choice.name == "version_1/metrics.csv"


def test_two_versions_that_are_written_in_turn_do_not_alternate():
    put("f/version_0/metrics.csv", CSV, 100)
    watch = watch_of("f")
    put("f/version_1/metrics.csv", CSV, 50)
    assert watch.take(choose(Path("f")))
    os.utime("f/version_0/metrics.csv")
    assert not watch.take(choose(Path("f")))
    assert watch.choice.name == "version_1/metrics.csv"


def test_file_that_is_gone_is_replaced():
    put("f/a.log", "step 1 loss 3\nstep 2 loss 2\n", 5)
    watch = watch_of("f")
    put("f/b.log", "step 1 loss 3\nstep 2 loss 2\n", 900)
    Path("f/a.log").unlink()
    assert watch.take(choose(Path("f")))
    assert watch.choice.name == "b.log"
    assert not watch.take(None)


def test_view_continues_with_the_next_version(monkeypatch):
    put("f/version_0/metrics.csv", CSV, 1000)
    watched = Watched(locate("f"))
    watched.finish(20)
    assert watched.take_news() == "reading version_0/metrics.csv (Lightning)"
    assert watched.take_news() == ""
    put("f/version_1/metrics.csv", CSV.replace("9,", "900,"), 1)
    place: Place = watched._place
    assert place._folder is not None
    place._folder._searches.soon()
    watched.poll()
    place._folder._searches.wait()
    watched.poll()
    assert watched.run_state.step == 900
    assert watched.take_news() == "reading version_1/metrics.csv (Lightning); also there: version_0/metrics.csv"
    assert watched.target.path == Path("f/version_1/metrics.csv")
    watched.close()
