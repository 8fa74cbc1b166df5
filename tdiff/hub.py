"""Models by name on the Hugging Face Hub: a folder in the Hub's cache, downloaded by `huggingface_hub` where needed.

Only the files that tdiff reads are downloaded: the configuration, the tokenizer and weights as safetensors. Pickles and
code are never downloaded. No wait for the Hub is longer than SILENCE.

Importing `huggingface_hub` takes 0.35 to 0.47 s, so this module imports it only to ask the Hub. The lookup in the cache
therefore reads the cache's folders itself:

models--OWNER--NAME/
    refs/REVISION        the commit of a branch or tag when the Hub was last asked
    snapshots/COMMIT/    the files of a commit, as links to
    blobs/HASH           their contents
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from logging import ERROR
from pathlib import Path
from typing import Any

from tdiff import __version__, formatting
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.network import reports
from tdiff.runs import lookup
from tdiff.visible import visible_line

SILENCE = 8.0  # seconds: the longest wait for an answer of the Hub, or for the next bytes of a file
_RESTARTS = 3  # downloads of one file from its first byte, after broken connections to a server without ranges
_LONGEST = 120  # characters of an error message from another library
_HUB = "the Hugging Face Hub"
_OFFLINE = "folders and cached models work without network"
_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_HEADERS = {"user-agent": f"tdiff/{__version__}"}  # without this, the library names Python, torch and coding agents

SIDECAR = "tdiff.json"
"""The file beside a model of transformers that holds what only tdiff knows of it."""
CONDITIONING = "told.safetensors"
"""The file beside a model of transformers that holds its weights for the mask ratio and for classes."""
Progress = Callable[[int, int], None]
"""Called in the caller's thread with (bytes done, bytes in total), first with 0 done; not if nothing is downloaded."""


class _Unavailable(Exception):
    """The reason why the Hub's files are not available."""


def find(name: str, progress: Progress | None = None) -> Path:
    """Return the folder of a model: a local folder or run, else a model of the Hugging Face Hub.

    `roberta-base` is the commit that was newest at its first download: once cached, the Hub is not asked again.
    `roberta-base@REVISION` asks the Hub for that branch, tag or commit each time, so `@main` updates the model. The Hub
    is not asked for a full commit hash that is in the cache, for a name that is close to that of a run, or with
    HF_HUB_OFFLINE=1. HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_TOKEN have their usual meaning.

    Raises TdiffError for every failure, and no later than SILENCE after the Hub's last answer.
    """
    try:
        return lookup.find_model(name)
    except lookup.NoModel as error:
        if (folder := cached(name)) is not None:
            return folder
        if not error.elsewhere or (parts := lookup.hub_name(name)) is None:
            raise
        # For a plain name the message includes the names of runs.
        not_local = f"no model {name!r}: neither a folder nor a run" if set(name) & set("/@") else str(error)
    repository, revision = parts
    try:
        return _download(repository, revision, progress)
    except _Unavailable as reason:
        older = f"; without @{revision} the cached version is used" if revision and cached(repository) else ""
        raise TdiffError(f"{not_local}; {reason}{older}") from None


def cached(name: str) -> Path | None:
    """Return the folder of a complete model in the Hub's cache; None if it is incomplete or the Hub must be asked."""
    return _cached(*parts, _is_model) if (parts := lookup.hub_name(name)) else None


def cached_models() -> dict[str, Path]:
    """Name -> folder of each complete model in the Hub's cache, sorted by name; the Hub is not asked."""
    names = sorted(path.name.removeprefix("models--").replace("--", "/", 1) for path in _cache().glob("models--*"))
    return {name: folder for name in names if (folder := cached(name)) is not None}


def tokenizer_of(name: str, progress: Progress | None = None) -> Path:
    """Return a folder with the tokenizer of a model on the Hub, cached or downloaded without the weights.

    Raises TdiffError if it is not available.
    """
    problem = f"no tokenizer of {name!r}"
    if (parts := lookup.hub_name(name)) is None:
        raise TdiffError(f"{problem}: this is not a name on {_HUB}")
    if folder := _cached(*parts, _has_tokenizer):
        return folder
    try:
        return _download(*parts, progress, weights=False)
    except _Unavailable as reason:
        raise TdiffError(f"{problem}: {reason}") from None


def repository(folder: Path) -> str:
    """Return the repository name, without its owner, of a snapshot in the Hub's cache; "" for other folders."""
    snapshot = folder.resolve()
    home = snapshot.parent.parent.name
    return home.rpartition("--")[2] if snapshot.parent.name == "snapshots" and home.startswith("models--") else ""


def announcement(name: str, total: int) -> str:
    """Return a line that announces a download of `total` bytes."""
    return f"fetching {visible_line(name)} ({formatting.size(total)}) ..."


# The cache.


def _cache() -> Path:
    """The Hub's cache. It is read at each call; `huggingface_hub` reads the environment once, when imported."""
    path = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not path:
        user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        path = str(Path(os.environ.get("HF_HOME") or Path(user_cache) / "huggingface") / "hub")
    return Path(os.path.expandvars(os.path.expanduser(path)))  # noqa: PTH111  # Path's own raises for an unknown user


def _repository_folder(repository: str) -> Path:
    return _cache() / f"models--{repository.replace('/', '--')}"


def _is_offline() -> bool:
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def _is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def _cached(repository: str, revision: str, is_complete: Callable[[Path], bool]) -> Path | None:
    """Return the cached folder of a revision if it is complete and the Hub does not have to resolve the revision."""
    folder, commit = _repository_folder(repository), revision
    if not _is_commit(revision):
        if revision and not _is_offline():
            return None
        try:
            commit = (folder / "refs" / (revision or "main")).read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
    snapshot = folder / "snapshots" / commit
    return snapshot if _is_commit(commit) and is_complete(snapshot) else None


def _is_model(folder: Path) -> bool:
    """Return whether the folder has every file that is read of a model."""
    try:
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    shards = [_WEIGHTS] if (folder / _WEIGHTS).is_file() else _shards(folder / _INDEX)
    if not shards or not all((folder / shard).is_file() for shard in shards):
        return False
    # MDLM's repository has no tokenizer: it uses GPT-2's.
    return _has_tokenizer(folder) or (isinstance(config, dict) and config.get("model_type") == "mdlm")


def _has_tokenizer(folder: Path) -> bool:
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return True
    return any(file.is_file() for name in ("tokenizer.json", "vocab.txt", "*.model") for file in folder.glob(name))


def _shards(index: Path) -> list[str]:
    """Return the safetensors files that an index of weights names; an empty list for a malformed index."""
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return sorted({name for name in names if name == Path(name).name and name.endswith(".safetensors")})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


# The Hub.


def _download(repository: str, revision: str, progress: Progress | None, *, weights: bool = True) -> Path:
    """Return the folder of a revision after downloading the missing files. Raises _Unavailable."""
    if _is_offline():
        raise _Unavailable(f"HF_HUB_OFFLINE is set, and {_cache()} lacks some of its files: fetch it once with network")
    with _streaming():
        commit, sizes = _listing(repository, revision or "main")
        folder = _repository_folder(repository) / "snapshots" / commit
        names = [name for name in sizes if name in _TOKENIZER or (name.endswith(".model") and name == Path(name).name)]
        try:
            if weights:
                names += _model_files(repository, folder, sizes)
            _fetch(repository, folder, {name: sizes[name] for name in names}, progress)
            if not _is_commit(revision):
                reference = _repository_folder(repository) / "refs" / (revision or "main")
                write_atomic(reference, commit.encode())
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise _Unavailable(f"{_cache()} cannot store it ({reason}); HF_HOME names another folder") from None
    return folder


def _model_files(repository: str, folder: Path, sizes: dict[str, int]) -> list[str]:
    """Return the names of a model's configuration and weights. Raises _Unavailable if tdiff cannot read the model."""
    if _WEIGHTS not in sizes and _INDEX not in sizes:
        if pickles := sorted(name for name in sizes if name.endswith(_PICKLES)):
            raise _Unavailable(
                f"its repository on {_HUB} has only pickled weights ({pickles[0]}); tdiff reads safetensors only, "
                "because loading a pickle can run code"
            )
        raise _Unavailable(f"its repository on {_HUB} has no {_WEIGHTS}")
    if _CONFIG not in sizes:
        raise _Unavailable(f"its repository on {_HUB} has no {_CONFIG}, which describes the weights")
    names = [name for name in (_CONFIG, SIDECAR, CONDITIONING) if name in sizes]
    if _WEIGHTS in sizes:
        return [*names, _WEIGHTS]  # the weights are last: if they are in the cache, every file is
    _fetch(repository, folder, {_INDEX: sizes[_INDEX]}, None)
    shards = _shards(folder / _INDEX)
    if not shards:
        raise _Unavailable(f"its repository on {_HUB} names no safetensors in its {_INDEX}")
    if missing := [shard for shard in shards if shard not in sizes]:
        raise _Unavailable(f"its repository on {_HUB} has no {missing[0]}, which its {_INDEX} names")
    return [*names, *shards]


@contextmanager
def _streaming() -> Iterator[None]:
    """Set `huggingface_hub` so that bytes are counted as they arrive; its defaults return after the block.

    A file is read in pieces as they arrive instead of 10 MB, and over plain HTTP instead of Xet, which does not report
    each arrival: a slow connection would look silent.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    settings = {"DOWNLOAD_CHUNK_SIZE": None, "HF_HUB_DISABLE_XET": True, "HF_HUB_DOWNLOAD_TIMEOUT": SILENCE}
    defaults = {name: getattr(constants, name) for name in settings}
    logging.set_verbosity(ERROR)  # its warnings repeat what the error says
    vars(constants).update(settings)
    try:
        yield
    finally:
        vars(constants).update(defaults)


def _listing(repository: str, revision: str) -> tuple[str, dict[str, int]]:
    """Return the commit of a revision and the sizes of its files in bytes. Raises _Unavailable."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint(), headers=_HEADERS)

    def ask(report: Callable[[Any], None]) -> None:
        report(api.model_info(repository, revision=revision, files_metadata=True, timeout=2 * SILENCE))

    try:
        [answer] = reports(ask, SILENCE)
        sizes = {file.rfilename: file.lfs.size if file.lfs else file.size for file in answer.siblings}
        if not _is_commit(answer.sha) or not all(isinstance(size, int) for size in sizes.values()):
            raise ValueError
        return answer.sha, sizes
    except TimeoutError:
        raise _Unavailable(f"{_HUB} did not answer within {SILENCE:g} seconds; {_OFFLINE}") from None
    except Exception as error:  # the HTTP library differs between versions of huggingface_hub
        reason = _reason(error, repository, revision) or f"{_HUB} cannot be reached ({_first_line(error)}); {_OFFLINE}"
        raise _Unavailable(reason) from None


def _fetch(repository: str, folder: Path, sizes: dict[str, int], progress: Progress | None) -> None:
    """Download the files that a snapshot's folder lacks, in order. Raises _Unavailable, or OSError from the disk."""
    missing = {name: size for name, size in sizes.items() if not _has_size(folder / name, size)}
    total, done = sum(missing.values()), 0
    if progress and missing:
        progress(done, total)
    for name, size in missing.items():
        furthest = 0
        for position in _positions(repository, folder / name, size):
            furthest = max(furthest, position)  # the library may start a file again
            if progress:
                progress(done + furthest, total)
        done += size
        if progress and furthest < size:  # the library found the content of another commit
            progress(done, total)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _positions(repository: str, path: Path, size: int) -> Iterator[int]:
    """Download one file of a snapshot; yields how many of its bytes have arrived. Raises as `_fetch` does."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder, blobs = path.parent, path.parents[2] / "blobs"
    is_stale = path.exists() or path.is_symlink()  # content of another size, or a broken link
    path.unlink(missing_ok=True)

    def download(report: Callable[[int], None]) -> None:
        bar: Any = partial(_Bar, report)
        options: dict[str, Any] = {"endpoint": _endpoint(), "headers": _HEADERS, "cache_dir": _cache()}
        options |= {"revision": folder.name, "force_download": is_stale}
        hf_hub_download(repository, path.name, tqdm_class=bar, **options)

    def incoming() -> int:
        """Bytes that another process has of files of this repository: the library waits until that process is done."""
        return sum(part.stat().st_size for part in blobs.glob("*.incomplete"))

    position = 0
    try:
        with closing(reports(download, SILENCE, pulse=incoming)) as positions:
            for position in positions:
                if position > size:
                    raise _Unavailable(
                        f"{_HUB} sent more than the {formatting.size(size)} of its {path.name}; try again"
                    )
                yield position
        return
    except (_Unavailable, GeneratorExit):
        raise
    except TimeoutError:
        problem = f"{_HUB} fell silent"
    except Exception as failure:
        cause = failure.__cause__ if isinstance(failure, LocalEntryNotFoundError) else None
        error = cause or failure
        if reason := _reason(error, repository, folder.name, path.name):
            raise _Unavailable(reason) from None
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # The library raises an OSError without a number for a file of another size.
        broken = f"the connection to {_HUB} broke ({_first_line(error)})"
        problem = f"{_HUB} stopped" if isinstance(error, OSError) else broken
    raise _Unavailable(
        f"{problem} after {formatting.size(position)} of the {formatting.size(size)} of its {path.name}; try again"
    )


class _Bar:
    """The progress bar that `huggingface_hub` gets: it reports the position in the file, in bytes."""

    def __init__(self, report: Callable[[int], None], *, initial: int = 0, **_: object) -> None:
        self._report, self._position, self._restarts = report, initial, 0

    def update(self, count: float | None = 1) -> None:
        self._position += int(count or 0)
        self._restarts += self._position == 0
        if self._restarts == _RESTARTS:
            raise RuntimeError("each time from the first byte")
        self._report(self._position)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was drawn."""


def _reason(error: BaseException, repository: str, revision: str, file: str = "") -> str:
    """Return what an error means that the Hub, or `huggingface_hub` on reading its answer, reports; "" for others."""
    from huggingface_hub import errors

    if isinstance(error, (errors.FileMetadataError, ValueError, KeyError, TypeError, AttributeError, RecursionError)):
        return f"{_endpoint()} does not answer as {_HUB} does"
    if not isinstance(error, errors.HfHubHTTPError):
        return ""
    status, code = error.response.status_code, error.response.headers.get("X-Error-Code")
    if isinstance(error, errors.GatedRepoError):
        page = f"{_endpoint()}/{repository}"
        return f"{_HUB} gates it: ask for access at {page}, and set HF_TOKEN to your token ({status})"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{_HUB} has no revision {revision!r} of it"
    if status == 404:
        return f"{_HUB} has lost its {file}; try again later" if file else f"{_HUB} has no such repository"
    if isinstance(error, errors.RepositoryNotFoundError) and code:
        return f"{_HUB} has no such repository, or it is private: set HF_TOKEN to a token that can read it ({status})"
    if status in (401, 403):
        return f"{_HUB} does not let you read it: set HF_TOKEN to a token that can ({status})"
    return f"{_HUB} answers with {status}; try again later"


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _first_line(error: BaseException) -> str:
    line = visible_line((str(error).strip() or type(error).__name__).splitlines()[0])
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
