"""Where a run is to be: a folder of another machine, or a Slurm cluster here or there; and what lies in such a folder.

DIR/
    checkpoints/RUN/    the runs, as everywhere
    data/HASH/          what was copied; HASH is that of names and contents, so the same data is copied once
    .tdiff/             what tdiff needs: venv/, tdiff (this version, in this folder), wheels/, jobs/, installed.json
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import quote_from_bytes, unquote

from tdiff.errors import TdiffError
from tdiff.patterns import lazy
from tdiff.watch.sources.address import Address

TDIFF, PYTHON = ".tdiff/tdiff", ".tdiff/venv/bin/python"
"""The command of the folder, and the interpreter of its environment."""
RUNS, DATA, JOBS = "checkpoints", "data", ".tdiff/jobs"
FORMS = "ssh://[user@]host[:port]/folder, slurm:// or slurm+ssh://[user@]host[:port]/folder"
_SSH, _SLURM, _BOTH = "ssh://", "slurm://", "slurm+ssh://"
_PARTITION = lazy(r"[A-Za-z0-9_][A-Za-z0-9_.,-]*")


@dataclass(frozen=True, slots=True)
class Place:
    """What `--on` names."""

    address: Address | None
    """The folder of another machine; None for this one."""
    slurm: bool
    partition: str = ""
    """Of Slurm; "" for its default."""


def parse(text: str) -> Place:
    """Parse the value of `--on`. Raises TdiffError if it is invalid."""
    if text.startswith(_SLURM):
        partition = unquote(text.removeprefix(_SLURM)).strip("/")
        if partition and not _PARTITION.fullmatch(partition):
            raise TdiffError(
                f"slurm://PARTITION submits on this machine, in the current folder; got {text!r}. "
                "On another machine: slurm+ssh://host/folder"
            )
        return Place(None, True, partition)
    for prefix in (_SSH, _BOTH):
        if text.startswith(prefix):
            return Place(folder(_SSH + text.removeprefix(prefix)), prefix == _BOTH)
    raise TdiffError(f"--on takes {FORMS}; got {text!r}")


def folder(text: str) -> Address:
    """The folder of an ssh:// address. Raises TdiffError if it is invalid."""
    address = Address.parse(text)
    if address.job:
        raise TdiffError(f"{text!r} names a Slurm job, not a folder")
    if ".." in address.path.split("/"):
        raise TdiffError(f"a folder on another machine is named without ..; got {text!r}")
    return replace(address, path=address.path.rstrip("/"))


def split_run(text: str) -> tuple[Address, str]:
    """The folder and the name of the run of `ssh://host/folder/checkpoints/RUN`. Raises TdiffError for another form."""
    address = folder(text)
    parent, found, name = f"/{address.path}".rpartition(f"/{RUNS}/")
    base = parent.removeprefix("/") if address.at_home else parent.removeprefix("/") and parent[1:]
    if not found or not name or (not base and not address.at_home):
        raise TdiffError(f"a run on another machine is ssh://host/folder/{RUNS}/RUN; got {text!r}")
    return replace(address, path=base or "."), name


def url(address: Address, *parts: str) -> str:
    """The ssh:// address of something in a folder."""
    user = f"{address.user}@" if address.user else ""
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = f":{address.port}" if address.port else ""
    path = "/".join(("/~" if address.at_home else "", address.path.strip("/"), *parts))
    return f"ssh://{user}{host}{port}{quote_from_bytes(path.encode('utf-8', 'surrogateescape'), '/~')}"


def of_run(address: Address, name: str) -> str:
    """The ssh:// address of a run in a folder."""
    return url(address, RUNS, name)
