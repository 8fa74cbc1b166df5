"""`tdiff train`: every way to say a setting, and every refusal one line that leaves nothing behind."""

import csv
import json
import re
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tdiff.config.settings import Settings
from tdiff.corpus import named
from tdiff.protocol.events import End, Eval, Resume, Sample, Start, Train
from tdiff.runs import lookup
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.support.ptys import PATIENCE, Pty
from tests.support.runs import COMMAND, SET_TINY, environment, settings_of, words

QUICK = [*SET_TINY, "--steps=1", "--device=cpu", "--eval-every=0", "--sample-every=0", "--run=r"]


@pytest.fixture
def trained(cli_fast, corpus_file):
    """Train for a step with options and return what config.toml says."""

    def run(*arguments: str, stdin: bytes = b"") -> Settings:
        data = [] if any(a.startswith("--data") for a in arguments) else [f"--data={corpus_file}"]
        done = cli_fast("train", *QUICK, *data, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return lookup.find_run("r").settings()

    return run


def write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(here, trained):
    file = write(here / "mine.toml", "[train]\nseed = 3\nclip = 3.0\nbeta2 = 0.25\n[model]\nwidth = 64\n")
    settings = trained("--preset=char-10m", f"--config={file}", "--seed=5", "--set=train.clip=2")
    assert settings.train.seed == 5
    assert settings.train.clip == 2.0
    assert settings.train.beta2 == 0.25
    assert settings.train.ema == 0.999  # the preset's own
    assert settings.model.width == 16  # by --set, over 64 in the file and 384 in the preset
    assert settings.preset == "char-10m"
    assert settings.train.steps == 1  # and not the preset's 10,000 too
    assert settings.train.minutes == 0


def test_a_later_budget_replaces_an_earlier_one_whatever_its_unit(here, trained):
    file = write(here / "mine.toml", "[train]\nminutes = 5\n")
    train = trained(f"--config={file}").train  # --steps=1 among the options
    assert (train.steps, train.minutes, train.epochs) == (1, 0.0, 0.0)


SAME = [
    (["--lr=0.01", "--seed=5"], "[train]\nlr = 0.01\nseed = 5\n"),
    (["--window=16", "--time-conditioning"], "[model]\nwindow = 16\ntime_conditioning = true\n"),
    (
        ["--schedule=cosine", "--timesteps=4", "--context=3", "--context-mode=fixed"],
        '[objective]\nschedule = "cosine"\ntimesteps = 4\ncontext = 3\ncontext_mode = "fixed"\n',
    ),
    (["--optimizer=muon", "--batch-size=2"], '[train]\noptimizer = "muon"\nbatch_size = 2\n'),
    (["--tokenizer=bpe:64"], '[data]\ntokenizer = "bpe:64"\n'),
    (
        ["--eval-every=7", "--sample-every=9", "--epochs=0.01"],
        "[train]\neval_every = 7\nsample_every = 9\nepochs = 0.01\n",
    ),
]


def setting_of(option: str) -> str:
    """The setting that an option of `tdiff train` gives, without its table."""
    return option.removeprefix("--set=").removeprefix("--").partition("=")[0].rpartition(".")[2].replace("-", "_")


@pytest.mark.parametrize(("options", "toml"), SAME, ids=[" ".join(options) for options, _ in SAME])
def test_options_a_file_and_set_say_the_same(options, toml, here, cli_fast, corpus_file):
    assigned = [
        f"--set={table}.{name}={json.dumps(value)}"
        for table, pairs in tomllib.loads(toml).items()
        for name, value in pairs.items()
    ]
    common = [f"--data={corpus_file}", "--preset=char-1m"]
    replaced = {setting_of(option) for option in options} | ({"steps"} if "epochs" in toml else set())
    base = [option for option in QUICK if setting_of(option) not in replaced | {"run"}]
    base_file = write(here / "base.toml", toml)
    written = []
    for n, way in enumerate((options, [f"--config={base_file}"], assigned)):
        done = cli_fast("train", *common, *base, *way, f"--run=r{n}")
        assert done.returncode == 0, done.stderr
        written.append((here / "checkpoints" / f"r{n}" / "config.toml").read_text("utf-8"))
    assert written[0] == written[1] == written[2]
    layer = tomllib.loads(written[0])
    for table, pairs in tomllib.loads(toml).items():
        assert layer[table] | pairs == layer[table]


def test_set_reaches_every_setting(trained, here):
    changed = {
        "data.text_field": "words",
        "data.unknown": "token",
        "model.conv": 3,
        "model.heads": 2,
        "model.layers": 2,
        "train.accumulate": 2,
        "train.muon_lr": 0.5,
        "train.warmup": 0.5,
        "train.decay": 0.25,
        "train.final_lr": 0.5,
        "train.weight_decay": 0.5,
        "train.beta2": 0.5,
        "train.compile": "off",
        "train.log_every": 2.0,
        "train.eval_tokens": 77,
        "train.save_every": 5.0,
        "preset": "char-10m",
    }
    layer = trained(*(f"--set={name}={value}" for name, value in changed.items())).as_layer()
    for name, value in changed.items():
        table, _, key = name.rpartition(".")
        assert (layer[table] if table else layer)[key] == value, name


def test_resolved_settings_reproduce_the_run(trained, here, cli_fast, corpus_file):
    trained("--lr=0.01")
    done = cli_fast("train", "--config=checkpoints/r/config.toml", "--run=again")
    assert done.returncode == 0, done.stderr
    one, other = (here / "checkpoints" / name for name in ("r", "again"))
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    weights = "model/model.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()


def test_first_line_reports_model_corpus_budget_and_device(cli_fast, corpus_file):
    options = [*SET_TINY, "--device=cpu", f"--data={corpus_file}", "--sample-every=0"]
    done = cli_fast("train", *options, "--minutes=0.01", "--run=r")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "char-1m (the default here) on tale.txt, 1 s of training -> checkpoints/r"
    assert done.stderr.splitlines()[-1] == "done. Try it: tdiff generate --model r"
    done = cli_fast("train", *options, "--preset=char-10m", "--steps=1")
    assert done.stderr.splitlines()[0] == (
        "char-10m on tale.txt, 1 step, ETA after the first steps -> checkpoints/tale-char-10m"
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("run tale-char-10m: 0.00M parameters")
    assert lines[1].startswith("step 1  loss ")
    assert "held-out bound, whole" in lines[-1]


def test_default_name_avoids_existing_runs_and_a_requested_existing_name_is_refused(
    trained, cli_fast, here, corpus_file
):
    trained()
    before = sorted((here / "checkpoints").rglob("*"))
    assert "exists already" in cli_fast("train", *QUICK, f"--data={corpus_file}").refused()
    assert sorted((here / "checkpoints").rglob("*")) == before
    for name in ("tale-char-1m", "tale-char-1m-2"):
        done = cli_fast("train", *QUICK[:-1], f"--data={corpus_file}")
        assert done.returncode == 0
        assert done.stderr.splitlines()[0].endswith(f"-> checkpoints/{name}")


def test_text_comes_from_files_folders_globs_rows_and_stdin(here, trained, cli_fast):
    (here / "texts").mkdir()
    parts = [words(150, seed) for seed in range(4)]
    write(here / "texts" / "a.txt", parts[0])
    write(here / "texts" / "b.jsonl", json.dumps({"words": parts[1]}) + "\n")
    with (here / "texts" / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["n", "words"], ["1", parts[2]]])
    sources = ["texts", "-", "texts/*.txt", "texts/a.txt", "texts/b.jsonl"]
    settings = trained(*(f"--data={s}" for s in sources), "--text-field=words", stdin=parts[3].encode())
    # stdin cannot be read again: the whole text is kept in the run.
    assert [Path(source).name for source in settings.data.sources] == ["corpus.txt"]
    start = lookup.find_run("r").history()[0]
    assert isinstance(start, Start)
    a, b, c, d = (len(part) for part in parts)
    assert start.tokens == (a + b + c + 4 + d + a + a + b + 4 * 2) * 9 // 10
    assert start.corpus == "texts + stdin + texts/*.txt + 2 more"


REFUSED = {
    "unknown-preset": (["--preset=char-1n"], "unknown preset 'char-1n'; did you mean char-1m?"),
    "unknown-preset-by-set": (["--set=preset=char-1n"], "did you mean char-1m?"),
    "unknown-schedule": (["--schedule=linaer"], "did you mean linear?"),
    "unknown-tokenizer": (["--tokenizer=chars"], "unknown tokenizer 'chars'"),
    "bpe-too-small": (["--tokenizer=bpe:3"], "a whole number of at least"),
    "bpe-not-a-number": (["--tokenizer=bpe:many"], "'many'"),
    "tokenizer-not-there": (["--tokenizer=none.json"], "tokenizer 'none.json' does not exist"),
    "unknown-device": (["--device=gpu"], "unknown device 'gpu'"),
    "unknown-device-with-preset": (["--preset=char-1m", "--device=gpu"], "gpu"),
    "unknown-optimizer": (["--optimizer=adam"], "did you mean adamw?"),
    "unknown-context-mode": (["--context-mode=fix"], "did you mean fixed?"),
    "unknown-setting": (["--set=train.rl=1"], "unknown setting 'train.rl'; did you mean train.lr?"),
    "unknown-table": (["--set=trian.lr=1"], "unknown setting 'trian'; did you mean train?"),
    "set-without-value": (["--set=train.lr"], "--set takes NAME=VALUE"),
    "set-text-for-number": (["--set=train.lr=fast"], "takes a number; got 'fast'"),
    "set-a-table": (["--set=train=3"], "train"),
    "set-within-a-value": (["--set=train.lr.x=3"], "train.lr"),
    "infinite": (["--set=train.minutes=inf"], "train.minutes"),
    "not-a-number": (["--set=train.lr=nan"], "train.lr"),
    "no-heads": (["--set=model.heads=0"], "model.heads must be at least 1; got 0"),
    "negative-width": (["--set=model.width=-4"], "model.width must be at least 1"),
    "odd-heads": (["--set=model.width=130"], "model.heads 4"),
    "two-budgets": (["--steps=5", "--minutes=1"], "train.minutes and train.steps"),
    "no-budget": (["--steps=0"], "training has no end"),
    "negative-steps": (["--steps=-1"], "train.steps must be at least 0"),
    "context-too-long": (["--context=300"], "below model.window 256"),
    "no-such-data": (["--data=nothing.txt"], "no such file or folder: 'nothing.txt'"),
    "empty-data-name": (["--data="], "no such file or folder: ''"),
    "blank-data": (["--data=blank.txt"], "blank.txt is blank"),
    "binary-data": (["--data=binary.txt"], "is not UTF-8"),
    "short-data": (
        ["--data=short.txt"],
        "the held-out part of short.txt has 1 token; model.window is 256: give more text, or --window 1 --context 0",
    ),
    "rows-without-field": (["--data=rows.jsonl"], "no field 'text', only ['words']"),
    "no-such-config": (["--config=shakespare"], "no configuration 'shakespare'; did you mean shakespeare?"),
    "torn-config": (["--config=torn.toml"], "config 'torn.toml' cannot be read"),
    "config-of-the-wrong-shape": (["--config=flat.toml"], "train"),
    "config-with-a-strange-preset": (["--config=list.toml"], "unknown preset"),
    "run-with-a-slash": (["--run=a/b"], "one folder under checkpoints/"),
    "run-dots": (["--run=.."], "one folder under checkpoints/"),
    "resume-with-options": (["--resume=r", "--lr=5"], "--resume uses the saved settings of the run"),
    "resume-with-options-and-an-end": (
        ["--resume=r", "--lr=5", "--steps=9"],
        "a resume may change --keep-last, --on-nan, one of --steps, --minutes, --epochs, "
        "and how --batch-size and --accumulate divide a step",
    ),
    "resume-with-two-ends": (["--resume=r", "--steps=5", "--minutes=3"], "one of --steps, --minutes, --epochs"),
    "resume-with-a-setting": (["--resume=r", "--set=train.steps=5"], "--resume uses the saved settings of the run"),
    "resume-unknown": (["--resume=r"], "no run 'r' to resume"),
}


@pytest.mark.parametrize(("arguments", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_request_is_one_line_and_leaves_no_folder(arguments, text, here, cli_fast, corpus_file):
    write(here / "blank.txt", " \n\n")
    write(here / "short.txt", "0123456789")
    write(here / "rows.jsonl", '{"words": "x"}\n')
    write(here / "torn.toml", "[train\n")
    write(here / "flat.toml", "train = 3\n")
    write(here / "list.toml", 'preset = ["char-1m"]\n')
    (here / "binary.txt").write_bytes(b"\xff\xfe\x00")
    before = sorted(here.rglob("*"))
    resuming = arguments[0].startswith("--resume")
    data = [] if resuming or any(a.startswith("--data") for a in arguments) else [f"--data={corpus_file}"]
    done = cli_fast("train", *data, *arguments)
    assert text in done.refused()
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("size", [2, 11, 150, 171])
def test_options_in_the_error_for_a_short_text_suffice(size, here, cli_fast):
    write(here / "a.txt", words(100)[:size])
    common = ["train", "--data=a.txt", "--device=cpu", "--steps=1", "--run=r"]
    advice = cli_fast(*common).refused().partition("give more text, or ")[2]
    assert advice.startswith("--window ")
    done = cli_fast(*common, *advice.split())
    assert done.returncode == 0, done.stderr


USAGE = [["train", "--no-such-option"], ["train", "argument"]]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_command_line_that_cannot_be_parsed_exits_with_2_and_says_how_to_get_help(arguments, here, cli_fast):
    assert "--help" in cli_fast(*arguments).refused()
    assert not list(here.iterdir())


def test_hostile_names_are_made_visible_in_messages(here, cli_fast, corpus_file):
    for arguments in (["--preset=\x1b[2J\n"], ["--data=\x1b[2J\nx"], ["--run=\x1b]0;x\x07/"], ["--set=\x1b[2Jx=1\n"]):
        refusal = cli_fast("train", f"--data={corpus_file}", *arguments).refused()
        assert "\x1b" not in refusal
        assert "\x07" not in refusal


def test_a_run_that_was_killed_before_its_first_save_begins_again(here, cli_fast, corpus_file):
    runs.create("r", settings_of(corpus_file, {"train": {"steps": 2}}))
    done = cli_fast("train", "--resume=r")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("no save yet: beginning again in checkpoints/r (")
    assert lookup.find_run("r").history()[-1].step == 2


def test_resume_has_the_options_that_a_resume_may_change(trained, cli_fast, here):
    trained("--steps=1", "--run=r")
    done = cli_fast("resume", "r", "--steps=2", "--keep-last=4", "--on-nan=skip")
    assert done.returncode == 0, done.stderr
    options = Run(here / "checkpoints" / "r").settings().train
    assert (options.steps, options.keep_last, options.on_nan) == (2, 4, "skip")
    refusal = cli_fast("train", "--resume=r", "--seed=3").refused()
    assert refusal.endswith("and how --batch-size and --accumulate divide a step")


def test_a_finished_run_is_not_resumed(trained, cli_fast):
    trained()
    assert "is finished (step 1)" in cli_fast("train", "--resume=r").refused()


def test_a_finished_run_continues_to_a_new_end(trained, cli_fast):
    trained("--set=train.decay=1.0")
    before = lookup.find_run("r").settings()
    done = cli_fast("train", "--resume=r", "--steps=4")
    assert done.returncode == 0, done.stderr
    run = lookup.find_run("r")
    assert run.settings() == replace(before, train=replace(before.train, steps=4))
    assert run.history()[-1].step == 4
    assert [record.steps for record in run.history() if isinstance(record, Resume)] == [4]
    rates = [record.lr for record in run.history() if isinstance(record, Train)]
    assert rates[-1] < before.train.lr
    assert "is finished (step 4)" in cli_fast("train", "--resume=r").refused()


def test_a_run_resumed_to_a_new_end_is_still_locked(trained, cli_fast, corpus_file):
    trained()
    child = subprocess.Popen(
        [*COMMAND, "train", "--resume=r", "--steps=100000"], stdout=PIPE, stderr=PIPE, text=True, env=environment()
    )
    try:
        for line in child.stdout:
            if line.startswith("step"):
                break
        assert "is being trained by another process" in cli_fast("train", "--resume=r").refused()
    finally:
        child.terminate()
        child.communicate(timeout=60)


@pytest.mark.parametrize("end", ["--steps=1", "--minutes=0.00001", "--epochs=0.00001"])
def test_a_new_end_that_is_already_passed_is_refused(end, trained, cli_fast):
    trained("--steps=2")
    before = (lookup.find_run("r").path / "config.toml").read_text()
    assert "is at step 2, which is not before the new end" in cli_fast("train", "--resume=r", end).refused()
    assert (lookup.find_run("r").path / "config.toml").read_text() == before


def test_damaged_save_is_replaced_by_the_one_before_and_without_one_refused_and_unchanged(trained, cli_fast, here):
    trained()
    run = lookup.find_run("r")
    kept = [line for line in run.events.read_text().splitlines(keepends=True) if '"kind":"end"' not in line]
    run.events.write_text("".join(kept[:-1]))
    torn = run.state.read_bytes()[:1000]
    run.state.write_bytes(torn)
    (run.path / "earlier").rename(here / "elsewhere")
    refusal = cli_fast("train", "--resume=r").refused()
    assert refusal.startswith("run 'r' cannot be resumed: state.safetensors is damaged: it")
    assert refusal.endswith("there is no earlier save; --keep-last 2 or more retains earlier saves")
    assert run.state.read_bytes() == torn
    assert run.events.read_text() == "".join(kept[:-1])
    (here / "elsewhere").rename(run.path / "earlier")
    done = cli_fast("train", "--resume=r")
    assert done.returncode == 0, done.stderr
    assert "ALERT damaged: the newest save is damaged" in done.stderr
    assert "the save of step 0 replaces it" in done.stderr
    assert [event.step for event in run.history() if isinstance(event, Train)] == [1]


def test_a_run_whose_reader_leaves_is_saved(here, corpus_file):
    command = [*COMMAND, "train", f"--data={corpus_file}", *SET_TINY, "--steps=100000", "--run=long", "--device=cpu"]
    with subprocess.Popen(command, cwd=here, env=environment(), stdout=PIPE, stderr=PIPE, text=True) as child:
        child.stdout.readline()
        child.stdout.close()
        err = child.stderr.read()
    assert "Traceback" not in err
    assert "tdiff train --resume long" in err


def test_text_from_stdin_is_stored_for_a_resume(cli_fast, here):
    text = words(700).encode()
    options = ["--data=-", *SET_TINY, "--device=cpu", "--run=piped"]
    assert cli_fast("train", *options, "--steps=4", stdin=text).returncode == 0
    (here / "checkpoints/piped/events.jsonl").write_text("")  # as if it had not finished
    config = here / "checkpoints/piped/config.toml"
    config.write_text(config.read_text().replace("steps = 4", "steps = 6"))
    done = cli_fast("train", "--resume=piped")
    assert done.returncode == 0, done.stderr
    assert "step 6" in done.stdout
    assert cli_fast("eval", "piped", "--draws=1").returncode == 0


@pytest.fixture
def no_shakespeare(monkeypatch):
    def absent(_progress):
        raise named.Absent("it could not be fetched")

    monkeypatch.setattr(named, "shakespeare", absent)


def test_python_corpus_replaces_unavailable_shakespeare_and_is_recorded(cli_fast, here, no_shakespeare):
    options = [*SET_TINY, "--device=cpu", "--run=r", "--eval-every=0"]
    done = cli_fast("train", *options, "--steps=2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        "it could not be fetched; the corpus is python, the language reference "
        "(TDIFF_SHAKESPEARE=FILE names a copy of shakespeare)"
    )
    run = Run(here / "checkpoints/r")
    assert run.settings().data.sources == ("python",)
    assert cli_fast("eval", "r", "--draws=1").returncode == 0
    run.events.write_text("")  # as if it had not finished
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace("steps = 2", "steps = 3"))
    done = cli_fast("train", "--resume=r")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("resuming checkpoints/r (char-1m on python, 3 steps, ETA after the first steps)")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data=shakespeare"],
        ["--set=data.sources=shakespeare"],
        ["--config=mine.toml"],
        ["--data=a", "--data=shakespeare"],
    ],
    ids=" ".join,
)
def test_explicitly_named_shakespeare_is_never_replaced(arguments, cli_fast, here, no_shakespeare):
    write(here / "mine.toml", '[data]\nsources = ["shakespeare"]\n')
    write(here / "a", "text")
    before = sorted(here.rglob("*"))
    said = cli_fast("train", *QUICK, *arguments).refused()
    assert said == "it could not be fetched; set TDIFF_SHAKESPEARE=FILE to a copy of it"
    assert sorted(here.rglob("*")) == before


def test_a_run_is_trained_by_one_process_at_a_time(cli_fast, here, corpus_file):
    assert cli_fast("train", f"--data={corpus_file}", *SET_TINY, "--steps=2", "--run=r", "--device=cpu").returncode == 0
    run = Run(here / "checkpoints/r")
    run.events.write_text("")
    with run.locked():
        assert "is being trained by another process" in cli_fast("train", "--resume=r").refused()


@pytest.mark.parametrize(
    "text", ["无为而无不为道可道非常道名可名非常名" * 40, "acgt" * 300], ids=["chinese", "one-line"]
)
def test_a_text_without_words_gives_openings_too(text, cli_fast, here):
    (here / "a.txt").write_text(text, "utf-8")
    options = [*SET_TINY, "--context-mode=fixed", "--device=cpu", "--steps=4", "--sample-every=2", "--run=r"]
    done = cli_fast("train", "--data=a.txt", *options)
    assert done.returncode == 0, done.stderr
    assert "sample:" in done.stdout


# A terminal


def on_terminal(*arguments: str) -> Pty:
    return Pty([*COMMAND, "train", *arguments], **environment())


def stays(child: Pty) -> list[str]:
    """The lines of the terminal after the end, none of which is longer than the terminal is wide.

    Cursor movements are followed: while the final evaluation runs the bar has two lines, however often it is redrawn.
    """
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[\d;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", child.written.decode()):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            row = max(0, row - int(up[1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            before = lines[row].ljust(column)
            lines[row], column = before[:column] + part + before[column + len(part) :], column + len(part)
    return [line.rstrip() for line in lines]


def newest(kind: type) -> Any:
    return [event for event in lookup.find_run("r").history() if isinstance(event, kind)][-1]


BAR = r"━+[╸╺]?━* +"
FIGURES = r"loss \d+\.\d{4} · bound \d+\.\d{3} · [\d,]+ tok/s · ETA [^·]*?s"


def test_terminal_bar_shows_step_loss_bound_speed_and_remaining_time(here, corpus_file):
    options = [*SET_TINY, "--device=cpu", "--run=r", "--eval-every=5", "--sample-every=10"]
    # By steps and not by minutes: how many steps a minute has depends on what else the machine does. The bar is drawn
    # anew with every line above it, so that what is looked for here does not depend on the clock either.
    child = on_terminal(f"--data={corpus_file}", *options, "--steps=30")
    assert child.end(6 * PATIENCE) == 0, child.written
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", child.written.decode())
    assert re.search(rf"step [1-9][\d,]* {BAR}\d+% {FIGURES}", plain)
    lines = stays(child)
    sample = lines.index(f"step {newest(Sample).step:,}  sample:")
    assert lines[sample + 1] == f"  | {newest(Sample).text.splitlines()[0]}".rstrip()
    assert [line for line in lines if line.startswith("step 5  held-out bound ")]
    *_, bar, done, rest = lines
    last = f"loss {newest(Train).loss:.4f} · bound {newest(Eval).nats_per_char:.3f}"
    assert newest(Eval).final
    assert re.fullmatch(rf"step {newest(End).step:,} {BAR}100% {last}", bar)
    assert (done, rest) == ("done. Try it: tdiff generate --model r", "")
    assert len([line for line in lines if "━" in line]) == 1


def test_after_ctrl_c_the_bar_stays_at_the_step_that_was_saved_and_a_resumed_bar_continues_from_it(here, corpus_file):
    options = [*SET_TINY, "--device=cpu", "--run=r", "--eval-every=2", "--sample-every=1", "--steps=100000"]
    child = on_terminal(f"--data={corpus_file}", *options)
    child.until(b"step 2  held-out")
    child.until(b"sampling ...", after=len(child.written))
    child.send(b"\x03")
    assert child.end() == 0, child.written
    # Which step has the lowest bound depends on where Ctrl-C meets the run.
    lines = [line for line in stays(child) if not line.startswith("the lowest bound of the evaluations")]
    *_, bar, stopped, rest = lines
    step = newest(End).step
    last = f"loss {newest(Train).loss:.4f} · bound {newest(Eval).nats_per_char:.3f}"
    assert re.fullmatch(rf"step {step:,} {BAR}0% {last}", bar)
    assert stopped == f"stopped at step {step:,}; everything is saved. Resume with: tdiff train --resume r"
    assert rest == ""
    assert len([line for line in lines if "━" in line]) == 1
    assert [line for line in lines if line.startswith("stopping")] == [
        "stopping after this step, and saving (Ctrl-C again to quit at once)"
    ]
    config = here / "checkpoints/r/config.toml"
    config.write_text(config.read_text().replace("eval_every = 2", "eval_every = 0"))
    bound = f" · bound {newest(Eval).nats_per_char:.3f} · ".encode()
    child = on_terminal("--resume=r")
    child.until(bound)
    child.send(b"\x03")
    assert child.end() == 0, child.written
    assert b"no bound yet" not in child.written


def test_a_run_may_say_how_its_model_writes_best(trained, cli_fast, here):
    file = write(here / "mine.toml", '[train]\ndecoding = ["decoder=topk", "k=4"]\n')
    assert trained(f"--config={file}").train.decoding == ("decoder=topk", "k=4")
    done = cli_fast("generate", "--model=r", "--length=8", "--seed=1", "--json", "--device=cpu")
    assert json.loads(done.stdout)["model_calls"] == 2
    done = cli_fast("generate", "--model=r", "--length=8", "--seed=1", "--json", "--device=cpu", "--k=2")
    assert json.loads(done.stdout)["model_calls"] == 4


def test_invalid_train_decoding_is_refused_before_training(here, cli_fast, corpus_file):
    file = write(here / "mine.toml", '[train]\ndecoding = ["k=4"]\n')
    assert "must name a decoder" in cli_fast("train", f"--data={corpus_file}", f"--config={file}").refused()
