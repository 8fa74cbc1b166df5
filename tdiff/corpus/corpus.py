"""Text to train on: files, folders, globs, stdin and the named corpora, as one string in a fixed order.

Input that cannot be read raises an error that names it; labelled text leaves bad rows out and says so in a note.
Nothing is guessed or repaired. This module knows no tokens and draws no progress.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tdiff.corpus import named
from tdiff.corpus.named import Progress
from tdiff.corpus.readers import SUFFIXES, Fields, Row, csv_rows, files, json_rows, read_bytes, suffix, unreadable
from tdiff.errors import TdiffError, unknown
from tdiff.visible import visible_line


@dataclass(frozen=True, slots=True)
class Corpus:
    """A training corpus."""

    text: str
    """All of its text; never blank when it comes from `load`."""
    name: str
    """What it is: shakespeare, python, stdin, or the file, folder or glob; safe to print."""
    note: str = ""
    """One line for stderr: a cache that could not be written, rows that were left out; else empty."""
    texts: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The texts that it was joined from, none of them blank: rows of .jsonl and .csv files, lines of others."""
    labels: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The class of every text, if labels were read."""
    reserved: int = 0
    """Characters at the end that are held out because the user named them; 0: a tenth is held out."""
    reserved_texts: int = 0
    """The number of texts in them."""

    def sha256(self) -> str:
        """Return the SHA-256 of the text in UTF-8, as hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def split(self, held_out: str = "tenth", rows: str = "packed", only: str = "") -> tuple[str, str]:
        """Return the training part, which is the first 90% of the characters rounded down, and the held-out rest.

        If the user named text to hold out, that is the held-out part and all other text is the training part.
        With `held_out` "tuning" both parts come from the training part: its first 95%, rounded down, and the rest, on
        which models are selected while the held-out tenth stays unread. With "padded" `rows` no text is cut in two, and
        the parts are those of `split_texts`, of the class `only` if there is one.
        """
        if rows == "padded":
            training, rest = self.split_texts(held_out, only)
            return _join(training), _join(rest)
        cut = len(self.text) - self.reserved if self.reserved else len(self.text) * 9 // 10
        if held_out == "tenth":
            return self.text[:cut], self.text[cut:]
        tuning = cut * 95 // 100
        return self.text[:tuning], self.text[tuning:cut]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted(set(self.labels)))

    def split_texts(self, held_out: str = "tenth", only: str = "") -> tuple[list[str], list[str]]:
        """Split as `split` does, by texts: the first 90% of them, rounded down, or 95% of those, and the rest."""
        training, rest = self.split_indices(held_out, only)
        return [self.texts[n] for n in training], [self.texts[n] for n in rest]

    def split_indices(self, held_out: str = "tenth", only: str = "") -> tuple[list[int], list[int]]:
        """Return the indices of the training texts and of the held-out texts, of the class `only` if there is one.

        Texts with classes are shuffled, always in the same order, and every class is split by itself, because files are
        often sorted by class.
        """
        labels = self.labels or ("",) * len(self.texts)
        only = only if self.labels else ""
        reserved = [n for n in range(len(labels) - self.reserved_texts, len(labels)) if only in ("", labels[n])]
        by_class: dict[str, list[int]] = {}
        for n, label in enumerate(labels[: len(labels) - self.reserved_texts]):
            if only in ("", label):
                by_class.setdefault(label, []).append(n)
        training, rest = [], []
        for label in sorted(by_class):
            indices = by_class[label]
            if self.labels:
                random.Random(f"held out {label}").shuffle(indices)
            cut = len(indices) if self.reserved_texts else len(indices) * 9 // 10
            first, last = (cut, len(indices)) if held_out == "tenth" else (cut * 95 // 100, cut)
            training += indices[:first]
            rest += indices[first:last]
        return training, reserved if self.reserved_texts and held_out == "tenth" else rest


def load(
    sources: Sequence[str],
    text_field: str = "text",
    progress: Progress | None = None,
    label_field: str | None = None,
    evaluation: Sequence[str] = (),
) -> Corpus:
    r"""Return the text of all `sources`, in the order in which they are named.

    A source is a file, a folder, a glob, `-` (stdin) or a named corpus. The bare name of a corpus has precedence over a
    file of that name, which `./python` reaches. `readers.files` says which files a folder or a glob means, and they are
    read in the order of their paths. A file that is named outright may have any suffix: all but .jsonl and .csv are
    plain text, and .gz after a suffix is unpacked.

    Text is UTF-8; a byte-order mark is dropped and \r\n becomes \n, else it stays as it is. Sources, files, and the
    `text_field` of rows of .jsonl and .csv files are joined with a blank line ("\n\n"); blank rows, and blank files of
    a folder or glob, add nothing. `progress(done, total)`, in bytes, is called while shakespeare is fetched.

    With a `label_field` every text has a label: that field of a row; for the other files of a folder, each of which is
    one text, the name of its subfolder. There must be at least two classes. Malformed rows of labelled text are left
    out, as `note` says, if the file has other rows. The sources `evaluation` come last and are held out; they may have
    no class that the others lack.

    Raises TdiffError for a source that does not exist, cannot be read, is not text, is blank, or has a malformed row
    (see above for labels), and named.Absent, a TdiffError, for shakespeare if it cannot be fetched: no other text
    replaces it here.
    """
    fields = Fields(text_field, label_field)
    parts = [_load(source, fields, progress) for source in sources]
    names = [part.name for part in parts]
    name = " + ".join(names[:3]) + (f" + {len(names) - 3} more" if len(names) > 3 else "")
    corpus = _merged(parts, name)
    if evaluation:
        held_out = [_load(source, fields, progress) for source in evaluation]
        corpus = _with_held_out(corpus, _merged(held_out, name))
    if label_field is not None and len(corpus.classes) < _CLASSES_LEAST:
        raise TdiffError(f"{name} has texts of one class only, {corpus.classes[0]!r}: classification needs two or more")
    return corpus


def check_length(training: int, held_out: int, window: int, context: int, name: str) -> None:
    """Raises TdiffError if a part of the corpus `name`, in tokens, is shorter than one window of the model.

    The error names the options with which both parts are long enough.
    """
    tokens, part = min((held_out, "held-out"), (training, "training"))
    if tokens < window:
        fits = f", or --window {tokens}" if tokens else ""
        if tokens and context >= tokens:
            fits += f" --context {tokens // 4}"
        have = f"the {part} part of {name} has {tokens:,} token{'s' * (tokens != 1)}"
        raise TdiffError(f"{have}; model.window is {window}: give more text{fits}")


_CLASSES_LEAST = 2
_REPORTED = 5
"""How many bad rows of a file the note describes."""


def _load(source: str, fields: Fields, progress: Progress | None) -> Corpus:
    label = "stdin" if source == "-" else visible_line(source)
    if fields.label is not None and source in ("-", *named.NAMES):
        raise TdiffError(f"{label} has no labels: classes are read from rows of .jsonl and .csv files, or from folders")
    if source == "python":
        return _by_lines(named.python(), source)
    if source == "shakespeare":
        data, note = named.shakespeare(progress)
        return replace(_decoded(data, source, source), name=source, note=note)
    path = Path(source)
    try:
        exists = source != "" and path.exists()  # Path("") is the current folder
        if source == "-":
            corpus = _decoded(read_bytes(source, label), label, label)
        elif exists and not path.is_dir():
            corpus = _read(path, fields)
        elif exists or glob.has_magic(source):
            root = path if exists else None
            corpus = _merged([_read(file, fields, root) for file in files(source)], label)
        else:
            raise _missing(source)
    except OSError as error:
        raise unreadable(label, error) from None
    if not corpus.text:
        raise TdiffError(f"{label} is blank: it contains no text to train on")
    return corpus


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _join(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if not _is_blank(text))


def _merged(parts: Sequence[Corpus], name: str) -> Corpus:
    """Join several corpora, with their notes."""
    return Corpus(
        _join(part.text for part in parts),
        name,
        "; ".join(part.note for part in parts if part.note),
        texts=tuple(text for part in parts for text in part.texts),
        labels=tuple(label for part in parts for label in part.labels),
    )


def _with_held_out(training: Corpus, held_out: Corpus) -> Corpus:
    """Append a corpus that is held out. Raises TdiffError if it has a class that `training` lacks."""
    if strange := sorted(set(held_out.labels) - set(training.labels)):
        raise unknown("class in the text to hold out", strange[0], training.classes)
    both = _merged([training, held_out], training.name)
    return replace(both, reserved=len(held_out.text), reserved_texts=len(held_out.texts))


def _read(path: Path, fields: Fields, root: Path | None = None) -> Corpus:
    """Read a file; `root` is the folder in which it was found."""
    label, name = visible_line(str(path)), visible_line(path.name)
    name = f"./{name}" if name in named.NAMES else name
    corpus = _decoded(read_bytes(str(path), label), label, name)
    if suffix(path) in (".jsonl", ".csv"):
        read_rows = json_rows if suffix(path) == ".jsonl" else csv_rows
        return _from_rows(
            list(read_rows(corpus.text, fields)), label, corpus.name, is_labelled=fields.label is not None
        )
    if fields.label is None or not corpus.text:
        return corpus
    folders = path.relative_to(root).parts[:-1] if root else ()
    if not folders:
        raise TdiffError(f"{label} has no label: the label of plain text is the name of its subfolder of the source")
    return replace(corpus, texts=(corpus.text,), labels=(folders[0],))


def _from_rows(rows: list[Row], label: str, name: str, *, is_labelled: bool) -> Corpus:
    """Join rows. Raises TdiffError for a bad row, but with labels only if every row is bad."""
    bad = [f"{label}:{row.number}: {row.error}" for row in rows if row.error]
    good = [row for row in rows if not row.error]
    if bad and not (is_labelled and good):
        raise TdiffError(bad[0])
    filled = [row for row in good if not _is_blank(row.text)]
    return Corpus(
        _join(row.text for row in filled),
        name,
        note=_left_out(label, bad, len(good) - len(filled)) if is_labelled else "",
        texts=tuple(row.text for row in filled),
        labels=tuple(row.label for row in filled if row.label is not None),
    )


def _by_lines(text: str, name: str) -> Corpus:
    """Return a corpus whose texts are its lines."""
    return Corpus(text, name, texts=tuple(line for line in text.split("\n") if not _is_blank(line)))


def _decoded(data: bytes, label: str, name: str) -> Corpus:
    """Decode UTF-8; blank text becomes empty. Raises TdiffError with the offset of the first byte that is not text."""
    rule = "it must be text in UTF-8"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise TdiffError(f"{label}: byte 0x{data[at]:02x} at offset {at} is not UTF-8; {rule}") from None
    if (nul := data.find(0)) >= 0:
        raise TdiffError(f"{label}: the byte at offset {nul} is NUL, as in binary files; {rule}")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return _by_lines("" if _is_blank(text) else text, "shakespeare" if named.is_shakespeare(data) else name)


def _left_out(label: str, errors: Sequence[str], blank: int) -> str:
    """Return a note about the rows that are left out: the first errors, and how many other rows there are."""
    parts = list(errors[:_REPORTED])
    if len(errors) > _REPORTED:
        parts.append(f"{len(errors) - _REPORTED:,} more such rows of {label}")
    if blank:
        parts.append(f"{blank:,} {'row' if blank == 1 else 'rows'} of {label} without text")
    return f"left out: {'; '.join(parts)}" if parts else ""


def _missing(source: str) -> TdiffError:
    """Return the error for a source that does not exist: it names the nearest source."""
    path, names, folders = Path(source), list(named.NAMES), []
    with suppress(OSError, ValueError), os.scandir(path.parent) as entries:  # ValueError: a name with NUL
        for entry in entries:
            neighbour = str(path.parent / entry.name)
            if entry.is_dir():
                folders.append(neighbour)
            elif suffix(neighbour) in {*SUFFIXES, suffix(path)}:
                names.append(neighbour)
    nearest = difflib.get_close_matches(source, names, n=1)
    if not nearest and not suffix(path):  # /nope.txt was no folder, and /nope is far from /opt
        nearest = difflib.get_close_matches(source, folders, n=1, cutoff=0.7)
    hint = f"did you mean {visible_line(nearest[0])}?" if nearest else f"the corpora are {' and '.join(named.NAMES)}"
    return TdiffError(f"no such file or folder: {source!r}; {hint}")
