"""A folder is opened by what lies in it."""

import json
import os
from pathlib import Path

import pytest

from tdiff.watch.sources.folder_choice import FolderChoice, choose
from tests.support.event_files import write_events

NOW = 1.8e9
TEXT = "".join(f"step {n}/40 loss {3 - n / 40:.3f}\n" for n in range(1, 11))
PLAIN_TEXT = "".join(f"step {n} loss {3 - n / 40:.3f}\n" for n in range(1, 11))
CSV = "step,loss\n" + "".join(f"{n},{3 - n / 40}\n" for n in range(10))
STATE = json.dumps({"log_history": [{"step": 5, "loss": 2.0}], "max_steps": 10}, indent=2)
ROWS = [(n, {"loss": 3 - n / 40}) for n in range(10)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(path: str, text: str = TEXT, age: float = 3600.0) -> None:
    """A file that was written `age` seconds before NOW."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (NOW - age, NOW - age))


def put_events(path: str, rows=ROWS, age: float = 3600.0) -> None:
    write_events(Path(path), rows)
    os.utime(path, (NOW - age, NOW - age))


def chosen(folder: str = "f") -> FolderChoice:
    choice = choose(Path(folder), NOW)
    assert choice is not None
    return choice


def test_newest_log_with_a_loss_is_chosen_and_the_others_are_named():
    put("f/a.log", age=900)
    put("f/old.log", age=5000)
    put("f/noise.log", "installing packages\n" * 20, age=5)
    put("f/notes.md", "loss 3\n", age=1)
    assert chosen().line == "reading a.log; also there: old.log"


def test_largest_number_counts_as_the_newest_where_the_files_are_copies():
    for version in (2, 9, 10):
        put(f"f/version_{version}/metrics.csv", CSV, age=3600 - version % 9)
    assert chosen().name == "version_10/metrics.csv"
    assert chosen().program == "Lightning"
    assert chosen().others == ("version_9/metrics.csv", "version_2/metrics.csv")


def test_version_that_is_still_written_precedes_a_later_one_that_is_not():
    put("f/version_2/metrics.csv", CSV, age=20)
    put("f/version_3/metrics.csv", CSV, age=900)
    assert chosen().name == "version_2/metrics.csv"


def test_version_without_a_record_is_skipped():
    put("f/version_4/metrics.csv", CSV)
    put("f/version_5/metrics.csv", "")
    put("f/version_5/hparams.yaml", "lr: 1\n")
    assert chosen().name == "version_4/metrics.csv"


def test_trainer_output_is_read_from_its_newest_checkpoint():
    put("f/checkpoint-500/trainer_state.json", STATE, age=3600)
    put("f/checkpoint-1000/trainer_state.json", STATE, age=3600)
    put("f/checkpoint-1000/config.json", '{"loss": 1}', age=3600)
    choice = chosen()
    assert (choice.name, choice.program) == ("checkpoint-1000/trainer_state.json", "Hugging Face Trainer")


def test_live_event_files_precede_the_state_of_the_last_checkpoint():
    put("f/checkpoint-500/trainer_state.json", STATE, age=10)
    put_events("f/runs/Nov28_gpu01/events.out.tfevents.1.gpu01.7.0", age=100)
    choice = chosen()
    assert choice.name == "runs/Nov28_gpu01"
    assert choice.others == ("checkpoint-500/trainer_state.json",)


@pytest.mark.parametrize(
    ("text", "age", "name"),
    [(TEXT, 30, "train.log"), (TEXT, 9000, "runs/x"), (PLAIN_TEXT, 30, None)],
    ids=["live text with a total", "text of an earlier attempt", "text without a total"],
)
def test_text_precedes_event_files_if_it_is_as_new_and_shows_the_progress(text, age, name):
    put("f/train.log", text, age=age)
    put_events("f/runs/x/events.out.tfevents.1.h", age=60)
    assert chosen().name == (name or "runs/x")


def test_parts_of_one_run_are_one_choice_and_other_runs_are_not():
    put_events("f/train/events.out.tfevents.1.h.v2")
    put_events("f/validation/events.out.tfevents.2.h.v2")
    choice = chosen()
    assert choice.candidate.path == Path("f")
    assert [str(path) for path in choice.candidate.files] == [
        "f/train/events.out.tfevents.1.h.v2",
        "f/validation/events.out.tfevents.2.h.v2",
    ]
    put_events("g/exp_train/events.out.tfevents.1.h")
    put_events("g/exp2_train/events.out.tfevents.2.h", age=60)
    assert chosen("g").candidate.path == Path("g/exp2_train")


def test_event_files_without_a_loss_are_read_too():
    put_events("f/events.out.tfevents.1.h", [(n, {"rollout/ep_rew_mean": float(n)}) for n in range(5)])
    assert chosen().candidate.kind == "events"


def test_wandb_folder_is_read_from_the_output_and_else_from_the_summary():
    put("f/wandb/debug.log", TEXT)
    put("f/wandb/run-20261128-abc/files/wandb-summary.json", '{"loss": 2.5, "_step": 10}', age=10)
    assert chosen().name == "wandb/run-20261128-abc/files/wandb-summary.json"
    put("f/wandb/run-20261128-abc/files/output.log", TEXT, age=60)
    assert (chosen().name, chosen().program) == ("wandb/run-20261128-abc/files/output.log", "Weights & Biases")


def test_newest_output_of_slurm_and_log_of_hydra():
    put("f/slurm-9.out")
    put("f/slurm-10.out", age=600)
    assert (chosen().name, chosen().program) == ("slurm-10.out", "Slurm")
    put("g/2026-11-28/10-00-00/train.log")
    put("g/2026-11-28/10-00-00/.hydra/config.yaml", "lr: 1")
    assert (chosen("g").name, chosen("g").program) == ("2026-11-28/10-00-00/train.log", "Hydra")


def test_log_that_has_just_started_is_chosen_only_while_it_is_live():
    put("f/train.log", "loading data\n", age=20)
    assert chosen().name == "train.log"
    put("f/train.log", "loading data\n", age=2000)
    assert choose(Path("f"), NOW) is None


def test_nothing_is_chosen_where_nothing_can_be_read():
    put("f/notes.md")
    put("f/data.csv", "age,height\n1,2\n3,4\n", age=5)
    assert choose(Path("f"), NOW) is None or choose(Path("f"), NOW).candidate.kind == "table"
    assert choose(Path("absent"), NOW) is None


def test_search_in_large_folders_reads_few_files(monkeypatch):
    read = []

    def examine(candidate):
        read.append(candidate.path)
        from tdiff.watch.sources.probe import Probe

        return Probe()

    for n in range(100):
        put(f"f/log-{n}.log", "x\n")
    assert choose(Path("f"), NOW, examine) is None
    assert len(read) == 24


def test_names_with_escape_sequences_are_harmless():
    put("f/a\x1b[31m.log")
    assert "\x1b" not in chosen().line
