"""What a word of the command line means, and the index of runs."""

import json
import os
import threading
from pathlib import Path

import pytest

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.runs import index
from tdiff.runs import run as runs
from tdiff.runs.index import known_runs, remember
from tdiff.runs.run import Run
from tdiff.watch.sources.address import Address
from tdiff.watch.targets import Target, locate, newest_run

SETTINGS = Settings.of([{"data": {"sources": ["x"]}}])


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """An empty working folder, and a state folder that is not there yet."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def make(path: Path | str, *files: str) -> Run:
    Path(path).mkdir(parents=True, exist_ok=True)
    for name in files or ("config.toml", "events.jsonl"):
        (Path(path) / name).write_text("")
    return Run(Path(path))


def refusal(word: str) -> str:
    with pytest.raises(TdiffError) as refused:
        locate(word)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_dash_is_the_pipe_and_an_address_is_one():
    assert locate("-") == Target("pipe", "-")
    address = Address.parse("ssh://me@host/runs/tiny/events.jsonl")
    assert locate("ssh://me@host/runs/tiny/events.jsonl") == Target("ssh", "host:tiny", address=address)
    assert "the host of an address" in refusal("ssh://-x/a")


@pytest.mark.parametrize("files", [["config.toml"], ["events.jsonl"]], ids=str)
def test_a_folder_is_a_run_by_its_settings_or_its_events(files):
    run = make("somewhere/tiny", *files)
    expected = Target("run", "tiny", Path("somewhere/tiny/events.jsonl"), run=run)
    assert locate("somewhere/tiny") == locate("somewhere/tiny/") == expected


def test_current_folder_is_labelled_with_its_name(monkeypatch):
    make("tiny")
    monkeypatch.chdir("tiny")
    assert locate(".").label == "tiny"


def test_a_file_is_a_file_and_the_events_of_a_run_know_their_run():
    run = make("checkpoints/tiny")
    Path("train.log").write_text("")
    assert locate("train.log") == Target("file", "train.log", Path("train.log"))
    assert locate("checkpoints/tiny/events.jsonl") == Target("file", "tiny", run.events, run=run)
    Path("evil\x1b[31m\n").write_text("")
    assert locate("evil\x1b[31m\n").label == "evil␛[31m␊"


def test_a_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text("")
    assert locate("~/a.csv").path == tmp_path / "a.csv"


def test_fifo_is_a_pipe_and_a_device_is_refused():
    os.mkfifo("fifo")
    assert locate("fifo") == Target("pipe", "fifo", Path("fifo"))
    assert "a device or a socket" in refusal("/dev/null")


def test_folder_without_a_run_or_a_log_is_refused():
    Path("empty").mkdir()
    refused = "contains nothing to watch: no run of tdiff and no log"
    assert refusal("empty") == f"'empty' {refused}"


def test_folder_of_runs_is_the_newest_run_in_it():
    make("checkpoints/old")
    os.utime("checkpoints/old/events.jsonl", (1e9, 1e9))
    tiny = make("checkpoints/tiny")
    assert locate("checkpoints") == Target("run", "tiny", tiny.events, run=tiny)
    line = '{"kind":"train","time":1e9,"step":1,"loss":2.0,"progress":0.1,"tokens":1,"loss_by_mask":[],"lr":0.1,'
    for name in ("old", "tiny"):
        Path(f"checkpoints/{name}/events.jsonl").write_text(line + '"grad_norm":1.0,"tokens_per_second":9,"eta":1}\n')
    os.utime("checkpoints/old/events.jsonl", (1e9, 1e9))
    assert locate("checkpoints").note == "reading tiny/events.jsonl; also there: old/events.jsonl"
    assert locate("checkpoints").run == tiny


def test_name_is_searched_under_the_root_then_in_the_index(tmp_path):
    far, near = make(tmp_path / "far" / "tiny"), make("checkpoints/tiny")
    remember(far)
    assert locate("tiny").run == near
    for path in near.path.iterdir():
        path.unlink()
    assert locate("tiny") == Target("run", "tiny", far.events, run=far)
    Path("tiny").mkdir()  # a folder here that is no run does not hide it
    assert locate("tiny").run == far
    assert refusal("far/tiny") == "'far/tiny' does not exist, nor does the folder 'far'"


def test_unknown_name_is_refused_with_the_nearest_name(tmp_path):
    absent = "does not exist: no file here and no run has that name"
    assert refusal("tiny") == f"'tiny' {absent}; there is no run under checkpoints/, and no other run is known"
    make("checkpoints/shakespeare")
    remember(make(tmp_path / "far" / "wiki-small"))
    assert refusal("wiki-smal").endswith("; did you mean wiki-small?")
    assert refusal("shakespere").endswith("; did you mean shakespeare?")
    assert refusal("zzz").endswith("; there are: shakespeare, wiki-small")
    for word in ("", "\0", "a" * 5000, "~nobody-of-that-name/x", "..\0/x"):
        assert refusal(word).startswith(f"{word!r} does not exist")


def test_missing_path_is_refused_with_a_similar_file():
    Path("logs").mkdir()
    Path("logs/train-7.log").write_text("")
    make("checkpoints/shakespeare")
    assert refusal("logs/train-8.log") == "'logs/train-8.log' does not exist; did you mean logs/train-7.log?"
    assert refusal("logs/other") == "'logs/other' does not exist"
    assert refusal("lgs/train-7.log") == "'lgs/train-7.log' does not exist, nor does the folder 'lgs'"
    Path("train.log").write_text("")
    assert refusal("trian.log").endswith("has that name; did you mean train.log?")


FOLDERS = {
    "trainer": (
        ["checkpoint-500/trainer_state.json", "checkpoint-1000/trainer_state.json", "all_results.json"],
        "it is the output of a Hugging Face Trainer, with checkpoint-500, checkpoint-1000, trainer_state.json, without "
        "a log; save the program's output and watch that: ... 2>&1 | tee train.log",
    ),
    "version_3": (
        ["hparams.yaml", "metrics.csv", "events.out.tfevents.1.host", "checkpoints/epoch=1.ckpt"],
        "it is a Lightning log folder, with hparams.yaml and TensorBoard files; no loss was found in "
        "'version_3/metrics.csv'",
    ),
    "lightning_logs": (
        ["version_2/metrics.csv", "version_10/hparams.yaml"],
        "it is a Lightning log folder, with version_10; no loss was found in 'lightning_logs/version_2/metrics.csv'",
    ),
    "wandb": (
        ["run-2026-abc/files/output.log", "run-2026-abc/files/requirements.txt", "run-2026-abc/run-abc.wandb"],
        "it is a Weights & Biases folder; no loss was found in 'wandb/run-2026-abc/files/output.log'",
    ),
    "board": (
        ["events.out.tfevents.1.host"],
        "it is a TensorBoard log folder, without a log; save the program's output and watch that: "
        "... 2>&1 | tee train.log",
    ),
    "logs": (
        ["a.log", "b.log", "c.csv", "d.jsonl", "notes.md"],
        "no loss was found in 'logs/a.log', 'logs/b.log', 'logs/c.csv' and 1 more",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_without_a_record_is_described_with_its_logs(name):
    files, description = FOLDERS[name]
    for age, file in enumerate(files):
        path = Path(name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (1e9 - age, 1e9 - age))
    assert refusal(name) == f"{name!r} contains nothing to watch: {description}"


def test_folder_of_another_program_is_its_newest_file_with_a_loss():
    Path("out/version_0").mkdir(parents=True)
    Path("out/version_0/metrics.csv").write_text("step,loss\n1,3\n2,2\n")
    target = locate("out")
    assert (target.kind, target.label, target.path) == ("folder", "out", Path("out/version_0/metrics.csv"))
    assert target.folder == Path("out")
    assert target.note == "reading version_0/metrics.csv (Lightning)"


def test_folder_that_cannot_be_read_is_refused(monkeypatch):
    Path("closed").mkdir()

    def scandir(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    assert refusal("closed") == "'closed' cannot be read: Permission denied"


def test_search_in_huge_folders_and_link_cycles_is_bounded():
    Path("huge/deep/er/and/deeper/still/away").mkdir(parents=True)
    Path("huge/deep/er/and/deeper/still/away/too-far.log").write_text("step 1 loss 3\nstep 2 loss 2\n")
    Path("huge/loop").symlink_to(Path("huge").resolve())
    Path("huge/nobody.log").symlink_to("nowhere")
    assert refusal("huge").endswith("nothing to watch: no run of tdiff and no log")


def test_scp_and_http_forms_are_refused_with_the_ssh_form():
    assert refusal("me@host:/var/a.log").endswith("; a file on another host is ssh://me@host/var/a.log")
    assert refusal("host:a.log").endswith("; a file on another host is ssh://host/~/a.log")
    assert refusal("http://host/a").endswith("the only addresses are ssh://[user@]host[:port]/path")


def test_newest_run_is_the_one_modified_last():
    assert newest_run() is None
    for age, name in ((300, "a"), (100, "b"), (200, "c")):
        os.utime(make(f"checkpoints/{name}").events, (1e9 - age, 1e9 - age))
    make("checkpoints/no-events", "config.toml")
    assert newest_run() == Run(Path("checkpoints/b"))
    assert newest_run(Path("elsewhere")) is None


def test_a_remembered_run_is_found_from_any_folder(monkeypatch, tmp_path):
    run = runs.create("tiny", SETTINGS)
    remember(run)
    path = run.path.absolute()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert locate("tiny").run == Run(path)


def test_of_two_runs_with_one_name_the_last_started_that_exists_counts(tmp_path):
    old, new = make(tmp_path / "old" / "tiny"), make(tmp_path / "new" / "tiny")
    remember(old)
    remember(new)
    assert known_runs() == {"tiny": new.path}
    (new.path / "config.toml").unlink()
    (new.path / "events.jsonl").unlink()
    assert known_runs() == {"tiny": old.path}
    make(new.path)
    remember(old)
    assert known_runs() == {"tiny": old.path}


def test_the_index_holds_a_line_a_run_and_stays_short(state, monkeypatch, tmp_path):
    monkeypatch.setattr(index, "_MOST", 4)
    for names, kept in (("aabab", "ab"), (["c", "a", "d", "e\n\udcff", "b"], ["a", "d", "e\n\udcff", "b"])):
        for name in names:
            remember(make(tmp_path / "runs" / name))
        lines = [json.loads(line) for line in (state / "runs.jsonl").read_text().splitlines()]
        assert [line["name"] for line in lines] == list(kept)
        assert all(set(line) == {"name", "path", "time"} for line in lines)
    assert known_runs()["e\n\udcff"] == tmp_path / "runs" / "e\n\udcff"


def test_a_damaged_index_is_read_as_far_as_it_goes(state, tmp_path):
    run = make(tmp_path / "tiny")
    remember(run)
    good = (state / "runs.jsonl").read_bytes()
    (state / "runs.jsonl").write_bytes(
        b'\xff\0[1]\n[1]\n7\n{"name": 3, "path": "x"}\n{"name": "x"}\n' + good + good[:9]
    )
    assert known_runs() == {"tiny": run.path}
    (state / "runs.jsonl").unlink()
    (state / "runs.jsonl").mkdir()
    assert known_runs() == {}
    remember(run)


def test_remember_does_nothing_if_the_state_folder_cannot_be_written(state, monkeypatch):
    state.write_text("a file in its place")
    run = runs.create("tiny", SETTINGS)
    remember(run)
    assert run.settings() == SETTINGS
    assert state.read_text() == "a file in its place"
    assert known_runs() == {}


def test_runs_that_begin_at_once_are_all_entered(tmp_path):
    made = [make(tmp_path / f"run-{i}") for i in range(12)]
    threads = [threading.Thread(target=remember, args=(run,)) for run in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(known_runs().values()) == {run.path for run in made}


def test_folder_of_another_program_with_a_config_toml_is_no_run():
    make("out", "config.toml")
    assert locate("out").kind == "run"
    Path("out/train.log").write_text("step 1 loss 3\nstep 2 loss 2\n")
    assert locate("out").path == Path("out/train.log")


def test_a_shipped_run_is_found_by_name_in_any_folder_after_runs_of_that_name():
    shipped = locate("shakespeare")
    assert shipped.run is not None and shipped.run.events.is_file() and shipped.label == "shakespeare"
    mine = make("checkpoints/shakespeare")
    assert locate("shakespeare").run == mine
