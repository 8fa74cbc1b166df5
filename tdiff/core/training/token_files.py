"""The tokens of a corpus larger than memory, in files that are written once and mapped into memory.

A folder has shards of little-endian uint16 or uint32, and `tokens.json`, written last; until then `unfinished.json`
says what has been written. The last tenth of the characters is held out, as of a corpus in memory.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tdiff.config.settings import DataSettings
from tdiff.core.models.base import Tokenizer
from tdiff.corpus import stream
from tdiff.errors import TdiffError
from tdiff.files import write_atomic

Progress = Callable[[int, int], None]
SHARD = 1 << 26
"""Tokens of a shard, at least."""
HELD_OUT = 1 << 20
"""Tokens of the held-out part that are read, at most."""
_MANIFEST, _UNFINISHED = "tokens.json", "unfinished.json"


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """The token files of a corpus, open for reading."""

    shards: Sequence[npt.NDArray[Any]]
    starts: npt.NDArray[np.int64]
    """(shards + 1,): the number of the first token of each shard, and of all tokens."""
    training: int
    """Tokens of the training part; the others, behind it, are held out."""
    text_sha256: str
    """SHA-256 of the text in UTF-8."""
    fingerprint: str
    """A hash of the tokens."""

    def __len__(self) -> int:
        return self.training

    def rows(self, first: Tensor, width: int) -> Tensor:
        """Return (B, width) int64: the tokens from each number of `first` (B,) int64 on."""
        return torch.stack([self.read(start, start + width) for start in first.tolist()])

    def read(self, start: int, end: int) -> Tensor:
        """Return the tokens from `start` up to `end`, (end - start,) int64."""
        parts = []
        number = int(np.searchsorted(self.starts, start, side="right")) - 1
        while start < end:
            offset, until = int(self.starts[number]), min(end, int(self.starts[number + 1]))
            parts.append(np.asarray(self.shards[number][start - offset : until - offset]).astype(np.int64))
            start, number = until, number + 1
        return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, np.int64))

    def held_out(self) -> Tensor:
        """Return the beginning of the held-out part, (T,) int64."""
        return self.read(self.training, min(int(self.starts[-1]), self.training + HELD_OUT))


def open_or_make(
    folder: Path, data: DataSettings, tokenizer: Tokenizer, progress: Progress | None = None
) -> TokenFiles:
    """Open the token files in `folder`, or write them first; an interrupted writing continues with the next shard.

    `progress(done, total)` is called with bytes of the source files while they are written. Raises TdiffError if the
    folder has the tokens of other files (by their names, sizes and times) or of another tokenizer.
    """
    paths = stream.source_files(data.sources)
    key = _key(paths, data, tokenizer)
    manifest = _read(folder / _MANIFEST)
    if manifest is None:
        manifest = _write(folder, paths, key, data, tokenizer, progress)
    if manifest["key"] != key:
        raise TdiffError(
            f"data.token_files {str(folder)!r} has the tokens of other files or of another tokenizer than the settings "
            "name: remove the folder, or name another"
        )
    dtype, counts = np.dtype(manifest["dtype"]), manifest["shards"]
    shards = []
    for number, count in enumerate(counts):
        path = folder / _name(number)
        if not path.is_file() or path.stat().st_size != count * dtype.itemsize:
            raise TdiffError(f"token file {str(path)!r} is missing or damaged: remove its folder, which is made again")
        shards.append(np.memmap(path, dtype, "r", shape=(count,)))
    starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    names = ("training", "text_sha256", "fingerprint")
    return TokenFiles(shards, starts, **{name: manifest[name] for name in names})


def _write(
    folder: Path,
    paths: list[Path],
    key: str,
    data: DataSettings,
    tokenizer: Tokenizer,
    progress: Progress | None,
) -> dict[str, Any]:
    """Write the shards that are missing, and the manifest, which is returned."""
    dtype = "<u2" if len(tokenizer) <= 1 << 16 else "<u4"
    total, unfinished = 2 * sum(path.stat().st_size for path in paths), _read(folder / _UNFINISHED) or {}
    if unfinished.get("key") != key:
        characters, text_hash = _measured(paths, data.text_field, progress, total)
        unfinished = {"key": key, "characters": characters, "text_sha256": text_hash, "dtype": dtype}
        unfinished |= {"shards": [], "hashes": [], "done": 0, "training": 0}
    cut, done, at = unfinished["characters"] * 9 // 10, unfinished["done"], 0
    waiting, count = list[npt.NDArray[Any]](), 0

    def end_shard() -> None:
        tokens = np.concatenate(waiting).astype(dtype)
        write_atomic(folder / _name(len(unfinished["shards"])), tokens.tobytes())
        unfinished["shards"].append(len(tokens))
        unfinished["hashes"].append(hashlib.sha256(tokens.tobytes()).hexdigest())
        unfinished["done"] = at
        write_atomic(folder / _UNFINISHED, json.dumps(unfinished).encode())
        waiting.clear()

    for text in _split_at(stream.pieces(paths, data.text_field), cut):
        if at >= done:
            waiting.append(tokenizer.encode(text, "the corpus", inside=at > 0).numpy())
            count += len(waiting[-1])
            unfinished["training"] += len(waiting[-1]) * (at < cut)
        at += len(text)
        if count >= SHARD:
            end_shard()
            count = 0
        if progress is not None:
            progress(total // 2 + total // 2 * at // max(1, unfinished["characters"]), total)
    if count:
        end_shard()
    manifest = {name: value for name, value in unfinished.items() if name != "done"}
    manifest["fingerprint"] = hashlib.sha256("".join(unfinished["hashes"]).encode()).hexdigest()
    write_atomic(folder / _MANIFEST, json.dumps(manifest).encode())
    (folder / _UNFINISHED).unlink(missing_ok=True)
    return manifest


def _measured(paths: list[Path], text_field: str, progress: Progress | None, total: int) -> tuple[int, str]:
    """The characters of the text, and its SHA-256."""
    characters, read, digest = 0, 0, hashlib.sha256()
    for text in stream.pieces(paths, text_field):
        encoded = text.encode()
        digest.update(encoded)
        characters, read = characters + len(text), read + len(encoded)
        if progress is not None:
            progress(min(read, total // 2), total)
    return characters, digest.hexdigest()


def _split_at(pieces: Iterable[str], cut: int) -> Iterator[str]:
    """The pieces, of which the one that crosses the character `cut` is divided there."""
    at = 0
    for text in pieces:
        if at < cut < at + len(text):
            yield text[: cut - at]
            yield text[cut - at :]
        else:
            yield text
        at += len(text)


def _key(paths: list[Path], data: DataSettings, tokenizer: Tokenizer) -> str:
    """A hash of what the tokens depend on: the files, the field of their rows, and the tokenizer."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    digest.update(f"{data.text_field} {data.unknown}\n".encode())
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save(Path(scratch))
        for file in sorted(Path(scratch).iterdir()):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _name(number: int) -> str:
    return f"tokens-{number:05d}.bin"


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a file of JSON; None if there is none. Raises TdiffError if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TdiffError(f"token file {str(path)!r} cannot be read: {error}") from None
    return content if isinstance(content, dict) else None
