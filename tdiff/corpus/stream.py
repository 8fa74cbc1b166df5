r"""A corpus that is larger than memory, piece by piece: the text that `corpus.load` would return at once.

Files are read in the same order and joined in the same way, so a piece has the same position in the text. Plain text
and .jsonl are read, also .gz.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from tdiff.corpus import named
from tdiff.corpus.corpus import Corpus
from tdiff.corpus.readers import Fields, files, json_rows, suffix, unreadable
from tdiff.errors import TdiffError
from tdiff.visible import visible_line

PIECE = 1 << 16
"""Characters of a piece, about."""
SAMPLE = 1 << 23
"""Characters of the sample from which a tokenizer is learned."""
_READ = 1 << 20


def source_files(sources: Sequence[str]) -> list[Path]:
    """The files that the sources name, in their order. Raises TdiffError for another kind of source."""
    paths: list[Path] = []
    for source in sources:
        path = Path(source)
        if source in ("-", *named.NAMES):
            raise TdiffError(f"data.token_files takes files, folders and globs as --data; got {source}")
        paths += [path] if path.is_file() else files(source)
    for path in paths:
        if suffix(path) == ".csv":
            raise TdiffError(f"data.token_files reads plain text and .jsonl, not {visible_line(str(path))}")
    return paths


def sample(sources: Sequence[str], text_field: str = "text") -> Corpus:
    """The beginning of the text, as a corpus: a tokenizer is learned from it, and it has the prompts of samples."""
    parts, size = list[str](), 0
    for text in pieces(source_files(sources), text_field):
        parts.append(text)
        size += len(text)
        if size >= SAMPLE:
            break
    name = " + ".join(visible_line(source) for source in sources[:3])
    name += f" + {len(sources) - 3} more" if len(sources) > 3 else ""
    return Corpus("".join(parts), name)


def pieces(paths: Sequence[Path], text_field: str = "text") -> Iterator[str]:
    """The text of all files in pieces that end at the end of a line, where there is one.

    Raises TdiffError for a file that cannot be read or is not text, and for a bad row.
    """
    waiting, size = list[str](), 0
    for part in _joined(paths, text_field):
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            text = "".join(waiting)
            cut = text.rfind("\n") + 1 or len(text)
            yield text[:cut]
            waiting, size = [text[cut:]], len(text) - cut
    if rest := "".join(waiting):
        yield rest


def _joined(paths: Sequence[Path], text_field: str) -> Iterator[str]:
    """The text of all files, with a blank line between files and between rows."""
    separator = ""
    for path in paths:
        label = visible_line(str(path))
        try:
            for is_first, text in _rows(path, label, text_field) if suffix(path) == ".jsonl" else _plain(path, label):
                if is_first:
                    yield separator
                    separator = "\n\n"
                yield text
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(label, error) from None


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _rows(path: Path, label: str, text_field: str) -> Iterator[tuple[bool, str]]:
    fields = Fields(text_field)
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            for row in json_rows(line.decode("utf-8", "surrogateescape").rstrip("\n"), fields):
                if row.error:
                    raise TdiffError(f"{label}:{number}: {row.error}")
                if row.text.strip():
                    yield True, row.text


def _plain(path: Path, label: str) -> Iterator[tuple[bool, str]]:
    decoder, offset, blank, is_first = codecs.getincrementaldecoder("utf-8")(), 0, "", True
    with _opened(path) as file:
        while True:
            data = file.read(_READ)
            while data.endswith(b"\r"):  # may be the first half of a line end
                more = file.read(1)
                data += more
                if not more:
                    break
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                where = max(0, offset + error.start - len(decoder.getstate()[0]))
                raise TdiffError(
                    f"{label}: a byte near offset {where} is not UTF-8; it must be text in UTF-8"
                ) from None
            if (nul := text.find("\0")) >= 0:
                raise TdiffError(f"{label}: it has a NUL near offset {offset + nul}, as in binary files")
            text = (text.removeprefix("\ufeff") if offset == 0 else text).replace("\r\n", "\n")
            offset += len(data)
            if is_first and not text.strip():  # a blank file adds nothing
                blank += text
            elif text:
                yield is_first, blank + text
                is_first, blank = False, ""
            if not data:
                return
