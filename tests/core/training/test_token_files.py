"""Token files: the same rows as from memory, written once, resumed after an interruption, and mapped, not read."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from tdiff.core.models import tokenizers
from tdiff.core.training import token_files
from tdiff.core.training.data import TrainingSet
from tdiff.core.training.token_files import open_or_make
from tdiff.corpus import corpus as data
from tdiff.corpus import stream
from tdiff.errors import TdiffError
from tests.support.runs import settings_of, train_in, words


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """Files of all kinds that are read, larger than a piece."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + words(900).replace("\n", "\r\n").encode())
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one é", " ", "two\n3")))
    (folder / "blank.md").write_text(" \n ")
    with gzip.open(folder / "c.txt.gz", "wt") as file:
        file.write("x" * 3000)
    monkeypatch.setattr(stream, "PIECE", 500)
    monkeypatch.setattr(stream, "_READ", 97)
    monkeypatch.setattr(token_files, "SHARD", 700)
    return folder


def test_pieces_are_the_text_that_is_read_at_once(library):
    parts = list(stream.pieces(stream.source_files([str(library)])))
    assert "".join(parts) == data.load([str(library)]).text
    assert len(parts) > 10
    assert all(part.endswith("\n") for part in parts[:5])


def test_rows_and_held_out_text_are_those_of_a_corpus_in_memory(library, tmp_path):
    layers = [{"data": {"tokenizer": "char"}}, {"data": {"token_files": str(tmp_path / "tokens")}}]
    both = []
    for n in (1, 2):
        settings = settings_of(library, *layers[:n])
        corpus = data.load(settings.data.sources)
        tokenizer = tokenizers.learn("char", corpus.text, corpus.split()[0])
        both.append(TrainingSet(settings, corpus, tokenizer))
    memory, disk = both
    assert disk.files is not None and len(disk.files.shards) > 5
    assert (memory.token_count, memory.held_out_count) == (disk.token_count, disk.held_out_count)
    assert torch.equal(memory.held_out, disk.held_out)
    for step in range(20):
        assert torch.equal(memory.batch(step, range(4)).tokens, disk.batch(step, range(4)).tokens)
    assert disk.files.text_sha256 == memory.corpus.sha256()


def test_an_interrupted_writing_continues_and_the_files_are_the_same(library, tmp_path):
    settings = settings_of(library).data
    tokenizer = tokenizers.learn("char", data.load(settings.sources).text, "")

    def written(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if len(list((tmp_path / "torn").glob("tokens-*"))) == 3:
            raise Interrupted

    open_or_make(tmp_path / "whole", settings, tokenizer)
    with pytest.raises(Interrupted):
        open_or_make(tmp_path / "torn", settings, tokenizer, interrupt)
    first = (tmp_path / "torn" / "tokens-00001.bin").stat().st_mtime_ns
    reported: list[tuple[int, int]] = []
    open_or_make(tmp_path / "torn", settings, tokenizer, lambda *at: reported.append(at))
    assert written(tmp_path / "torn") == written(tmp_path / "whole")
    assert (tmp_path / "torn" / "tokens-00001.bin").stat().st_mtime_ns == first
    assert reported[-1][0] <= reported[-1][1]


def test_other_text_another_tokenizer_and_damage_are_refused(library, tmp_path):
    settings, folder = settings_of(library).data, tmp_path / "tokens"
    text = data.load(settings.sources).text
    open_or_make(folder, settings, tokenizers.learn("char", text, ""))
    with pytest.raises(TdiffError, match="has the tokens of other files or of another tokenizer"):
        open_or_make(folder, settings, tokenizers.learn("char", text + "ß", ""))
    with (folder / "tokens-00001.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(TdiffError, match=r"tokens-00001\.bin' is missing or damaged: remove its folder"):
        open_or_make(folder, settings, tokenizers.learn("char", text, ""))
    (library / "a.txt").write_text("changed")
    with pytest.raises(TdiffError, match="has the tokens of other files"):
        open_or_make(folder, settings, tokenizers.learn("char", text, ""))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", b"abc\xff", r"bad\.txt: a byte near offset 3 is not UTF-8"),
        ("nul.txt", b"ab\0c", r"nul\.txt: it has a NUL near offset 2"),
        ("rows.csv", b"text\na\n", r"reads plain text and \.jsonl, not .*rows\.csv"),
        ("rows.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', r"rows\.jsonl:2: no field 'text'"),
    ],
)
def test_files_that_cannot_be_streamed_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TdiffError, match=message):
        list(stream.pieces(stream.source_files([str(tmp_path / name)])))


def test_a_run_on_token_files_resumes_with_the_same_weights(library, tmp_path):
    layer = {"data": {"token_files": str(tmp_path / "tokens")}, "train": {"steps": 4, "eval_every": 0}}
    run, _ = train_in(tmp_path, "run", settings_of(library, layer))
    saved = run.state.read_bytes()
    settings = settings_of(library, layer, {"train": {"steps": 6}})
    _, events = train_in(tmp_path, "run", settings, resume=True)
    assert (events[0].kind, events[-1].step) == ("resume", 6)
    assert run.state.read_bytes() != saved
