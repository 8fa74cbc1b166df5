"""A small text, a tiny trained run, and the command line: in a process of its own, and in this one."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tdiff import cli as command
from tdiff.files import write_atomic
from tdiff.runs import lookup
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.support.runs import COMMAND, environment, settings_of, train_in, words

# No test asks the real hub: nobody listens there. Set before anything reads it, and for children too.
os.environ |= {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "*", "no_proxy": "*"}
for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order, and no second thread on a small machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_traces_at_home(tmp_path_factory):
    """Runs of the tests are not entered into the user's own index, nor are the user's files read."""
    mine = tmp_path_factory.mktemp("mine")
    os.environ["TDIFF_STATE"] = str(mine / "state")
    os.environ["XDG_CONFIG_HOME"] = str(mine / "config")
    os.environ["HF_HOME"] = str(mine / "huggingface")


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory) -> Path:
    """About 20 kB of text with 27 kinds of character."""
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
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TDIFF_SHAKESPEARE_URL", "http://127.0.0.1:9/")  # nobody listens there
    return folder


@pytest.fixture
def cli(here):
    """Run the command in a process of its own, without a terminal."""

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
    """What a command printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str

    def refused(self) -> str:
        """The one line of a refusal: exit code 2, nothing on stdout, no traceback."""
        lines = self.stderr.splitlines()
        assert self.returncode == command.BAD_INPUT, self
        assert self.stdout == "", self
        assert len(lines) == 1, self
        assert lines[0].startswith("tdiff: "), self
        return lines[0].removeprefix("tdiff: ")


@pytest.fixture
def cli_fast(here, monkeypatch):
    """Run the command in this process, without a terminal."""

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


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> dict[str, Path]:
    """The folder of a random Hugging Face model of each kind; see `hub_zoo`."""
    from tests.support.hub_zoo import KINDS, make  # which needs torch

    root = tmp_path_factory.mktemp("zoo")
    return {kind: make(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="session")
def loaded(zoo):
    """Those models, loaded."""
    from tdiff.core.models.load import load_model

    return {kind: load_model(str(folder)) for kind, folder in zoo.items()}


@pytest.fixture(scope="session")
def roberta(tmp_path_factory) -> dict[str, bytes]:
    """The files of a random RoBERTa."""
    from tests.support.hub_zoo import make

    folder = make("roberta", tmp_path_factory.mktemp("hub") / "roberta")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(here, tmp_path, monkeypatch):
    """A hub of this machine's own, an empty cache, and one run here; see `hub_server`."""
    from tests.support.hub_server import serving

    monkeypatch.setattr(lookup, "_SHELVES", (runs.ROOT,))
    write_atomic(runs.ROOT / "shakespeare" / "model" / "config.json", b"{}")
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
        yield hub


@pytest.fixture
def published(hub, roberta):
    """That hub with the RoBERTa, among files that nobody reads."""
    from tests.support.hub_server import NAME, NEVER

    hub.publish(NAME, roberta | NEVER)
    return hub
