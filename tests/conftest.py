"""Fixtures: a small text, a tiny trained run, the command line in a child process and in this one, and models."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tdiff import cli as command
from tdiff.files import write_atomic
from tdiff.runs import lookup
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.support.runs import COMMAND, environment, settings_of, train_in, words

# No test asks the real hub: nothing listens on port 9. Set before any import reads it; child processes inherit it.
os.environ |= {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "*", "no_proxy": "*"}
# Without bytecode files, each of the hundreds of child processes would compile tdiff anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """One thread: sums have a fixed order, and test processes do not compete for cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def isolated_home(tmp_path_factory):
    """Point the state, configuration and cache folders at empty ones, so that tests do not touch the user's files."""
    home = tmp_path_factory.mktemp("home")
    os.environ["TDIFF_STATE"] = str(home / "state")
    os.environ["XDG_CONFIG_HOME"] = str(home / "config")
    os.environ["HF_HOME"] = str(home / "huggingface")


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory) -> Path:
    """A file of about 20 kB of text with 27 distinct characters."""
    path = tmp_path_factory.mktemp("corpus") / "tale.txt"
    path.write_text(words(3800), "utf-8")
    assert 18_000 < path.stat().st_size < 22_000
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, corpus_file) -> Run:
    """A run of 30 steps on the corpus: window 32, context 8, characters."""
    return train_in(tmp_path_factory.mktemp("tiny") / "checkpoints", "tiny", settings_of(corpus_file))[0]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder, which is the working directory of the test."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TDIFF_SHAKESPEARE_URL", "http://127.0.0.1:9/")  # nothing listens there
    return folder


@pytest.fixture
def cli(here):
    """Return a function that runs the command in a child process, without a terminal."""

    def run(*arguments: str, stdin: str = "", timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=here,
            env=environment(**env),
            input=stdin,
            text=True,
            capture_output=True,
            timeout=timeout,
        )

    return run


@dataclass(frozen=True)
class Done:
    """The output and the exit code of a command."""

    returncode: int
    stdout: str
    stderr: str

    def refused(self) -> str:
        """Check that the command refused bad input (exit code 2, no stdout, one line on stderr); return that line."""
        lines = self.stderr.splitlines()
        assert self.returncode == command.BAD_INPUT, self
        assert self.stdout == "", self
        assert len(lines) == 1, self
        assert lines[0].startswith("tdiff: "), self
        return lines[0].removeprefix("tdiff: ")


@pytest.fixture
def cli_fast(here, monkeypatch):
    """Return a function that runs the command in this process, without a terminal."""

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
        monkeypatch.setattr(sys, "argv", ["tdiff", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            command.main()
        printed = []
        for stream in (out, err):
            stream.flush()
            printed.append(stream.buffer.getvalue().decode("utf-8"))
        return Done(int(end.value.code or 0), *printed)

    return run


class OnRequest(Mapping[str, Any]):
    """A mapping whose values are made when they are first asked for."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Any]) -> None:
        self._names, self._make, self._made = tuple(names), make, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Mapping[str, Path]:
    """The folder of a random Hugging Face model of each kind, made when it is asked for; see `hub_zoo`."""
    from tests.support.hub_zoo import KINDS, make  # which needs torch

    root = tmp_path_factory.mktemp("zoo")
    return OnRequest(KINDS, lambda kind: make(kind, root / kind))


@pytest.fixture(scope="session")
def loaded(zoo):
    """The models of `zoo`, loaded."""
    from tdiff.core.models.load import load_model

    return OnRequest(zoo, lambda kind: load_model(str(zoo[kind])))


@pytest.fixture(scope="session")
def roberta(tmp_path_factory) -> dict[str, bytes]:
    """The files of a random RoBERTa."""
    from tests.support.hub_zoo import make

    folder = make("roberta", tmp_path_factory.mktemp("hub") / "roberta")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(here, tmp_path, monkeypatch):
    """A local hub, an empty cache, and one run in the working folder; see `hub_server`."""
    from tests.support.hub_server import serving

    monkeypatch.setattr(lookup, "_SHELVES", (runs.ROOT,))
    write_atomic(runs.ROOT / "shakespeare" / "model" / "config.json", b"{}")
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
        yield hub


@pytest.fixture
def published(hub, roberta):
    """The hub with the RoBERTa, among files that must not be downloaded."""
    from tests.support.hub_server import NAME, NEVER

    hub.publish(NAME, roberta | NEVER)
    return hub
