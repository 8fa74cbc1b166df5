"""Text to train on: files, folders, globs, stdin and the named corpora, as one string in a fixed order.

What cannot be read is refused with one line that names it, or left out and told of where texts have labels: nothing is
guessed or repaired. It does not know what a token is, nor who draws the progress of a fetch.
"""

from __future__ import annotations

import csv
import difflib
import functools
import glob
import gzip
import hashlib
import io
import json
import os
import random
import re
import reprlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tdiff.corpus import named as corpora
from tdiff.corpus.named import Progress
from tdiff.errors import TdiffError, unknown
from tdiff.visible import visible_line

SUFFIXES: tuple[str, ...] = (".txt", ".md", ".py", ".jsonl", ".csv")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")  # JSON can spell these; a text file cannot hold them
_short = reprlib.Repr()  # what came may be a whole book: an error shows the start of it
_short.maxlist, _short.maxstring = 12, 40


@dataclass(frozen=True, slots=True)
class Corpus:
    """Text, and what it is."""

    text: str
    """The whole of it; never blank when it comes from `load`."""
    name: str
    """What it really is: shakespeare, python, stdin, or the file, folder or glob; safe to print."""
    note: str = ""
    """One line of talk for stderr: where it could not be kept, which rows were left out; else empty."""
    texts: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What it was joined from, none of it blank: rows of .jsonl and .csv files, lines of others."""
    labels: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The class of each text, where they were asked for."""
    reserved: int = 0
    """Characters at the end that were named to be held out; 0: a tenth is ..."""
    reserved_texts: int = 0
    """... and the texts that they are."""

    def sha256(self) -> str:
        """Of the whole text in UTF-8, as hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def split(self, held_out: str = "tenth", rows: str = "packed", only: str = "") -> tuple[str, str]:
        """The training part, which is the first 90% of the characters rounded down, and the held-out rest.

        Where text was named to be held out it is that, and the training part all other.
        With `held_out` "tuning" both come from the training part: its first 95%, rounded down, and what follows, by
        which models are chosen while the held-out tenth stays unread. Where `rows` are "padded" no text is cut in two,
        and the parts are those of `split_texts`, of the class `only` where one is named.
        """
        if rows == "padded":
            before, after = self.split_texts(held_out, only)
            return _join(before), _join(after)
        cut = len(self.text) - self.reserved if self.reserved else len(self.text) * 9 // 10
        if held_out == "tenth":
            return self.text[:cut], self.text[cut:]
        tuning = cut * 95 // 100
        return self.text[:tuning], self.text[tuning:cut]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels there are, in order."""
        return tuple(sorted(set(self.labels)))

    def split_texts(self, held_out: str = "tenth", only: str = "") -> tuple[list[str], list[str]]:
        """As `split`, by texts: the first 90% of them, rounded down, or 95% of those, and what follows."""
        before, after = self.split_places(held_out, only)
        return [self.texts[n] for n in before], [self.texts[n] for n in after]

    def split_places(self, held_out: str = "tenth", only: str = "") -> tuple[list[int], list[int]]:
        """The numbers of the texts to train on, and of those held out; of the class `only`, where one is named.

        Texts of several classes are shuffled, always alike, and every class is split by itself: files are often sorted.
        """
        labels = self.labels or ("",) * len(self.texts)
        only = only if self.labels else ""  # a text that is given without labels is what it is
        named = [n for n in range(len(labels) - self.reserved_texts, len(labels)) if only in ("", labels[n])]
        groups: dict[str, list[int]] = {}
        for n, label in enumerate(labels[: len(labels) - self.reserved_texts]):
            if only in ("", label):
                groups.setdefault(label, []).append(n)
        before, after = [], []
        for label in sorted(groups):
            places = groups[label]
            if self.labels:
                random.Random(f"held out {label}").shuffle(places)
            cut = len(places) if self.reserved_texts else len(places) * 9 // 10
            first, last = (cut, len(places)) if held_out == "tenth" else (cut * 95 // 100, cut)
            before += places[:first]
            after += places[first:last]
        return before, named if self.reserved_texts and held_out == "tenth" else after


def load(
    sources: Sequence[str],
    text_field: str = "text",
    progress: Progress | None = None,
    label_field: str | None = None,
    evaluation: Sequence[str] = (),
) -> Corpus:
    r"""The text of all `sources`, in the order given.

    A source is a file, a folder, a glob, `-` (stdin) or a named corpus; those bare names win over files so called,
    which `./python` reaches. A folder is walked for files with one of SUFFIXES, without hidden ones and linked folders.
    A glob means the files it matches, with one of SUFFIXES unless the pattern ends in another (`*.log`). Both are read
    in the order of their paths. A file named outright may have any suffix: all but .jsonl and .csv are plain text, and
    .gz after a suffix is unpacked.

    Text is UTF-8; a byte-order mark is dropped and \r\n becomes \n, else it is kept as it is. Sources, files, and the
    rows' `text_field` of .jsonl and .csv files are joined with a blank line ("\n\n"); blank rows, and blank files of a
    folder or glob, add nothing. `progress(done, total)`, in bytes, is called while shakespeare is fetched.

    With a `label_field` each text has a label: that field of rows; of the other files of a folder, each of which is one
    text, the name of the folder in it that they are in. Two classes at least must come of it.
    What the sources `evaluation` hold comes last, and is to be held out; it has no class that the others lack.
    Malformed rows of texts with labels are left out, as `note` says, as long as the file has others.

    Raises TdiffError for a source that does not exist, cannot be read, is not text, is blank, or has a malformed row
    and is not to have labels, and corpora.Absent, a TdiffError, for shakespeare where it cannot be fetched: no other
    text stands in for it here.
    """
    parts = [_load(source, (text_field, label_field), progress) for source in sources]
    names = [part.name for part in parts]
    name = " + ".join(names[:3]) + (f" + {len(names) - 3} more" if len(names) > 3 else "")
    whole = _together(parts, name)
    if evaluation:
        last = [_load(source, (text_field, label_field), progress) for source in evaluation]
        whole = _reserving(whole, _together(last, name))
    if label_field is not None and len(whole.classes) < _TWO:
        raise TdiffError(f"{name} has texts of one class alone, {whole.classes[0]!r}: there is nothing to tell apart")
    return whole


def check_length(training: int, held_out: int, window: int, context: int, name: str) -> None:
    """Raises TdiffError where a part of the corpus `name`, of so many tokens, cannot fill one window of the model.

    It names the options with which both parts could.
    """
    tokens, part = min((held_out, "held-out"), (training, "training"))
    if tokens < window:
        fits = f", or --window {tokens}" if tokens else ""
        if tokens and context >= tokens:
            fits += f" --context {tokens // 4}"
        have = f"the {part} part of {name} has {tokens:,} token{'s' * (tokens != 1)}"
        raise TdiffError(f"{have}; model.window is {window}: give more text{fits}")


Fields = tuple[str, str | None]
"""Of rows: the one that holds the text, and the one with the label where labels are wanted."""
Row = tuple[str, str] | TdiffError
"""Its text and its label, or what is wrong with it."""
_TWO = 2
_TOLD = 5
"""How many of the bad rows of a file are told of one by one."""


def _load(source: str, fields: Fields, progress: Progress | None) -> Corpus:
    label = "stdin" if source == "-" else visible_line(source)
    if fields[1] is not None and source in ("-", *corpora.NAMES):
        raise TdiffError(f"{label} has no labels: classes are read from rows of .jsonl and .csv files, or from folders")
    if source == "python":
        return _whole(corpora.python(), source)
    if source == "shakespeare":
        data, note = corpora.shakespeare(progress)
        return replace(_corpus(data, source, source), name=source, note=note)
    path = Path(source)
    try:
        exists = source != "" and path.exists()  # Path("") is the current folder
        if source == "-":
            corpus = _corpus(sys.stdin.buffer.read(), label, label)
        elif exists and not path.is_dir():
            corpus = _read(path, fields)
        elif exists or glob.has_magic(source):
            root = path if exists else None
            corpus = _together([_read(file, fields, root) for file in files(source)], label)
        else:
            raise _missing(source)
    except OSError as why:
        raise _unreadable(label, why) from None
    if not corpus.text:
        raise TdiffError(f"{label} is blank: it holds no text to train on")
    return corpus


def _join(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text and not text.isspace())


def _together(parts: Sequence[Corpus], name: str) -> Corpus:
    """Several texts as one, with what is to be told of each."""
    return Corpus(
        _join(part.text for part in parts),
        name,
        "; ".join(part.note for part in parts if part.note),
        texts=tuple(text for part in parts for text in part.texts),
        labels=tuple(label for part in parts for label in part.labels),
    )


def _reserving(training: Corpus, last: Corpus) -> Corpus:
    """Both, the second to be held out. Raises TdiffError where it has a class that the first lacks."""
    if strange := sorted(set(last.labels) - set(training.labels)):
        raise unknown("class in the text to hold out", strange[0], training.classes)
    both = _together([training, last], training.name)
    return replace(both, reserved=len(last.text), reserved_texts=len(last.texts))


def files(source: str) -> list[Path]:
    """The files that a folder or a glob stands for, sorted. Raises TdiffError where there are none."""
    path, suffixes = Path(source), SUFFIXES
    if path.is_dir():
        found = _walk(path)
    else:
        found = map(Path, glob.iglob(source, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        own = _suffix(path)
        suffixes = (own,) if own and not glob.has_magic(own) else SUFFIXES
    files = {path for path in found if _suffix(path) in suffixes and path.is_file()}
    if not files:
        raise TdiffError(f"{source!r}: no file there ends in {', '.join(suffixes)} (with or without .gz)")
    return sorted(files, key=lambda path: path.parts)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(why: OSError) -> None:  # os.walk would pass over what it cannot list
        raise _unreadable(str(why.filename), why)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read(path: Path, fields: Fields, root: Path | None = None) -> Corpus:
    """A file; `root` is the folder it was found in."""
    label, name = visible_line(str(path)), visible_line(path.name)
    corpus = _corpus(_bytes(path, label), label, f"./{name}" if name in corpora.NAMES else name)
    rows = {".jsonl": _jsonl, ".csv": _csv}.get(_suffix(path))
    if rows:
        read = list(rows(corpus.text, label, fields))
        wrong = [row for row in read if isinstance(row, TdiffError)]
        sound = [row for row in read if not isinstance(row, TdiffError)]
        if wrong and not sound:
            raise wrong[0]
        found = [(text, kind) for text, kind in sound if text and not text.isspace()]
        return Corpus(
            _join(text for text, _ in found),
            corpus.name,
            note=_left_out(label, wrong, len(sound) - len(found)) if fields[1] is not None else "",
            texts=tuple(text for text, _ in found),
            labels=tuple(kind for _, kind in found) if fields[1] is not None else (),
        )
    if fields[1] is None or not corpus.text:
        return corpus
    inside = path.relative_to(root).parts[:-1] if root else ()
    if not inside:
        raise TdiffError(f"{label} has no label: plain text is labelled by the folder it is in, below the one given")
    return replace(corpus, texts=(corpus.text,), labels=(inside[0],))


def _whole(text: str, name: str) -> Corpus:
    """A text whose lines are its texts."""
    return Corpus(text, name, texts=tuple(line for line in text.split("\n") if line and not line.isspace()))


def _bytes(path: Path, label: str) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as why:
        raise _unreadable(label, why) from None


def _corpus(data: bytes, label: str, name: str) -> Corpus:
    """Bytes as text; blank text as the empty one. Raises TdiffError with the offset of what is not text."""
    rule = "it must be text in UTF-8"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as why:
        raise TdiffError(f"{label}: byte 0x{data[why.start]:02x} at offset {why.start} is not UTF-8; {rule}") from None
    if (nul := data.find(0)) >= 0:
        raise TdiffError(f"{label}: the byte at offset {nul} is NUL, as in binary files; {rule}")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return _whole("" if text.isspace() else text, "shakespeare" if corpora.is_shakespeare(data) else name)


def _left_out(label: str, wrong: Sequence[TdiffError], blank: int) -> str:
    """What is told of rows that are not learnt from: the first of them with what is wrong, and how many others."""
    told = [*map(str, wrong[:_TOLD])]
    if len(wrong) > _TOLD:
        told.append(f"{len(wrong) - _TOLD:,} more such rows of {label}")
    if blank:
        told.append(f"{blank:,} {'row' if blank == 1 else 'rows'} of {label} without text")
    return f"left out: {'; '.join(told)}" if told else ""


def _jsonl(text: str, label: str, fields: Fields) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _or_why(_object, line, f"{label}:{number}", fields)


def _or_why(read: Callable[[Any, str, Fields], tuple[str, str]], row: Any, where: str, fields: Fields) -> Row:
    """The text and the label of a row; what is wrong with it, where labels are asked for, else that is raised."""
    try:
        return read(row, where, fields)
    except TdiffError as why:
        if fields[1] is None:
            raise
        return why


def _object(line: str, where: str, fields: Fields) -> tuple[str, str]:
    field, kind = fields
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as why:  # a number of 5,000 digits is a ValueError too
        reason = f"{why.msg} at column {why.colno}" if isinstance(why, json.JSONDecodeError) else why
        raise TdiffError(f"{where} is not JSON: {reason}") from None
    if not isinstance(row, dict):
        raise TdiffError(f"{where} must be an object with a field {field!r}; got {_short.repr(row)}")
    for name in filter(None, fields):
        if name not in row:
            raise no_field(where, name, list(row), "--label-field" if name == kind else "--text-field")
    value = row[field]
    if not isinstance(value, str):
        raise TdiffError(f"{where}: field {field!r} must be text; got {_short.repr(value)}")
    if bad := _NOT_TEXT.search(value):
        raise TdiffError(f"{where}: field {field!r} holds U+{ord(bad[0]):04X}, which text cannot")
    return value.replace("\r\n", "\n"), label_of(row[kind], where, kind) if kind is not None else ""


def label_of(value: object, where: str, field: str) -> str:
    """The name of a class: text, or a number as it is written."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise TdiffError(f"{where}: field {field!r} must be the name of a class; got {_short.repr(value)}")
    return str(value).strip()


def _csv(text: str, label: str, fields: Fields) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # by default a text above 128 KiB is refused; this fits every platform's C long
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)  # strict: an open quote would swallow the rest
    header: list[str] = []
    line = 1  # where the next row begins
    try:
        for row in rows:
            where, line = f"{label}:{line}", rows.line_num + 1
            if row and not header:
                header = row
                for name in filter(None, fields):
                    if name not in header:
                        raise no_field(where, name, header, "--label-field" if name == fields[1] else "--text-field")
            elif row:
                yield _or_why(functools.partial(_record, header), row, where, fields)
    except csv.Error as why:
        raise TdiffError(f"{label}:{line} is not CSV: {why}") from None


def _record(header: list[str], row: list[str], where: str, fields: Fields) -> tuple[str, str]:
    field, kind = fields
    if len(row) != len(header):
        counts = f"{len(row)} fields and the header {len(header)}"
        raise TdiffError(f"{where} has {counts}; text that holds commas must be quoted")
    return row[header.index(field)], label_of(row[header.index(kind)], where, kind) if kind is not None else ""


def no_field(where: str, field: str, fields: list[str], option: str) -> TdiffError:
    """The error for rows without such a field: it names the nearest there is, to be given as `option`."""
    near = difflib.get_close_matches(field, fields, n=1)
    hint = f"; did you mean {option} {near[0]!r}?" if near else ""
    return TdiffError(f"{where} has no field {field!r}, only {_short.repr(fields)}{hint}")


def _missing(source: str) -> TdiffError:
    """The error for a name of nothing: it names the nearest thing that could be read."""
    path, files, folders = Path(source), list(corpora.NAMES), []
    with suppress(OSError, ValueError), os.scandir(path.parent) as entries:  # ValueError: a name with NUL
        for entry in entries:
            beside = str(path.parent / entry.name)
            if entry.is_dir():
                folders.append(beside)
            elif _suffix(Path(beside)) in {*SUFFIXES, _suffix(path)}:
                files.append(beside)
    near = difflib.get_close_matches(source, files, n=1)
    if not near and not _suffix(path):  # /nope.txt was no folder, and /nope is far from /opt
        near = difflib.get_close_matches(source, folders, n=1, cutoff=0.7)
    hint = f"did you mean {visible_line(near[0])}?" if near else f"the corpora are {' and '.join(corpora.NAMES)}"
    return TdiffError(f"no such file or folder: {source!r}; {hint}")


def _unreadable(label: str, why: Exception) -> TdiffError:
    return TdiffError(f"{visible_line(label)} cannot be read: {getattr(why, 'strerror', None) or why}")
