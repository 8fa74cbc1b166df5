"""Copy a set of files with rsync, where both machines have it: it compresses, and continues within a file."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tdiff.remote.data import Set
from tdiff.remote.link import Link
from tdiff.watch.sources.address import Address

_AMOUNT = re.compile(rb"^\s*([\d,.]+)\s+\d+%")
Progress = Callable[[int, int], None]


def upload(link: Link, files: Set, folder: str, progress: Progress | None) -> bool:
    """Copy the files of a set into a folder there, relative to the place. Returns False where that is not possible.

    What it has copied until a failure stays there. The caller checks checksums.
    """
    base = common_base(files)
    if base is None or not link.has("rsync") or not shutil.which("rsync"):
        return False
    link.ask("put", b"", path=f"{folder}/.rsync", mode=0o600)  # makes the folder
    link.ask("remove", path=f"{folder}/.rsync")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(link.address, base, f"{link.root}/{folder}"), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin and process.stdout
        try:
            names = b"".join(file.name.encode("utf-8", "surrogateescape") + b"\0" for file in files.files)
            process.stdin.write(names)
            process.stdin.close()
        except BrokenPipeError:
            return False
        line = b""
        while data := process.stdout.read1(4096):  # type: ignore[attr-defined]  # a pipe is buffered
            *lines, line = re.split(rb"[\r\n]", line + data)
            for text in lines:
                if progress and (match := _AMOUNT.match(text)):
                    progress(int(re.sub(rb"\D", b"", match[1])), files.size)
    return process.returncode == 0


def command(address: Address, base: Path, target: str) -> list[str]:
    """The words of rsync, which reads names relative to `base` from stdin, each ended by NUL."""
    remote_shell = shlex.join(address.command()[:-2])  # without `-- host`, which rsync adds
    host = f"[{address.host}]" if ":" in address.host else address.host
    user = f"{address.user}@" if address.user else ""
    return [
        "rsync",
        *("--times", "--copy-links", "--partial", "--inplace", "--compress", "--protect-args"),
        *("--from0", "--files-from=-", "--info=progress2", f"--rsh={remote_shell}"),
        "--",
        f"{base}/",
        f"{user}{host}:{target}/",
    ]


def common_base(files: Set) -> Path | None:
    """The folder in which all files have their names in the set; None if there is none."""
    bases = set()
    for file in files.files:
        whole = str(file.path.absolute())
        if not whole.endswith(f"/{file.name}"):
            return None
        bases.add(whole.removesuffix(f"/{file.name}") or "/")
    return Path(bases.pop()) if len(bases) == 1 else None
