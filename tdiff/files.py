"""Atomic file writes: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tdiff import formatting

_NO_SPACE = {
    errno.ENOSPC: "no space is left on its disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit for the size of a file is reached",
}
_NOT_WRITABLE = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))


class CannotWrite(OSError):
    """A file that could not be written. Its text is one line: the file, the reason, and what space it needs."""

    def __init__(self, path: Path, cause: OSError, needed: int = 0) -> None:
        """`needed`: the bytes to be written, 0 if unknown."""
        super().__init__(cause.errno, cause.strerror, str(path))
        self._text = f"{path} cannot be written: {_reason(path, cause, needed)}"

    @classmethod
    def elsewhere(cls, text: str) -> CannotWrite:
        """The error of another process, by its text."""
        error = cls(Path(), OSError(text))
        error._text = text
        return error

    def __str__(self) -> str:
        return self._text


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, creating its folder; after a crash or a power cut the file is the old or the new one.

    Raises CannotWrite, for example for a full disk; the old file then stays.
    """
    try:
        _write(path, data)
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error, len(data)) from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def temporary_prefix(path: Path) -> str:
    """How the names of the temporary files begin that `write_atomic` writes for `path`."""
    return f".{path.name}."


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut. Does nothing where the system cannot."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reason(path: Path, cause: OSError, needed: int) -> str:
    if cause.errno in _NOT_WRITABLE:
        return f"the folder {path.parent} is read-only or belongs to another user ({cause.strerror})"
    if cause.errno not in _NO_SPACE:
        return cause.strerror or str(cause)
    text = _NO_SPACE[cause.errno]
    if not needed:
        return text
    free = ""
    if cause.errno == errno.ENOSPC:
        with suppress(OSError):
            free = f", {formatting.size(shutil.disk_usage(path.parent).free)} free"
    return f"{text} ({formatting.size(needed)} needed{free})"
