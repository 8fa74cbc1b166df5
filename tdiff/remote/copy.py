"""Copy files to another machine and back: resumed where a connection broke, and checked by SHA-256.

rsync copies them to another machine where both have it. Else small files travel together in tar archives, large ones
in pieces. They arrive in a folder `NAME.part`, which gets its name when all checksums are right.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.remote import rsync
from tdiff.remote.data import File, Set, pieces
from tdiff.remote.link import Link
from tdiff.visible import visible_line

_PIECE = 1 << 22
_SMALL = 1 << 18
"""Bytes up to which a file travels in an archive with others."""
_AHEAD = 3
"""Requests that are under way together, so that a distant machine does not wait for each answer."""
_ATTEMPTS = 3
Progress = Callable[[int, int], None]


def upload(link: Link, files: Set, progress: Progress | None = None) -> bool:
    """Copy a set to its folder, unless it is there. Returns whether anything was copied.

    Raises ConnectionLost, after which another call continues, and TdiffError if a checksum is wrong.
    """
    if link.ask("exists", paths=[files.folder])["there"][0]:
        return False
    part = f"{files.folder}.part"
    there = dict(link.ask("files", path=part)["files"] or ())
    free = int(link.facts["free"])
    done = sum(min(there.get(file.name, 0), file.size) for file in files.files)
    if files.size - done > free:
        raise TdiffError(f"{link.host} has {free:,} bytes free; {files.label} needs {files.size - done:,}")
    if rsync.upload(link, files, part, progress):
        there = dict(link.ask("files", path=part)["files"] or ())
        done = files.size
    pending: deque[int] = deque()
    for request, count in _requests(part, files, there):
        op, data, values = request
        link.send(op, data, **values)
        pending.append(count)
        if len(pending) >= _AHEAD:
            link.receive()
            done += pending.popleft()
        if progress:
            progress(done, files.size)
    while pending:
        link.receive()
        done += pending.popleft()
        if progress:
            progress(done, files.size)
    for file in files.files:
        path = f"{part}/{file.name}"
        if link.ask("digest", path=path)["sha256"] != file.sha256:
            link.ask("write", path=path, offset=0)
            raise TdiffError(
                f"{visible_line(str(file.path))} arrived damaged, or changed while it was copied; the same command "
                "copies it again"
            )
    link.ask("move", path=part, to=files.folder)
    return True


def _requests(
    part: str, files: Set, there: dict[str, int]
) -> Iterator[tuple[tuple[str, bytes, dict[str, object]], int]]:
    """The requests that copy what is missing, each with the bytes of files that it brings."""
    bundle: list[File] = []
    for file in files.files:
        present = there.get(file.name, -1)
        if present == file.size:
            continue
        if file.size <= _SMALL:
            bundle.append(file)
            if sum(f.size for f in bundle) > _PIECE or len(bundle) >= 1000:
                yield _archive(part, bundle)
                bundle = []
            continue
        offset = present if 0 < present < file.size else 0
        for piece in pieces(file.path, offset, _PIECE):
            yield ("write", piece, {"path": f"{part}/{file.name}", "offset": offset}), len(piece)
            offset += len(piece)
    if bundle:
        yield _archive(part, bundle)


def _archive(part: str, files: list[File]) -> tuple[tuple[str, bytes, dict[str, object]], int]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            data = file.path.read_bytes()
            member = tarfile.TarInfo(file.name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return ("unpack", out.getvalue(), {"path": part}), sum(file.size for file in files)


def download_listed(
    link: Link, source: str, listed: Callable[[], list[tuple[str, int]]], target: Path, progress: Progress | None = None
) -> tuple[list[tuple[str, int]], int]:
    """As `download`, of the files that `listed()` names. Returns those that have come, and the number of bytes.

    A run that trains meanwhile removes files. Those that have vanished are removed here too, with the folders that they
    leave empty. If the training state has other parts than before, all that is new or changed comes as well. Raises
    TdiffError if that happens again and again.
    """
    names, came = listed(), 0
    for _ in range(_ATTEMPTS):
        came += download(link, source, names, target, progress)
        now = listed()
        vanished = {name for name, _ in names} - {name for name, _ in now}
        for name in vanished:
            path = target / _safe(name)
            path.unlink(missing_ok=True)
            with suppress(OSError):  # until one is not empty
                for folder in path.relative_to(target).parents[:-1]:
                    (target / folder).rmdir()
        if _parts(names) == _parts(now):
            return [(name, size) for name, size in names if name not in vanished], came
        names = now
    raise TdiffError("the run saves more often than its state can be read; fetch again in a moment")


def _parts(names: list[tuple[str, int]]) -> set[str]:
    """The parts of training states among the files."""
    return {name for name, _ in names if "/resume/parts-" in f"/{name}"}


def download(
    link: Link, source: str, names: list[tuple[str, int]], target: Path, progress: Progress | None = None
) -> int:
    """Bring files of the folder `source` into the folder `target`; what is there already is not read again.

    Returns the number of bytes that came. A file that changes meanwhile, as those of a run that trains do, is read
    again, and one that has vanished is left out. Raises ConnectionLost, after which another call continues, and
    TdiffError if a checksum stays wrong.
    """
    total, done, came = sum(size for _, size in names), 0, 0
    for name, _ in names:
        path = target / _safe(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            answer = link.ask("digest", path=f"{source}/{name}")
            sha, size = str(answer["sha256"]), int(answer["bytes"])
            if not sha:
                path.unlink(missing_ok=True)
                break
            present = path.stat().st_size if path.exists() else 0
            if present > size or attempt or (present == size and _checksum(path) != sha):
                present = 0
            with path.open("r+b" if present else "wb") as file:
                file.seek(present)
                while present < size:
                    data = link.ask("read", path=f"{source}/{name}", offset=present, count=min(_PIECE, size - present))[
                        "data"
                    ]
                    if not data:
                        break
                    file.write(data)
                    present += len(data)
                    came += len(data)
                    if progress:
                        progress(min(done + present, total), total)
            if _checksum(path) == sha:
                break
        else:
            raise TdiffError(f"{visible_line(name)} changes while it is read; fetch again in a moment")
        done += size
    return came


def _safe(name: str) -> Path:
    """A path that another machine names, within the folder. Raises TdiffError if it leaves that."""
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise TdiffError(f"the other machine names a path outside the run: {visible_line(name)!r}")
    return Path(name)


def _checksum(path: Path) -> str:
    sha = hashlib.sha256()
    for piece in pieces(path):
        sha.update(piece)
    return sha.hexdigest()
