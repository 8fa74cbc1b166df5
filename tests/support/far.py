"""A stand-in for ssh that runs the command on this machine, and a folder there whose environment trains nothing."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from tdiff.remote import wheel

_SSH = """\
#!/bin/sh
echo "$@" >>'{log}'
while :; do
    case $1 in
    --) shift ;;
    -p | -l) shift 2 ;;
    *) break ;;
    esac
done
shift
exec sh -c "$*"
"""
_PYTHON = """\
#!/bin/sh
echo "$*" >>'{folder}/calls'
case "$*" in
*"-m pip"*install*) [ ! -e '{folder}/pip-fails' ] || {{ cat '{folder}/pip-fails'; exit 1; }} ;;
*"-m pip"* | '-c ') exit 0 ;;
*"import torch"*) echo '{{"python": "3.12.1", "torch": "2.9.0", "cuda": "12.6", "gpus": ["H200", "H200"]}}' ;;
*"-m tdiff train"* | *"-m tdiff resume"*)
    pwd >>'{folder}/cwd'
    for word; do printf '%s\\n' "$word"; done >'{folder}/words'
    if [ -e '{folder}/train-fails' ]; then
        echo 'tdiff: the data is missing' >&2
        exit 2
    fi
    mkdir -p checkpoints/tale/model
    echo 'tale trains in tmux session tdiff-tale, process 7: step 1, loss 3.5' >&2
    printf '  watch   tdiff watch tale\\n  attach  tmux attach -t tdiff-tale\\n  stop    tdiff stop tale\\n' >&2
    echo checkpoints/tale ;;
*"-m tdiff stop"*) echo 'stopped at step 9; everything is saved. Resume with: tdiff resume tale' >&2 ;;
*) exec '{python}' "$@" ;;
esac
"""


@pytest.fixture
def sh_as_ssh(tmp_path, monkeypatch) -> Path:
    """In ssh's place a program that runs the last word with a local sh; the file to which it writes its words."""
    log = tmp_path / "ssh.log"
    program = tmp_path / "ssh"
    program.write_text(_SSH.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("TDIFF_SSH", str(program))
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    programs = tmp_path / "far-bin"  # a python3 that starts fast
    programs.mkdir()
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    (programs / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "state"))
    return log


@pytest.fixture
def small_wheel(monkeypatch) -> None:
    """A wheel that is made at once, since no pip reads it."""
    data = b"a wheel"
    made = wheel.Wheel("tdiff_lm-0.1.0-py3-none-any.whl", data, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(wheel, "build", lambda: made)


def stub_environment(place: Path, notes: Path) -> None:
    """Make the environment of a place: its pip and its tdiff write their words to files in `notes`, and do nothing."""
    notes.mkdir(exist_ok=True)
    program = place / ".tdiff/venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(_PYTHON.format(folder=notes, python=sys.executable))
    program.chmod(0o755)
