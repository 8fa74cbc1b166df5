"""`tdiff train --on`, `fetch`, and `stop` and `resume` of a run on another machine.

Most with a local sh in place of ssh and an environment that trains nothing; one with a real sshd and a real training.
"""

import json
import os
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

import pytest

from tdiff.runs.run import Run
from tests.support.far import sh_as_ssh as sh_as_ssh
from tests.support.far import small_wheel as small_wheel
from tests.support.far import stub_environment
from tests.support.runs import SET_TINY
from tests.support.ssh import far as far
from tests.support.ssh import quick as quick
from tests.support.ssh import server as server

FOLDER = 'it\'s $(touch hacked) "there"'


@pytest.fixture
def there(tmp_path, sh_as_ssh, small_wheel):
    """A folder on another machine whose environment is there, and where it notes what it is asked."""
    folder = tmp_path / FOLDER
    stub_environment(folder, tmp_path / "notes")
    (folder / ".tdiff/shakespeare.txt").touch()  # so that it is not fetched
    return folder


@pytest.fixture
def url(there):
    return f"ssh://me@gpu01:2222{quote(str(there))}"


def calls(there: Path) -> list[str]:
    return (there.parent / "notes/calls").read_text().splitlines()


def words(there: Path) -> list[str]:
    return (there.parent / "notes/words").read_text().splitlines()


def test_a_training_starts_there_with_its_data_and_says_how_to_reach_it(cli_fast, here, there, url, sh_as_ssh):
    (here / "my texts").mkdir()
    (here / "my texts/one.txt").write_text("a tale")
    (here / "c.toml").write_text('data.sources = ["my texts"]\ntrain.steps = 5\n')
    done = cli_fast(
        "train", "--config", "c.toml", "--minutes", "1", "--run", "tale", "--set=model.width=64", "--on", url
    )
    assert done.returncode == 0, done
    assert done.stdout == f"{url}/checkpoints/tale\n"
    for line in (
        "Python 3.12.1, torch 2.9.0 (CUDA 12.6), 2 x H200",
        "my texts: 1 file, 6 bytes, copied",
        "tale trains in tmux session tdiff-tale, process 7: step 1, loss 3.5",
        f"  watch   tdiff watch {url}/checkpoints/tale",
        "  attach  ssh -t -p 2222 me@gpu01 'tmux attach -t tdiff-tale'",
        f"  fetch   tdiff fetch {url}/checkpoints/tale",
    ):
        assert line in done.stderr.splitlines()
    assert "tdiff watch tale" not in done.stderr  # true on the other machine only
    given = words(there)
    assert given[:4] == ["-P", "-m", "tdiff", "train"]
    assert {"--run=tale", "--detach=auto", "--set=train.minutes=1.0", "--set=model.width=64"} <= {*given}
    [config] = [word.removeprefix("--config=") for word in given if word.startswith("--config=")]
    [source] = tomllib.loads((there / config).read_text())["data"]["sources"]
    assert (there / source / "one.txt").read_text() == "a tale"
    assert (there.parent / "notes/cwd").read_text() == f"{there}\n"
    assert FOLDER not in sh_as_ssh.read_text()
    assert not list(here.parent.rglob("hacked"))
    assert [path.suffix for path in (there / ".tdiff/wheels").iterdir()] == [".whl"]
    [pip] = [call for call in calls(there) if "install" in call]
    assert pip.endswith(
        " --extra-index-url https://download.pytorch.org/whl/cpu .tdiff/wheels/tdiff_lm-0.1.0-py3-none-any.whl"
    )

    again = cli_fast("train", "--run", "tale", "--on", url).refused()
    assert again.startswith("run 'tale' exists already on gpu01")
    assert f"tdiff resume {url}/checkpoints/tale" in again
    Run(there / "checkpoints/tale").path.rename(there / "checkpoints/old")
    assert (
        "my texts: 1 file, 6 bytes, there already"
        in cli_fast("train", "--data", "my texts", "--run", "tale", "--on", url).stderr
    )
    assert sum("install" in call for call in calls(there)) == 1  # this version was there

    stopped = cli_fast("stop", f"{url}/checkpoints/tale")
    assert stopped.stderr == (
        f"gpu01: stopped at step 9; everything is saved. Resume with: tdiff resume {url}/checkpoints/tale\n"
    )
    assert cli_fast("resume", f"{url}/checkpoints/tale", "--steps", "99").returncode == 0
    assert words(there)[3:] == ["resume", "checkpoints/tale", "--steps=99", "--detach=auto"]
    assert "no run 'tael'" in cli_fast("stop", f"{url}/checkpoints/tael").refused()


def test_what_fails_there_is_reported_with_its_exit_code(cli_fast, here, there, url):
    (here / "t.txt").write_text("a tale")
    notes = there.parent / "notes"
    (notes / "pip-fails").write_text("Collecting torch\nERROR: No matching distribution found for torch\nmore\n")
    assert (
        "pip cannot install tdiff: ERROR: No matching distribution"
        in cli_fast("train", "--data", "t.txt", "--on", url).stderr
    )
    (notes / "pip-fails").unlink()
    (notes / "train-fails").touch()
    done = cli_fast("train", "--data", "t.txt", "--on", url)
    assert done.returncode == 2
    assert done.stderr.endswith("tdiff: the data is missing\nthe training did not start on gpu01\n")


def test_bad_input_is_refused_before_anything_is_copied(cli_fast, here, sh_as_ssh):
    on = ("--on", "ssh://gpu01/runs")
    assert "does not begin with -" in cli_fast("train", "--on", "ssh://-oProxyCommand=touch/x").refused()
    assert "unknown setting" in cli_fast("train", "--set=train.stepz=1", *on).refused()
    assert "no such file" in cli_fast("train", "--data", "nowhere.txt", *on).refused()
    assert "save the text to a file" in cli_fast("train", "--data", "-", *on).refused()
    assert "one folder" in cli_fast("train", "--run", "../x", *on).refused()
    (here / "t.txt").write_text("a tale")
    assert "within the folder" in cli_fast("train", "--set=data.token_files=/x", "--data", "t.txt", *on).refused()
    assert "--sbatch" in cli_fast("train", "--sbatch", "time=1", *on).refused()
    assert "tdiff resume ssh://" in cli_fast("train", "--resume", "x", *on).refused()
    assert not sh_as_ssh.exists()


def test_an_old_python_or_one_without_venv_is_named(cli_fast, here, tmp_path, sh_as_ssh, small_wheel, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    old = programs / "python3"
    text = "#!/bin/sh\ncase $* in *%d.%d*) echo 3.9.2; exit ;; *venv*) echo 'ensurepip is not there'; exit 1 ;; esac\n"
    old.write_text(f'{text}exec "{sys.executable}" "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python"):
        (programs / name).symlink_to(old)
    (here / "t.txt").write_text("a tale")
    arguments = ("train", "--data", "t.txt", "--on", f"ssh://gpu01{tmp_path}/new")
    line = cli_fast(*arguments).stderr.splitlines()[-1]
    assert "python3 3.9.2" in line
    assert "tdiff requires Python 3.11 or newer" in line
    old.write_text(old.read_text().replace("3.9.2", "3.12.9"))
    assert "sudo apt install python3-venv" in cli_fast(*arguments).stderr.splitlines()[-1]
    assert not (tmp_path / "new/.tdiff/venv").exists()


def test_a_model_is_fetched_and_fetched_again_but_nothing_else_is_overwritten(cli_fast, here, there, url):
    run = there / "checkpoints/tale"
    (run / "model").mkdir(parents=True)
    (run / "resume").mkdir()
    for name in ("config.toml", "events.jsonl", "process.json", "model/config.json", "resume/state.safetensors"):
        (run / name).write_text(name)
    (run / "model/model.safetensors").write_bytes(os.urandom(300_000))
    (run / "outside").symlink_to("/etc")
    assert "no run 'tale' was started from here" in cli_fast("fetch", "tale").refused()
    done = cli_fast("fetch", f"{url}/checkpoints/tale")
    assert (done.returncode, done.stdout) == (0, "checkpoints/tale\n"), done
    fetched = here / "checkpoints/tale"
    assert {p.name for p in fetched.iterdir()} == {"model", "config.toml", "events.jsonl", "fetched.json"}
    assert (fetched / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    weights = run / "model/model.safetensors"
    weights.write_bytes(bytes(reversed(weights.read_bytes())))
    assert cli_fast("fetch", f"{url}/checkpoints/tale", "--whole").returncode == 0
    assert (fetched / "model/model.safetensors").read_bytes() == weights.read_bytes()
    assert (fetched / "resume/state.safetensors").exists()
    assert not (fetched / "outside").exists()
    assert not [p for p in (here / "checkpoints").iterdir() if p.name.startswith(".")]
    assert "is not a folder there" in cli_fast("train", "--on", f"{url}/checkpoints/tale/config.toml").refused()
    (here / "mine").mkdir()
    assert "was not fetched" in cli_fast("fetch", f"{url}/checkpoints/tale", "--to", "mine").refused()
    assert "choose another folder" in cli_fast("fetch", f"{url}/checkpoints/tale2", "--to", str(fetched)).refused()


@pytest.mark.slow
def test_a_real_training_on_a_real_sshd(cli, here, far, tmp_path, corpus_file):
    folder = tmp_path / FOLDER
    program = folder / ".tdiff/venv/bin/python"
    program.parent.mkdir(parents=True)
    pip = '#!/bin/sh\ncase "$*" in *"-m pip"*) exit 0 ;; esac\n'
    program.write_text(f'{pip}exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    url = f"{far}{quote(str(folder))}"
    variables = {"TDIFF_SSH": os.environ["TDIFF_SSH"], "TDIFF_STATE": str(tmp_path / "state")}
    options = ("--data", str(corpus_file), *SET_TINY, "--steps", "60", "--device", "cpu", "--detach", "setsid")
    done = cli("train", *options, "--run", "tale", "--on", url, timeout=300, **variables)
    assert done.returncode == 0, done
    assert "in a session without a terminal" in done.stderr
    stopped = cli("stop", f"{url}/checkpoints/tale", **variables)  # it may have finished by itself
    assert "step" in stopped.stderr
    done = cli("fetch", "tale", **variables)
    assert done.returncode == 0, done
    assert json.loads((here / "checkpoints/tale/model/config.json").read_text())["model_type"]
    assert cli("generate", "--model", "tale", "--length", "5", "--seed", "1").returncode == 0
