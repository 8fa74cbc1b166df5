"""`tdiff watch --loss NAME` and its siblings: named on the command line, remembered for the file, dropped again."""

import json

import pytest


@pytest.fixture
def log(here, monkeypatch):
    monkeypatch.setenv("TDIFF_STATE", str(here / "state"))
    path = here / "odd.log"
    path.write_text("".join(f"round {n} acc=0.{n} energy {5 - n / 10}\n" for n in range(1, 9)))
    return path


def test_a_name_is_remembered_for_the_file_and_dropped_again(cli_fast, log):
    first = cli_fast("watch", "odd.log", "--once", "--json", "--loss", "energy")
    assert first.returncode == 0
    assert "odd.log: --loss 'energy' is remembered; --forget drops it" in first.stderr
    again = cli_fast("watch", "odd.log", "--once", "--json")
    assert "read with --loss 'energy', as remembered" in again.stderr
    for done in (first, again):
        run = json.loads(done.stdout)
        assert (run["points"], run["eval_points"], run["failed"], run["reason"], run["note"]) == (
            8,
            0,
            False,
            None,
            None,
        )
    link = log.with_name("link.log")
    link.symlink_to(log)
    assert json.loads(cli_fast("watch", "link.log", "--once", "--json").stdout)["points"] == 8
    dropped = cli_fast("watch", "odd.log", "--once", "--json", "--forget")
    assert "its remembered names are dropped" in dropped.stderr
    assert json.loads(dropped.stdout)["points"] == 0
    assert "no names are remembered for it" in cli_fast("watch", "odd.log", "--once", "--forget").stderr


def test_without_a_loss_the_snapshot_says_what_was_looked_for(cli_fast, log):
    done = cli_fast("watch", "odd.log", "--once")
    assert done.returncode == 0
    assert "no loss found: 8 lines of text, numbers named round, acc, energy" in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--loss", "energi"), "odd.log: no number named 'energi' (--loss); did you mean energy?"),
        (("--loss", "energy", "--step", "rownd"), "no number named 'rownd' (--step); did you mean round?"),
        (("--pattern", "nothing (.)"), "odd.log: no loss found: --pattern 'nothing (.)' matches none of 8 lines"),
        (("--pattern", "("), "is no regular expression: missing ), unterminated subpattern at character 1, '('"),
        (("--forget", "--loss", "energy"), "--forget drops the names of these files; got --loss 'energy' too"),
    ],
)
def test_names_that_do_not_fit_are_refused_and_not_remembered(cli_fast, log, options, text):
    done = cli_fast("watch", "odd.log", "--once", *options)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "remembered" not in cli_fast("watch", "odd.log", "--once").stderr


def test_a_remembered_name_that_no_longer_fits_is_reported_and_the_snapshot_printed(cli_fast, log):
    cli_fast("watch", "odd.log", "--once", "--loss", "energy")
    log.write_text("step 1 loss 2.5\nstep 2 loss 2.25\n")
    done = cli_fast("watch", "odd.log", "--once")
    assert done.returncode == 0
    assert "no number named 'energy' (--loss)" in done.stderr and "--forget" in done.stderr


def test_names_work_over_a_pipe_and_ssh_and_only_a_file_is_remembered(cli, log, here):
    done = cli("watch", "-", "--once", "--json", "--loss", "energy", stdin=log.read_text())
    assert (json.loads(done.stdout)["points"], done.stderr) == (8, "")
    fake = here / "fake"
    fake.write_text("#!/bin/sh\nexec sh\n")
    fake.chmod(0o755)
    where = f"ssh://host{log}"
    state = {"TDIFF_SSH": str(fake), "TDIFF_STATE": str(here / "state")}
    done = cli("watch", where, "--once", "--json", "--loss", "energy", **state)
    assert json.loads(done.stdout)["points"] == 8, done.stderr
    assert json.loads(cli("watch", where, "--once", "--json", **state).stdout)["points"] == 8


def test_a_run_of_tdiff_has_names_already(cli_fast, here):
    (here / "mine").mkdir()
    (here / "mine" / "config.toml").write_text("")
    done = cli_fast("watch", "mine", "--once", "--loss", "energy")
    assert done.returncode == 2
    assert "'mine' is a tdiff run, whose numbers have names" in done.stderr
