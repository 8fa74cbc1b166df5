"""Every source of text, every error about one, and a local server for the one corpus that is downloaded."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from tdiff.corpus import named
from tdiff.corpus.corpus import Corpus, check_length, load
from tdiff.errors import TdiffError
from tests.support.paths import ROOT as REPOSITORY

PLAY = b"First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 4000
REAL = REPOSITORY.parent / "shared" / "data" / "tinyshakespeare.txt"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder and an empty cache, so that no test sees the machine it runs on."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("TDIFF_SHAKESPEARE", raising=False)
    monkeypatch.setenv("TDIFF_SHAKESPEARE_URL", "http://127.0.0.1:9/")  # nothing listens there
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "here"


@pytest.fixture
def play(monkeypatch):
    """Let PLAY pass for Tiny Shakespeare."""
    monkeypatch.setattr(named, "SHAKESPEARE_BYTES", len(PLAY))
    monkeypatch.setattr(named, "SHAKESPEARE_SHA256", hashlib.sha256(PLAY).hexdigest())


@pytest.fixture
def server(play, monkeypatch):
    """A local HTTP server; `answer` is what the next requests get, `requests` their number."""
    state = SimpleNamespace(answer=lambda handler: send(handler, PLAY), requests=0, over=threading.Event())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests += 1
            with contextlib.suppress(ConnectionError):  # the client may have had enough
                state.answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        monkeypatch.setenv("TDIFF_SHAKESPEARE_URL", f"http://127.0.0.1:{httpd.server_port}/input.txt")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.wait = lambda: state.over.wait(10)
        yield state
        state.over.set()
        httpd.shutdown()
        thread.join()


def send(handler, body, status=200, promised=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if promised is None else promised))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def write(name, content):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refusal(*sources, **options):
    """The one line with which `load` refuses."""
    with pytest.raises(TdiffError) as caught:
        load(sources, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def cached(here):
    return sorted(path.name for path in (here.parent / "cache").rglob("*") if path.is_file())


# Plain text


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "a.log", "a", "a.TXT"])
def test_a_named_file_is_plain_text_whatever_its_suffix(name):
    write(f"folder/{name}", "Zeile für Zeile\n\tund “so” 𝄞 weiter \n")
    assert load([f"folder/{name}"]) == Corpus("Zeile für Zeile\n\tund “so” 𝄞 weiter \n", name)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.GZ", "a.log.gz"])
def test_gz_is_unpacked(name):
    assert load([write(name, gzip.compress(b"packed"))]) == Corpus("packed", name)


def test_a_byte_order_mark_is_dropped_and_crlf_becomes_lf():
    assert load([write("a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n\xef\xbb\xbf")]).text == "one\ntwo\rthree\n\ufeff"


def test_several_sources_are_joined_with_a_blank_line_in_the_order_given():
    sources = [write(name, name) for name in ("b.txt", "a.txt", "d.txt", "c.txt")]
    assert load(sources[:2]) == Corpus("b.txt\n\na.txt", "b.txt + a.txt")
    assert load(sources).name == "b.txt + a.txt + d.txt + 1 more"


def test_a_name_has_no_control_characters():
    assert load([write("a\x1b[31m.txt", "text")]).name == "a␛[31m.txt"


def test_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffgrün\r\n".encode()), encoding="ascii"))
    assert load(["-"]) == Corpus("grün\n", "stdin")
    assert refusal("-") == "stdin is blank: it contains no text to train on"


def test_stdin_that_is_not_text(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    assert refusal("-") == "stdin: byte 0xff at offset 2 is not UTF-8; it must be text in UTF-8"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_a_file():
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text("through a pipe"))
    writer.start()
    assert load(["pipe"]).text == "through a pipe"
    writer.join()


# Rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_jsonl_rows_are_joined_with_a_blank_line(name):
    rows = [{"text": "one\r\ntwo"}, {"text": " ", "n": 1}, {"text": "three\u2028\u0085 still three"}]
    content = "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    content = gzip.compress(content) if name.endswith("gz") else content
    assert load([write(name, content)]) == Corpus("one\ntwo\n\nthree\u2028\u0085 still three", name)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_rows_are_joined_with_a_blank_line(name):
    long = "x" * 200_000  # the csv module refuses fields above 131,072 characters by default
    content = f'\ufeff\r\nid,text\r\n1,"one, ""two""\r\nthree"\r\n\r\n2,\r\n3,{long}'.encode()
    content = gzip.compress(content) if name.endswith("gz") else content
    assert load([write(name, content)]) == Corpus(f'one, "two"\nthree\n\n{long}', name)


def test_text_field_names_another_field():
    write("a.jsonl", '{"review": "from jsonl"}')
    write("a.csv", "label,review\n1,from csv\n")
    assert load(["a.jsonl", "a.csv"], text_field="review").text == "from jsonl\n\nfrom csv"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": }', "a.jsonl:2: not JSON: Expecting value at column 10"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: not JSON: "),
        ("a.jsonl", '\n["x"]', "a.jsonl:2: must be an object with a field 'text'; got ['x']"),
        ("a.jsonl", '{"text": null}', "a.jsonl:1: field 'text' must be text; got None"),
        ("a.jsonl", '{"text": [1, 2]}', "a.jsonl:1: field 'text' must be text; got [1, 2]"),
        ("a.jsonl", r'{"text": "a\ud800b"}', "a.jsonl:1: field 'text' contains U+D800, which is not text"),
        ("a.jsonl", r'{"text": "a\u0000b"}', "a.jsonl:1: field 'text' contains U+0000, which is not text"),
        ("a.jsonl", "{}", "a.jsonl:1: no field 'text', only []"),
        (
            "a.jsonl",
            '{"text": "x"}\n{"id": 1, "txt": "x"}',
            "a.jsonl:2: no field 'text', only ['id', 'txt']; did you mean --text-field 'txt'?",
        ),
        ("a.csv", "id,body\n1,x", "a.csv:1: no field 'text', only ['id', 'body']"),
        (
            "a.csv",
            "id,Text\n1,x",
            "a.csv:1: no field 'text', only ['id', 'Text']; did you mean --text-field 'Text'?",
        ),
        (
            "a.csv",
            "id,text\n1,x\n2,x, y",
            "a.csv:3: 3 fields, but the header has 2; text that contains commas must be quoted",
        ),
        ("a.csv", 'id,text\n1,"x\n\n', "a.csv:2: not CSV: unexpected end of data"),
        ("a.csv", "id,text\n", "a.csv is blank: it contains no text to train on"),
        ("a.jsonl", '{"text": ""}\n', "a.jsonl is blank: it contains no text to train on"),
    ],
)
def test_a_bad_row_is_an_error_with_file_and_line(name, content, line):
    assert refusal(write(name, content)).startswith(line)


def test_a_very_long_value_is_shortened_in_the_error():
    assert len(refusal(write("a.csv", "x" * 200_000))) < 200
    assert len(refusal(write("a.jsonl", json.dumps(["x" * 200_000])))) < 200


# Folders and globs


@pytest.fixture
def tree():
    for name in ("b.txt", "a/z.md", "a.py", "c/d/e.jsonl.gz", "a/B.CSV", "c.png", "a/x.log", ".hidden.txt", ".h/a.txt"):
        write(f"t/{name}", f"text\n{name}")
    write("t/c/d/e.jsonl.gz", gzip.compress(b'{"text": "c/d/e.jsonl.gz"}'))
    write("t/empty.py", "")
    Path("t/folder.txt").mkdir()


def lines(corpus):
    return [line for line in corpus.text.split("\n") if line not in ("", "text")]


def test_a_folder_is_walked_in_the_order_of_the_paths(tree):
    corpus = load(["t"])
    assert lines(corpus) == ["a/B.CSV", "a/z.md", "a.py", "b.txt", "c/d/e.jsonl.gz"]
    assert corpus.name == "t"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("t/*", ["a.py", "b.txt"]),
        ("t/**", ["a/B.CSV", "a/z.md", "a.py", "b.txt", "c/d/e.jsonl.gz"]),
        ("t/**/*.log", ["a/x.log"]),
        ("t/*.png", ["c.png"]),
        ("t/[ab].*", ["a.py", "b.txt"]),
        ("t/?/z.md", ["a/z.md"]),
        ("t/.h/*", [".h/a.txt"]),
    ],
)
def test_a_glob_means_the_files_it_matches(tree, pattern, found):
    corpus = load([pattern])
    assert lines(corpus) == found
    assert corpus.name == pattern


def test_an_absolute_glob(tree, here):
    assert lines(load([f"{here}/t/*.txt"])) == ["b.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file():
    assert load([write("a[1].txt", "one")]) == Corpus("one", "a[1].txt")


def test_a_folder_or_glob_without_text_files_names_the_suffixes():
    write("t/a.png", "x")
    suffixes_named = "no file in it ends in .txt, .md, .py, .jsonl, .csv (with or without .gz)"
    assert refusal("t") == f"'t': {suffixes_named}"
    assert refusal("t/*") == f"'t/*': {suffixes_named}"
    assert refusal("t/*.log") == "'t/*.log': no file in it ends in .log (with or without .gz)"


def test_a_folder_of_blank_files_is_blank():
    write("t/a.txt", " \n")
    write("t/b.py", "")
    assert refusal("t") == "t is blank: it contains no text to train on"


def test_a_bad_file_in_a_folder_is_named():
    write("t/a.txt", "fine")
    write("t/b/c.txt", b"\x89PNG")
    assert refusal("t").startswith(f"{Path('t/b/c.txt')}: byte 0x89 at offset 0 is not UTF-8")


def test_a_linked_folder_is_not_entered():
    write("t/a.txt", "once")
    Path("t/loop").symlink_to("../t", target_is_directory=True)
    assert load(["t"]).text == "once"


def test_a_folder_that_cannot_be_listed_is_an_error(monkeypatch):
    write("t/a.txt", "fine")

    def scandir(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert refusal("t") == "t cannot be read: Permission denied"


# What is refused


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"abc\xff", "a.txt: byte 0xff at offset 3 is not UTF-8; it must be text in UTF-8"),
        (b"\xef\xbb\xbfabc\xe4\xf6", "a.txt: byte 0xe4 at offset 6 is not UTF-8; it must be text in UTF-8"),
        (b"abc\0def", "a.txt: the byte at offset 3 is NUL, as in binary files; it must be text in UTF-8"),
        (
            "utf-16".encode("utf-16-le"),
            "a.txt: the byte at offset 1 is NUL, as in binary files; it must be text in UTF-8",
        ),
        (b"", "a.txt is blank: it contains no text to train on"),
        (b" \r\n\t\n", "a.txt is blank: it contains no text to train on"),
        (b"\xef\xbb\xbf", "a.txt is blank: it contains no text to train on"),
    ],
)
def test_a_file_that_is_not_text_is_an_error_with_the_offset(content, line):
    assert refusal(write("a.txt", content)) == line


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"cut short")[:-6], gzip.compress(b"x" * 99)[:11] + b"x"],
    ids=["no gzip", "cut short", "broken"],  # what is packed holds the time
)
def test_a_broken_gz_is_one_line(content):
    assert refusal(write("a.txt.gz", content)).startswith("a.txt.gz cannot be read: ")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no socket files here")
def test_an_unreadable_file_is_one_line():
    with socket.socket(socket.AF_UNIX) as listener:  # even root cannot open one
        listener.bind("a.txt")
        assert re.fullmatch("a.txt cannot be read: .+", refusal("a.txt"))


def test_a_name_too_long_for_a_file_is_one_line():
    refusal("x" * 5000)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("shakespear", "no such file or folder: 'shakespear'; did you mean shakespeare?"),
        ("Python", "no such file or folder: 'Python'; did you mean python?"),
        ("nots.txt", "no such file or folder: 'nots.txt'; did you mean notes.txt?"),
        ("deep/nots.txt", f"no such file or folder: 'deep/nots.txt'; did you mean {Path('deep/notes.txt')}?"),
        ("deep/notes.log", f"no such file or folder: 'deep/notes.log'; did you mean {Path('deep/notes.txt')}?"),
        ("zzzzzz.txt", "no such file or folder: 'zzzzzz.txt'; the corpora are python and shakespeare"),
        ("zzzzzy.log", "no such file or folder: 'zzzzzy.log'; did you mean zzzzzz.log?"),
        ("deeep", "no such file or folder: 'deeep'; did you mean deep?"),
        ("dope", "no such file or folder: 'dope'; the corpora are python and shakespeare"),
        ("deep.txt", "no such file or folder: 'deep.txt'; the corpora are python and shakespeare"),
        ("qqq", "no such file or folder: 'qqq'; the corpora are python and shakespeare"),
        ("", "no such file or folder: ''; the corpora are python and shakespeare"),
        ("a\0/b", "no such file or folder: 'a\\x00/b'; the corpora are python and shakespeare"),
        ("a\nb\0", "no such file or folder: 'a\\nb\\x00'; the corpora are python and shakespeare"),
    ],
)
def test_a_missing_source_names_the_nearest(source, line):
    write("notes.txt", "x")
    write("deep/notes.txt", "x")
    write("zzzzzz.log", "x")  # of no known suffix: only who asks for another such file can have meant it
    assert refusal(source) == line


# The corpus


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 19, 70, 1_115_394])
def test_split_is_90_to_10_in_order(length):
    text = "".join(map(chr, range(97, 123))) * (length // 26 + 1)
    train, held_out = Corpus(text[:length], "x").split()
    assert train + held_out == text[:length]
    assert len(train) == int(length * 0.9)


def test_the_tuning_part_is_the_end_of_the_training_part():
    text = "".join(map(chr, range(97, 123))) * 40
    train, tuning = Corpus(text, "x").split("tuning")
    assert train + tuning == Corpus(text, "x").split()[0]
    assert len(train) == len(train + tuning) * 95 // 100


def test_a_part_shorter_than_a_window_is_an_error_with_the_options_that_fit():
    check_length(256, 256, 256, 255, "x")
    for size, fits in [
        ((2304, 120, 256, 16), ", or --window 120"),
        ((120, 2304, 256, 16), ", or --window 120"),
        ((150, 17, 256, 16), ", or --window 17"),
        ((150, 16, 256, 16), ", or --window 16 --context 4"),
        ((9, 2, 256, 16), ", or --window 2 --context 0"),
        ((9, 2, 256, 1), ", or --window 2"),
        ((1, 1, 256, 16), ", or --window 1 --context 0"),
        ((0, 1, 256, 16), ""),
    ]:
        least = min(size[:2])
        part = "held-out" if size[1] == least else "training"
        many = "token" if least == 1 else "tokens"
        with pytest.raises(TdiffError) as caught:
            check_length(*size, "notes.txt")
        assert str(caught.value) == (
            f"the {part} part of notes.txt has {least} {many}; model.window is 256: give more text{fits}"
        )


def test_python_is_the_language_reference_without_repetitions():
    corpus = load(["python"])
    paragraphs = corpus.text.split("\n\n")
    assert corpus == load(["python"])
    assert corpus.name == "python" and not corpus.note
    assert len(corpus.text) > 200_000
    assert len(paragraphs) == len(set(paragraphs))
    assert 'The "assert" statement' in corpus.text
    assert "“" in corpus.text
    corpus.text.encode()


def test_python_without_pydoc_data_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert "name a text file instead" in refusal("python")


def test_a_bare_name_is_the_corpus_and_a_path_the_file():
    write("python/a.txt", "a snake")
    write("shakespeare", "a poet")
    assert load(["python"]).text != "a snake"
    assert load(["./python"]) == Corpus("a snake", "./python")
    assert load(["./shakespeare"]) == Corpus("a poet", "./shakespeare")


# Shakespeare


def test_shakespeare_is_fetched_once_with_progress_and_then_cached(server, here):
    calls = []
    corpus = load(["shakespeare"], progress=lambda done, total: calls.append((done, total)))
    assert corpus == Corpus(PLAY.decode(), "shakespeare")
    assert calls[0] == (0, len(PLAY)) and calls[-1] == (len(PLAY), len(PLAY))
    assert calls == sorted(calls) and len(calls) > 2
    assert cached(here) == ["shakespeare.txt"]
    assert load(["shakespeare"]) == corpus
    assert server.requests == 1


def test_a_damaged_cache_is_downloaded_again(server, here):
    write(here.parent / "cache" / "tdiff" / "shakespeare.txt", b"x" * len(PLAY))
    assert load(["shakespeare"]).text == PLAY.decode()
    assert load(["shakespeare"]).text == PLAY.decode()
    assert server.requests == 1


def test_a_body_of_unknown_length(server):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + PLAY)

    server.answer = answer
    assert load(["shakespeare"]).name == "shakespeare"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda handler: send(handler, PLAY[:-1] + b"!"), "the file has another sha256"),
        (lambda handler: send(handler, PLAY + b"!"), "the file has another sha256"),
        (lambda handler: send(handler, b"", status=404), "HTTP Error 404: Not Found"),
        (lambda handler: send(handler, PLAY[:1000], promised=len(PLAY)), "only 1,000 of 248,000 bytes arrived"),
        (lambda handler: send(handler, b"<html>log in</html>"), "only 19 of 248,000 bytes arrived"),
        (lambda handler: handler.wfile.write(b"\x1b[31mnot http\r\n\r\n"), "␛[31mnot http"),
        (lambda handler: None, "Remote end closed connection without response"),
    ],
)
def test_a_failed_fetch_is_an_error_with_the_reason(server, here, answer, reason):
    server.answer = answer
    assert refusal("shakespeare") == (
        f"shakespeare is not cached and could not be fetched ({reason}); set TDIFF_SHAKESPEARE=FILE to a copy of it"
    )
    assert cached(here) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://no.such.host.invalid/", "nonsense", "file:///no/such"])
def test_an_unreachable_address_has_an_error_class_of_its_own(monkeypatch, url):
    monkeypatch.setenv("TDIFF_SHAKESPEARE_URL", url)
    with pytest.raises(named.Absent) as caught:
        load([write("a.txt", "more"), "shakespeare"])
    assert str(caught.value).startswith(f"{caught.value.reason}; set ")
    assert caught.value.reason.startswith("shakespeare is not cached") and "\n" not in caught.value.reason


def test_the_wait_for_a_silent_server_is_limited(server, monkeypatch, here):
    monkeypatch.setattr(named, "STALL_SECONDS", 0.4)
    server.answer = lambda handler: server.wait()
    start = time.monotonic()
    assert "(the server fell silent after 0 of 248,000 bytes)" in refusal("shakespeare")
    server.answer = lambda handler: (send(handler, PLAY[:1000], promised=len(PLAY)), server.wait())
    assert "(the server fell silent after 1,000 of 248,000 bytes)" in refusal("shakespeare")
    assert time.monotonic() - start < 5
    assert cached(here) == []


def test_the_wait_for_the_lookup_of_a_name_is_limited(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(named, "STALL_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: over.wait(10) and [])
    start = time.monotonic()
    assert "(the server fell silent after 0 of 1,115,394 bytes)" in refusal("shakespeare")
    assert time.monotonic() - start < 5
    over.set()


def test_the_wait_for_a_very_slow_server_is_limited(server, monkeypatch):
    monkeypatch.setattr(named, "FETCH_SECONDS", 0.3)

    def answer(handler):
        send(handler, b"", promised=len(PLAY))
        while not server.over.wait(0.01):
            handler.wfile.write(b"x")

    server.answer = answer
    start = time.monotonic()
    assert " bytes arrived within 0.3 seconds)" in refusal("shakespeare")
    assert time.monotonic() - start < 5


def test_an_endless_body_is_not_read_to_its_end(server):
    def answer(handler):
        send(handler, b"", promised=10**12)
        while not server.over.is_set():
            handler.wfile.write(PLAY)

    server.answer = answer
    assert "(the file has another sha256)" in refusal("shakespeare")


def test_a_cache_that_cannot_be_written_is_a_note(server, here):
    write(here.parent / "cache", "a file where the folder should be")
    corpus = load(["shakespeare"])
    assert corpus.text == PLAY.decode() and corpus.name == "shakespeare"
    assert corpus.note.startswith("shakespeare could not be saved in ") and "\n" not in corpus.note


def test_a_failed_write_leaves_no_part_behind(server, here, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert "No space left on device" in load(["shakespeare"]).note
    assert cached(here) == []


def test_the_environment_variable_can_name_a_copy(play, monkeypatch, here):
    monkeypatch.setenv("TDIFF_SHAKESPEARE", write("copy", PLAY))
    assert load(["shakespeare"]) == Corpus(PLAY.decode(), "shakespeare")
    assert cached(here) == []


def test_the_environment_variable_must_name_an_exact_copy(play, monkeypatch):
    monkeypatch.setenv("TDIFF_SHAKESPEARE", write("copy", "something else"))
    assert refusal("shakespeare").startswith("TDIFF_SHAKESPEARE=copy must name 248,000 bytes with sha256 ")
    monkeypatch.setenv("TDIFF_SHAKESPEARE", "nowhere")
    assert refusal("shakespeare") == "TDIFF_SHAKESPEARE=nowhere cannot be read: No such file or directory"


def test_a_local_file_with_the_same_sha256_is_shakespeare(play, monkeypatch):
    assert load([write("input.txt", PLAY)]).name == "shakespeare"
    assert load([write("input.txt.gz", gzip.compress(PLAY))]).name == "shakespeare"
    assert load([write("other.txt", PLAY + b"!")]).name == "other.txt"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PLAY)))
    assert load(["-"]).name == "shakespeare"


@pytest.mark.skipif(not REAL.exists(), reason=f"NOT TESTED with the real text: {REAL} is absent")
def test_the_real_text_is_recognized(monkeypatch):
    corpus = load([str(REAL)])
    assert corpus.name == "shakespeare" and len(corpus.text) == 1_115_394
    train, held_out = corpus.split()
    assert (len(train), len(held_out)) == (1_003_854, 111_540)
    monkeypatch.setenv("TDIFF_SHAKESPEARE_URL", REAL.as_uri())
    assert load(["shakespeare"]) == corpus


def test_importing_the_module_is_cheap():
    heavy = {"torch", "numpy", "urllib.request", "platformdirs"}
    program = f"import sys, tdiff.corpus.corpus; print(*{heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ran.stdout.split() == []
