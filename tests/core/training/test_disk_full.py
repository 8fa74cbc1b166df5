"""A disk that is full, a folder that is read-only, a save that is damaged, a clock that goes backwards."""

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from tdiff.core.models.hf import load as hf_load
from tdiff.core.models.load import load_model, save_model
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.files import CannotWrite
from tdiff.protocol.events import Alert
from tdiff.runs import lookup, retention
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tdiff.runs.wholeness import damage
from tests.support.killing import curve, trained, without_sync
from tests.support.runs import files_of, good, settings_of, words

LAYER = {
    "train": {"steps": 9, "save_every": 1e-9, "eval_every": 3, "sample_every": 0, "eval_tokens": 64},
    "model": {"window": 16},
}

RARER = [pytest.param(how, marks=pytest.mark.slow) for how in ("cut", "missing", "config")]


class Whole:
    """A run that was never interrupted, and a function that makes others of the same settings."""

    def __init__(self, folder) -> None:
        path = folder / "corpus.txt"
        path.write_text(words(400))
        self.folder, self.corpus_file = folder, path
        self.corpus, self.count = data.load([str(path)], "text"), 0
        self.run = self.new()
        self.train(self.run)
        self.curve, self.weights = curve(self.run), files_of(self.run.model)

    def new(self, *more: dict) -> Run:
        self.count += 1
        return runs.create(f"run-{self.count}", settings_of(self.corpus_file, LAYER, *more), self.folder)

    def train(self, run: Run) -> None:
        trained(run, run.settings(), self.corpus)

    def is_like(self, run: Run) -> None:
        assert curve(run) == self.curve
        assert files_of(run.model) == self.weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", without_sync)
        return Whole(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", without_sync)


@contextlib.contextmanager
def largest_file(size: int):
    """Limit the size of files: the system then refuses to write more, as a full disk does."""
    before, signal_before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal_before)


@pytest.mark.parametrize("part", ["state", pytest.param("model", marks=pytest.mark.slow), "events"])
def test_a_write_that_the_system_refuses_names_the_file_and_the_run_resumes_as_if_it_had_not(part, whole):
    sizes = {
        "state": whole.run.state.stat().st_size - 1,
        "model": (whole.run.model / "model.safetensors").stat().st_size - 1,
        "events": 1500,
    }
    run = whole.new()
    with largest_file(sizes[part]), pytest.raises(CannotWrite) as error:
        whole.train(run)
    name = {"state": "state.safetensors", "model": "model.safetensors", "events": "events.jsonl"}[part]
    if part != "events":
        assert f"{name} cannot be written: the limit for the size of a file is reached (" in str(error.value)
        assert str(error.value).endswith("kB needed)")
    whole.train(run)
    whole.is_like(run)
    assert not list(run.path.rglob(".*"))


def test_a_pretrained_model_that_the_system_refuses_to_write_names_the_file_and_the_one_before_stays(loaded, tmp_path):
    model, folder = loaded["bert"], tmp_path / "model"
    save_model(folder, model.network, model.tokenizer, model.origin)
    before = files_of(folder)
    with largest_file(20_000), pytest.raises(CannotWrite) as error:
        save_model(folder, model.network, model.tokenizer, model.origin)
    assert re.fullmatch(
        r".*/model/model\.safetensors cannot be written: the limit for the size of a file is reached \(\d+ kB needed\)",
        str(error.value),
    )
    assert files_of(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_file_of_a_pretrained_model_that_cannot_be_written_is_named_without_the_size_of_the_weights(
    loaded, tmp_path, monkeypatch
):
    model, folder = loaded["bert"], tmp_path / "model"

    def error() -> str:
        with pytest.raises(CannotWrite) as raised:
            save_model(folder, model.network, model.tokenizer, model.origin)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        return str(raised.value)

    (folder / "config.json").mkdir(parents=True)
    assert error() == f"{folder}/config.json cannot be written: Is a directory"
    (folder / "config.json").rmdir()

    def full(name: str | None):
        def save(_: object, scratch: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(scratch / name)] if name else []))

        return save

    for name, named in (("tokenizer.json", folder / "tokenizer.json"), (None, folder)):
        with monkeypatch.context() as patch:
            patch.setattr(type(model.tokenizer), "save", full(name))
            assert error() == f"{named} cannot be written: no space is left on its disk"

    def refuse(dir: Path, prefix: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir / f"{prefix}abc"))

    with monkeypatch.context() as patch:
        patch.setattr(hf_load, "TemporaryDirectory", refuse)
        assert error() == (
            f"{folder} cannot be written: the folder {tmp_path} is read-only or belongs to another user "
            "(Permission denied)"
        )


def full_at(number: int, whole: Whole, monkeypatch) -> None:
    """Refuse all writes from the one of this number on; then resume."""
    replace, link = type(whole.folder).replace, os.link
    run, left = whole.new(), number

    def refuse(call, *arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(whole.folder), "replace", lambda *a: refuse(replace, *a))
        patch.setattr(os, "link", lambda *a: refuse(link, *a))
        patch.setattr(shutil, "copyfile", lambda *a: refuse(link, *a))
        with pytest.raises(OSError, match=r"No space left|no space is left on its disk"):
            whole.train(run)
    if run.state.exists():
        assert damage(run.state, run.model) == ""
    whole.train(run)
    whole.is_like(run)


def test_a_disk_that_is_full_at_a_write_loses_no_save(whole, monkeypatch):
    full_at(17, whole, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 60))
def test_a_disk_that_is_full_at_any_write_loses_no_save(number, whole, monkeypatch):
    full_at(number, whole, monkeypatch)


@pytest.mark.parametrize("how", ["zeros", "model", *RARER])
def test_a_damaged_save_is_replaced_by_the_one_before_and_the_curve_is_the_same(how, whole):
    run = whole.new()
    shutil.copytree(whole.run.path, run.path, dirs_exist_ok=True)
    lines = run.events.read_text().splitlines(keepends=True)
    run.events.write_text("".join(line for line in lines if '"kind":"end"' not in line and '"final":true' not in line))
    data_of_state = run.state.read_bytes()
    if how == "cut":
        run.state.write_bytes(data_of_state[:-100])
    elif how == "zeros":
        run.state.write_bytes(data_of_state[:-100] + bytes(100))
    elif how == "missing":
        run.state.unlink()
    elif how == "model":
        weights = run.model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:50])
    else:
        (run.model / "config.json").write_text("{")
    whole.train(run)
    whole.is_like(run)
    [alert] = [event for event in run.history() if isinstance(event, Alert)]
    assert (alert.what, alert.step) == ("damaged", 8)
    assert alert.text.endswith("; the save of step 8 replaces it")


def test_without_an_earlier_save_a_damaged_one_is_an_error_that_changes_nothing(whole):
    run = whole.new({"train": {"keep_last": 1, "steps": 3}})
    whole.train(run)
    assert not (run.path / "earlier").exists()
    run.state.write_bytes(run.state.read_bytes()[:-1])
    before = files_of(run.model)
    with pytest.raises(TdiffError, match=r"cannot be resumed: state.safetensors is damaged: it has .* header requires"):
        whole.train(run)
    assert files_of(run.model) == before


def test_without_an_earlier_save_damaged_weights_are_written_again_from_the_training_state(whole):
    run = whole.new({"train": {"keep_last": 1, "steps": 3}})
    whole.train(run)
    before = files_of(run.path)
    weights = run.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    whole.train(run)
    after = files_of(run.path)
    assert after["model/model.safetensors"] == before["model/model.safetensors"]
    assert after["resume/state.safetensors"] == before["resume/state.safetensors"]
    [alert] = [event for event in run.history() if isinstance(event, Alert)]
    assert alert.text.startswith("model.safetensors is damaged: ")
    assert alert.text.endswith("; the training state is whole, and the weights are written again")


def test_as_many_saves_are_retained_as_the_setting_says_and_each_is_a_model(whole, monkeypatch):
    run = whole.new({"train": {"keep_last": 4}})
    whole.train(run)
    assert retention.earlier_steps(run) == [6, 7, 8]
    monkeypatch.chdir(whole.folder)
    assert lookup.find_model(f"{run.path}:9") == run.model
    for step in (6, 8):
        folder = lookup.find_model(f"{run.path}:{step}")
        assert folder == run.path / "earlier" / f"{step:08d}" / "model"
        copy = Run(folder.parent)
        assert damage(copy.path / "state.safetensors", copy.model) == ""
    with pytest.raises(TdiffError, match=r"has no save of step 5; there are: best, 6, 7, 8, 9"):
        lookup.find_model(f"{run.path}:5")


def test_the_model_with_the_lowest_bound_is_retained(whole):
    run = whole.run
    bounds = [(bound, step) for kind, step, bound, final in (e for e in whole.curve if e[0] == "eval") if not final]
    best = retention.best_bound(run)
    assert [step for _, step in bounds] == [3, 6, 9]
    assert (best.nats_per_token, best.step) == min(bounds)
    folder = lookup.find_model(f"{run.path}:best")
    assert folder == run.path / "best"
    assert load_model(f"{run.path}:best").name == f"{run.name}:best"
    earlier = retention.earlier_steps(run)[0]
    assert load_model(f"{run.path}:{earlier}").name == f"{run.name}:{earlier}"
    assert good(run) == 9
    without = whole.new({"train": {"keep_best": False, "steps": 3}})
    whole.train(without)
    with pytest.raises(TdiffError, match=r"has no best model: .*train.keep_best.*; there are: 2, 3"):
        lookup.find_model(f"{without.path}:best")


def test_a_clock_that_goes_backwards_changes_nothing(whole, monkeypatch):
    now = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    run = whole.new()
    whole.train(run)
    whole.is_like(run)
