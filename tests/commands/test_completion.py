"""Shell completion: what each Tab offers, in a real bash, in how much time, and without the engine."""

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tdiff.commands.completion import decoders, join_equals
from tdiff.config.decoding import DECODERS
from tests.foundations.test_imports import ENGINE
from tests.support.ptys import Pty
from tests.support.runs import environment

SECONDS = 0.3
"""CPU time that a Tab may take."""


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    """A folder with the program `tdiff`."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "tdiff").write_text(f"#!{sys.executable}\nfrom tdiff.cli import main\nmain()\n")
    (folder / "tdiff").chmod(0o755)
    return folder


def complete(program: Path, *words: str, **env: str) -> list[str]:
    """What bash is offered for the last word."""
    asked = {"_TDIFF_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [program / "tdiff"], env=environment(**asked, **env), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tdiff", "ge"], ["generate"]),
        (["tdiff", "generate", "--thr"], ["--threshold"]),
        (["tdiff", "generate", "--decoder", "re"], ["refill", "remdm"]),
        (["tdiff", "generate", "--decoder", "=", "re"], ["refill", "remdm"]),
        (["tdiff", "generate", "--decoder", '"remdm t-'], ["remdm t-on=", "remdm t-off="]),
        (["tdiff", "generate", "--decoder", '"remdm et'], [f"remdm eta={rate}" for rate in (0.008, 0.015, 1, 0.02)]),
        (["tdiff", "generate", "--decoder", '"remdm remask=lo'], ["remdm remask=loop"]),
        (["tdiff", "watch", "--schedule", "cos"], ["cosine", "cosine-seed"]),
        (["tdiff", "train", "--config", "ta"], ["tales", "tales-gpu"]),
        (["tdiff", "guide", "dec"], ["decoders"]),
        (["tdiff", "eval", "shak"], ["shakespeare"]),
    ],
    ids=" ".join,
)
def test_completion_offers_matching_names(words, offered, program, here):
    assert complete(program, *words) == offered


def test_runs_and_models_of_this_folder_are_offered(program, here):
    (here / "checkpoints" / "mine" / "model").mkdir(parents=True)
    (here / "checkpoints" / "mine" / "config.toml").write_text("")
    assert complete(program, "tdiff", "generate", "--model", "mi") == ["mine"]
    assert complete(program, "tdiff", "train", "--resume", "") == ["mine"]
    assert complete(program, "tdiff", "watch", "m") == ["mine"]
    for command in ("stop", "resume", "rm"):
        assert complete(program, "tdiff", command, "m") == ["mine"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(shell, program):
    asked = {"_TDIFF_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "tdiff generate --decoder rem"}
    more = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    done = subprocess.run(
        [program / "tdiff"], env=environment(**asked, **more), capture_output=True, text=True, timeout=120
    )
    assert "remdm" in done.stdout


@pytest.mark.parametrize("words", [["tdiff", ""], ["tdiff", "generate", "--model", ""], ["tdiff", "watch", ""]])
def test_a_tab_loads_no_engine_and_takes_little_time(words, program, here):
    code = "import sys, atexit\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    (program / "sitecustomize.py").write_text(code)
    asked = {"_TDIFF_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    env = environment(**asked, PYTHONPATH=f"{program}{os.pathsep}{Path(__file__).parents[2]}")

    def seconds(command: list[str | Path]) -> tuple[float, str]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr

    tabs = [seconds([program / "tdiff"]) for _ in range(5)]
    loaded = {name.partition(".")[0] for name in tabs[0][1].split()}
    assert "tdiff" in loaded and not loaded & (ENGINE | {"textual"})
    # Beside other processes a core is slower: Typer alone, whose import is most of a Tab, is the measure there.
    typer = min(seconds([sys.executable, "-c", "import typer, typer.main"])[0] for _ in range(3))
    (program / "sitecustomize.py").unlink()
    assert min(time for time, _ in tabs) < max(SECONDS, 3 * typer), tabs


def test_in_bash_tab_completes_commands_decoders_and_their_options(program, here):
    (here / ".bashrc").write_text("")
    env = environment(HOME=str(here), PATH=f"{program}{os.pathsep}{os.environ['PATH']}", PS1="$ ", INPUTRC="/dev/null")
    shown = subprocess.run(
        [program / "tdiff", "--show-completion", "bash"],
        env=env | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert "complete -o default -F _tdiff_completion tdiff" in shown
    (here / ".bashrc").write_text(shown + "\nbind 'set bell-style none'\n")
    shell = Pty(["bash", "--rcfile", str(here / ".bashrc"), "-i"], columns=200, **env)
    try:
        for typed, completed in [
            (b"tdiff gene\t", b"tdiff generate "),
            (b"--thr\t", b"--threshold "),
            (b"0.5 --decoder rem\t", b"--decoder remdm "),
            (b"--schedule=cosine-\t", b"--schedule=cosine-seed"),
            (b'\x15tdiff watch --decoder "remdm rema\t', b'"remdm remask='),
            (b"lo\t", b'"remdm remask=loop"'),
        ]:
            start = len(shell.written)
            shell.send(typed)
            shell.until(completed, after=max(0, start - 200))
    finally:
        shell.send(b"\x15exit\r")
        with contextlib.suppress(AssertionError):
            shell.end()


def test_options_of_a_decoder_are_those_it_reads():
    offered = decoders("topk ")
    assert "topk k=" in offered and "topk steps=" in offered
    assert "topk eta=" not in offered
    assert decoders("") == sorted(DECODERS)


@pytest.mark.parametrize(
    ("words", "cursor", "joined", "at"),
    [
        (["tdiff", "generate", "--decoder", "=", "re"], 4, ["tdiff", "generate", "--decoder", "re"], 3),
        (["tdiff", "generate", "--decoder", "="], 3, ["tdiff", "generate", "--decoder", ""], 3),
        (["tdiff", "watch", "--model", "=", "a", "--dec"], 5, ["tdiff", "watch", "--model", "a", "--dec"], 4),
    ],
)
def test_the_words_of_bash_are_joined_at_an_equals_sign(words, cursor, joined, at):
    environ = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(cursor)}
    join_equals(environ)
    assert (environ["COMP_WORDS"].split("\n"), environ["COMP_CWORD"]) == (joined, str(at))
