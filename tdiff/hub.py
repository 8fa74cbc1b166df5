"""Models by their names on the Hugging Face hub: from the cache of its other programs, else fetched into it.

The cache is laid out as those programs do, so that what one has fetched serves the other:

models--OWNER--NAME/
    refs/REVISION        the commit that a revision was when it was last asked for
    snapshots/COMMIT/    the files of a commit, as links to
    blobs/HASH           what is in them, by its hash

Only what is read is fetched: settings, tokenizer, weights as safetensors; never a pickle, never code. Nothing here
brings the engine with it, and huggingface_hub is imported only where the hub is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from tdiff import __version__
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.runs import lookup
from tdiff.visible import visible_line

SILENCE = 8.0  # seconds: the longest wait for an answer of the hub, or for the next bytes of a file
_TRIES = 3  # connections for one file, each of which goes on where the last one broke
_LONGEST = 120  # characters of another program's error
_HUB = "the Hugging Face hub"
_OFFLINE = "folders, and models fetched before, work without network"
_CONFIG, _WHOLE, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
_OURS = ("tdiff.json", "told.safetensors")  # what tdiff keeps beside a model of another make
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes of all), first with none done, in the thread that asked; not at all where nothing is
fetched."""
T = TypeVar("T")


class _Refused(Exception):
    """Why the hub's files cannot be had."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a repository."""

    name: str
    size: int
    """Bytes."""
    blob: str
    """The hash of what is in it: a large file's SHA-256, another's as git has it."""


def find(name: str, progress: Progress | None = None) -> Path:
    """The folder of a model: what `runs.find_model` finds, else that of a name on the Hugging Face hub.

    `roberta-base` means the commit that was its newest when it was first fetched: once it is in the cache nobody is
    asked. `roberta-base@REVISION` has the hub asked for that branch, tag or commit each time, so `@main` brings what
    is new; only a whole commit hash that is in the cache is not asked for, nor anything with HF_HUB_OFFLINE=1.

    A name that is nearly that of a run is not asked for. HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_TOKEN mean what they
    mean to other programs. Raises TdiffError, whatever goes wrong; where the hub does not answer, after SILENCE.
    """
    try:
        return lookup.find_model(name)
    except lookup.NoModel as why:
        if (folder := cached(name)) is not None:
            return folder
        if not why.elsewhere or (wanted := lookup.hub_name(name)) is None:
            raise
        repository, revision = wanted
        # The names of runs help with a name like theirs.
        here = f"no model {name!r}: neither a folder nor a run" if set(name) & set("/@") else str(why)
    try:
        return _fetch(repository, revision, progress)
    except _Refused as reason:
        older = f"; without @{revision} the one in the cache is taken" if revision and cached(repository) else ""
        raise TdiffError(f"{here}; {reason}{older}") from None


def cached(name: str) -> Path | None:
    """The folder of a model of the hub that is in the cache, whole; None where it is not, or the hub is to be asked."""
    return _kept(*wanted, _is_model) if (wanted := lookup.hub_name(name)) else None


def tokenizer_of(name: str, progress: Progress | None = None) -> Path:
    """The folder of the tokenizer of a model on the hub, from the cache or fetched without the model, as by `find`.

    Raises TdiffError where it cannot be had.
    """
    what = f"no tokenizer of {name!r}"
    if (wanted := lookup.hub_name(name)) is None:
        raise TdiffError(f"{what}: that is no name on {_HUB}")
    if folder := _kept(*wanted, _has_tokenizer):
        return folder
    try:
        return _fetch(*wanted, progress, weights=False)
    except _Refused as reason:
        raise TdiffError(f"{what}: {reason}") from None


def repository(folder: Path) -> str:
    """The repository whose snapshot a folder is, without its owner: what the model is called; "" for other folders."""
    snapshot = folder.resolve()
    home = snapshot.parent.parent.name
    return home.rpartition("--")[2] if snapshot.parent.name == "snapshots" and home.startswith("models--") else ""


def announcement(name: str, total: int) -> str:
    """A line about what is being fetched, `total` bytes."""
    return f"fetching {visible_line(name)} ({_size(total)}) ..."


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:,.0f} {name}" if count >= 10 * unit else f"{count / unit:.1f} {name}"
    return f"{count} bytes"


# What is in the cache.


def _cache() -> Path:
    """The cache of the hub's files. Read at each call and not from huggingface_hub, which reads it when imported."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not given:
        homes = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        given = str(Path(os.environ.get("HF_HOME") or Path(homes) / "huggingface") / "hub")
    return Path(os.path.expandvars(os.path.expanduser(given)))  # noqa: PTH111  # Path's own raises for no such user


def _place(repository: str) -> Path:
    return _cache() / f"models--{repository.replace('/', '--')}"


def _is_offline() -> bool:
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in ("1", "ON", "YES", "TRUE")


def _is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def _kept(repository: str, revision: str, whole: Callable[[Path], bool]) -> Path | None:
    """The folder of a revision in the cache, where it is whole and the hub need not be asked for the revision."""
    place, commit = _place(repository), revision
    if not _is_commit(revision):
        if revision and not _is_offline():
            return None
        try:
            commit = (place / "refs" / (revision or "main")).read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
    folder = place / "snapshots" / commit
    return folder if _is_commit(commit) and whole(folder) else None


def _is_model(folder: Path) -> bool:
    """Whether all that is read of a model is there."""
    try:
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    shards = [_WHOLE] if (folder / _WHOLE).is_file() else _shards(folder / _INDEX)
    if not shards or not all((folder / shard).is_file() for shard in shards):
        return False
    # MDLM's repository has no tokenizer: it is GPT-2's.
    return _has_tokenizer(folder) or (isinstance(config, dict) and config.get("model_type") == "mdlm")


def _has_tokenizer(folder: Path) -> bool:
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return True
    return any(file.is_file() for name in ("tokenizer.json", "vocab.txt", "*.model") for file in folder.glob(name))


def _shards(index: Path) -> list[str]:
    """The files that an index of weights names; none where it is no such index."""
    try:
        named = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return sorted({name for name in named if name == Path(name).name and name.endswith(".safetensors")})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


# What the hub has.


def _fetch(repository: str, revision: str, progress: Progress | None, *, weights: bool = True) -> Path:
    """The folder of a revision, with what was missing there. Raises _Refused."""
    if _is_offline():
        raise _Refused(f"HF_HUB_OFFLINE is set, and {_cache()} has not all of it: fetch it once with network")
    commit, files = _listing(repository, revision or "main")
    snapshot = _Snapshot(repository, commit)
    names = [name for name in files if name in _TOKENIZER or (name.endswith(".model") and name == Path(name).name)]
    if weights:
        _check_kind(files)
        names += [name for name in (_CONFIG, *_OURS) if name in files]
    try:
        if weights and _WHOLE not in files:
            for _ in snapshot.fetch(files[_INDEX]):
                pass
            if not (shards := _shards(snapshot.folder / _INDEX)):
                raise _Refused(f"its repository on {_HUB} names no safetensors in its {_INDEX}")
            if lost := [shard for shard in shards if shard not in files]:
                raise _Refused(f"its repository on {_HUB} lacks {lost[0]}, which its {_INDEX} names")
            names += shards
        elif weights:
            names.append(_WHOLE)  # the last one: where it is there, so is all before
        missing = [files[name] for name in names if not snapshot.has(files[name])]
        total, done = sum(file.size for file in missing), 0
        if progress and missing:
            progress(done, total)
        for file in missing:
            for size in snapshot.fetch(file):
                done += size
                if progress:
                    progress(done, total)
        if not _is_commit(revision):
            write_atomic(_place(repository) / "refs" / (revision or "main"), commit.encode())
    except OSError as why:
        reason = why.strerror or type(why).__name__
        raise _Refused(f"{_cache()} cannot keep it ({reason}); HF_HOME names another place") from None
    return snapshot.folder


def _check_kind(files: dict[str, _File]) -> None:
    """Raises _Refused where they are no model that is read here."""
    if _WHOLE not in files and _INDEX not in files:
        if pickles := sorted(name for name in files if name.endswith(_PICKLES)):
            raise _Refused(
                f"its repository on {_HUB} holds only pickled weights ({pickles[0]}); tdiff reads safetensors only, "
                "since loading a pickle can run code"
            )
        raise _Refused(f"its repository on {_HUB} holds no {_WHOLE}")
    if _CONFIG not in files:
        raise _Refused(f"its repository on {_HUB} holds no {_CONFIG}, which says what its weights are")


def _listing(repository: str, revision: str) -> tuple[str, dict[str, _File]]:
    """The commit of a revision, and its files by name. Raises _Refused."""
    from huggingface_hub import get_session

    url = f"{_endpoint()}/api/models/{repository}/revision/{quote(revision, safe='')}"

    def ask() -> Iterator[tuple[int, str, bytes]]:
        answer = get_session().get(url, params={"blobs": "true"}, headers=_headers(), timeout=2 * SILENCE)
        yield answer.status_code, answer.headers.get("X-Error-Code", ""), answer.content

    try:
        [(status, code, content)] = _patiently(ask())
    except TimeoutError:
        raise _Refused(f"{_HUB} did not answer within {SILENCE:g} seconds; {_OFFLINE}") from None
    except Exception as why:  # of any class: those of the HTTP library, OSError, ValueError for a strange endpoint ...
        raise _Refused(f"{_HUB} cannot be reached ({_said(why)}); {_OFFLINE}") from None
    if status != 200:
        raise _Refused(_reason(status, code, repository, revision))
    try:
        told = json.loads(content)
        files = {}
        for one in told["siblings"]:
            large = one.get("lfs") or {}
            file = _File(one["rfilename"], large.get("size", one["size"]), large.get("sha256", one["blobId"]))
            # Both become names of files here.
            if not re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", file.blob) or not isinstance(file.size, int):
                raise ValueError
            files[file.name] = file
        if not _is_commit(told["sha"]):
            raise ValueError
        return told["sha"], files
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Refused(f"{_endpoint()} does not answer as {_HUB} does") from None


def _reason(status: int, code: str, repository: str, revision: str, file: str = "") -> str:
    """What an answer other than the one asked for means."""
    if code == "GatedRepo":
        page = f"{_endpoint()}/{repository}"
        return f"{_HUB} keeps it gated: ask for access at {page}, and set HF_TOKEN to your token ({status})"
    if code == "RevisionNotFound":
        return f"{_HUB} has no revision {revision!r} of it"
    if file and status == 404:
        return f"{_HUB} has lost its {file}; try again later"
    if status == 404:
        return f"{_HUB} has no such repository"
    if code == "RepoNotFound":
        return f"{_HUB} has no such repository, or it is private: HF_TOKEN names a token that may read it ({status})"
    if status in (401, 403):
        return f"{_HUB} does not let you read it: HF_TOKEN names a token that may ({status})"
    return f"{_HUB} answers with {status}; try again later"


class _Snapshot:
    """The files of one commit in the cache."""

    def __init__(self, repository: str, commit: str) -> None:
        self.repository, self.commit = repository, commit
        self.folder = _place(repository) / "snapshots" / commit

    def has(self, file: _File) -> bool:
        """Whether it is there, or could be linked to what another commit has brought."""
        path, blob = self.folder / file.name, self._blob(file)
        if path.is_file() and path.stat().st_size == file.size:
            return True
        if blob.is_file() and blob.stat().st_size == file.size:
            self._link(blob, path)
            return True
        return False

    def fetch(self, file: _File) -> Iterator[int]:
        """Fetch it; the sizes of what comes, as it comes. It is there whole, or not at all.

        Raises _Refused where it does not come as it should, and OSError where it cannot be kept.
        """
        if self.has(file):
            return
        blob = self._blob(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        large = len(file.blob) == 64
        sum_ = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        handle, name = tempfile.mkstemp(dir=blob.parent, prefix=f"{blob.name}.", suffix=".incomplete")
        try:
            with os.fdopen(handle, "wb") as out:
                for chunk in self._bytes(file):
                    out.write(chunk)
                    sum_.update(chunk)
                    yield len(chunk)
                out.flush()
                os.fsync(out.fileno())
            if sum_.hexdigest() != file.blob:
                raise _Refused(f"its {file.name} came damaged from {_HUB}: its hash is another; try again")
            Path(name).chmod(0o644)
            Path(name).replace(blob)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
        self._link(blob, self.folder / file.name)

    def _blob(self, file: _File) -> Path:
        return _place(self.repository) / "blobs" / file.blob

    def _link(self, blob: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # one of another size, or that leads nowhere
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except FileExistsError:  # another process was first
            pass
        except OSError:  # a system without links
            blob.replace(path)

    def _bytes(self, file: _File) -> Iterator[bytes]:
        """What is in the file, in order; a connection that breaks is taken up again. Raises _Refused."""
        have, broke = 0, ""
        for _ in range(_TRIES):
            try:
                for chunk in _patiently(self._ask(file, have)):
                    have += len(chunk)
                    if have > file.size:
                        raise _Refused(f"{_HUB} sent more than the {_size(file.size)} of its {file.name}; try again")
                    yield chunk
            except _Refused:
                raise
            except TimeoutError:
                broke = f"{_HUB} fell silent"
                break
            except Exception as why:  # of any class, as above
                broke = f"the connection to {_HUB} broke ({_said(why)})"
                continue
            if have == file.size:
                return
            broke = f"{_HUB} stopped"
        raise _Refused(f"{broke} after {_size(have)} of the {_size(file.size)} of its {file.name}; try again")

    def _ask(self, file: _File, have: int) -> Iterator[bytes]:
        """What is in the file after the first `have` bytes, as the hub sends it."""
        from huggingface_hub import get_session, hf_hub_url

        url = hf_hub_url(self.repository, file.name, revision=self.commit, endpoint=_endpoint())
        headers = _headers() | ({"Range": f"bytes={have}-"} if have else {})
        with get_session().stream("GET", url, headers=headers, timeout=2 * SILENCE) as answer:
            if answer.status_code not in (200, 206):
                code = answer.headers.get("X-Error-Code", "")
                raise _Refused(_reason(answer.status_code, code, self.repository, self.commit, file.name))
            skip = have if answer.status_code == 200 else 0  # a server that knows no ranges begins anew
            for chunk in answer.iter_bytes():
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _headers() -> dict[str, str]:
    """Of a request. Made here, since huggingface_hub's own bring a request of their own with them, about the user."""
    from huggingface_hub import constants, get_token

    plain = {"User-Agent": f"tdiff/{__version__}", "Accept-Encoding": "identity"}  # so that sizes are those of files
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return plain | ({"Authorization": f"Bearer {token}"} if token else {})


def _said(why: Exception) -> str:
    said = visible_line((str(why).strip() or type(why).__name__).splitlines()[0])
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"


def _patiently(things: Iterable[T]) -> Iterator[T]:
    """The things, which another thread takes from `things`. Raises what that does, and TimeoutError after SILENCE.

    No timeout of a library bounds the look-up of a name, or a row of addresses tried in turn.
    """
    came: queue.Queue[Any] = queue.Queue(16)  # things in a tuple, then None or an exception; few, as disks can be slow
    left = threading.Event()

    def take() -> None:
        end: Exception | None = None
        try:
            for thing in things:
                came.put((thing,))
                if left.is_set():
                    return
        except Exception as why:
            end = why
        came.put(end)

    threading.Thread(target=take, daemon=True).start()
    try:
        while True:
            try:
                said = came.get(timeout=SILENCE)
            except queue.Empty:
                raise TimeoutError from None
            if isinstance(said, Exception):
                raise said
            if said is None:
                return
            thing: T = said[0]
            yield thing
    finally:
        left.set()
        with suppress(queue.Empty):  # it may be waiting for room
            while True:
                came.get_nowait()
