"""The program that `link` runs on the other machine, with Python 3.8 or newer: it answers requests, within one folder.

A request is a line of JSON with `op` on stdin, and `size` bytes after it; an answer on stdout has the same form.
Only the standard library is imported, because the other machine has nothing else yet. Paths are relative to the folder
that `open` names; no other path is written. Commands are lists of words, which no shell reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zlib
from typing import IO, Any

READY = "tdiff-ready"
"""The first line of this program; a login shell may write anything before it."""
_PIECE = 1 << 20
_VERSIONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python")
_LEAST = (3, 11)


class Problem(Exception):
    """What the other side reports to its user."""


class Far:
    """One session: the folder, and the operations in it."""

    def __init__(self) -> None:
        self.root = ""
        self.guard: IO[str] | None = None
        self.lock = threading.Lock()

    def inside(self, path: str) -> str:
        """The absolute path of a relative one. Raises Problem where it leaves the folder, also through a link."""
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise Problem(f"the path {path!r} leaves the folder")
        whole = os.path.join(self.root, *[part for part in parts if part not in ("", ".")])
        parent = os.path.realpath(os.path.dirname(whole) if whole != self.root else whole)
        if parent != self.root and not parent.startswith(self.root.rstrip("/") + "/"):
            raise Problem(f"{whole} leads out of the folder through a link")
        return whole

    def open(self, path: str, at_home: bool, create: bool) -> dict[str, Any]:
        """Enter the folder, and describe this machine."""
        whole = os.path.join(os.path.expanduser("~"), path) if at_home else path
        if create and not os.path.lexists(whole):
            os.makedirs(whole, exist_ok=True)
        if not os.path.isdir(whole):
            raise Problem(f"{whole} is not a folder there")
        self.root = os.path.realpath(whole)
        os.chdir(self.root)
        programs = [name for name in ("tmux", "screen", "sbatch", "rsync") if shutil.which(name)]
        return {
            "root": self.root,
            "host": platform.node(),
            "system": platform.system(),
            "machine": platform.machine(),
            "free": shutil.disk_usage(self.root).free,
            "programs": programs,
        }

    def pythons(self) -> dict[str, Any]:
        """The interpreters here, as [path, version] pairs, and which of them tdiff supports."""
        found: dict[str, str] = {}
        for name in _VERSIONS:
            program = shutil.which(name)
            if program is None or program in found:
                continue
            code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
            done = subprocess.run([program, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
            version = done.stdout.decode("ascii", "replace").strip()
            if done.returncode == 0 and version:
                found[program] = version
        fit = [p for p, v in found.items() if tuple(map(int, v.split(".")[:2])) >= _LEAST]
        return {"found": sorted(found.items()), "fit": fit}

    def gpus(self) -> dict[str, Any]:
        """The GPUs as nvidia-smi lists them, and the CUDA version of the driver; both empty without it."""
        program = shutil.which("nvidia-smi")
        if program is None:
            return {"names": [], "cuda": ""}
        try:
            query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
            names = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
            table = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return {"names": [], "cuda": ""}
        if names.returncode:
            return {"names": [], "cuda": ""}
        version = table.stdout.decode("utf-8", "replace").partition("CUDA Version:")[2].split()
        lines = names.stdout.decode("utf-8", "replace").splitlines()
        return {"names": [line.strip() for line in lines if line.strip()], "cuda": version[0] if version else ""}

    def hold(self) -> dict[str, Any]:
        """Hold the lock of the folder until this session ends, so that two sessions do not install at once."""
        import fcntl

        os.makedirs(self.inside(".tdiff"), exist_ok=True)
        self.guard = open(self.inside(".tdiff/lock"), "a")  # noqa: SIM115
        try:
            fcntl.flock(self.guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(f"another tdiff is preparing {self.root} at this moment; wait for it") from None
        return {}

    def release(self) -> dict[str, Any]:
        """Give the lock back."""
        if self.guard is not None:
            self.guard.close()
            self.guard = None
        return {}

    def exists(self, paths: list[str]) -> dict[str, Any]:
        """Whether anything has each of these names."""
        return {"there": [os.path.lexists(self.inside(path)) for path in paths]}

    def files(self, path: str) -> dict[str, Any]:
        """The regular files below a folder, as [path in it, bytes]; links are left out. None if there is no folder."""
        top = self.inside(path)
        found: list[list[Any]] = []
        if not os.path.isdir(top):
            return {"files": None}
        for folder, _, names in os.walk(top):
            for name in names:
                whole = os.path.join(folder, name)
                if os.path.isfile(whole) and not os.path.islink(whole):
                    found.append([os.path.relpath(whole, top).replace(os.sep, "/"), os.path.getsize(whole)])
        return {"files": sorted(found)}

    def digest(self, path: str) -> dict[str, Any]:
        """The SHA-256 of a file in hexadecimal, "" if it does not exist, and its size."""
        sha, size = hashlib.sha256(), 0
        try:
            with open(self.inside(path), "rb") as file:
                while True:
                    data = file.read(_PIECE)
                    if not data:
                        return {"sha256": sha.hexdigest(), "bytes": size}
                    sha.update(data)
                    size += len(data)
        except FileNotFoundError:
            return {"sha256": "", "bytes": 0}

    def read(self, path: str, offset: int, count: int) -> dict[str, Any]:
        """Bytes of a file."""
        with open(self.inside(path), "rb") as file:
            file.seek(offset)
            return {"data": file.read(min(count, 8 * _PIECE))}

    def write(self, path: str, offset: int, data: bytes) -> dict[str, Any]:
        """Write bytes into a file at an offset; what was behind them is dropped."""
        whole = self.inside(path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        handle = os.open(whole, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        with os.fdopen(handle, "wb") as file:
            file.seek(offset)
            file.write(data)
            file.truncate()
        return {}

    def put(self, path: str, mode: int, data: bytes) -> dict[str, Any]:
        """Write a whole file; a reader sees the old one or the new one."""
        whole = self.inside(path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        new = whole + ".new"
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(new, mode)
        os.replace(new, whole)
        return {}

    def unpack(self, path: str, data: bytes) -> dict[str, Any]:
        """Write the files of a tar archive below a folder."""
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    raise Problem(f"the archive contains something that is no file: {member.name!r}")
                self.write(path + "/" + member.name, 0, file.read())
        return {}

    def move(self, path: str, to: str) -> dict[str, Any]:
        """Rename a file or a folder; nothing is replaced."""
        if os.path.lexists(self.inside(to)):
            raise Problem(f"{self.inside(to)} exists already")
        os.makedirs(os.path.dirname(self.inside(to)), exist_ok=True)
        os.rename(self.inside(path), self.inside(to))
        return {}

    def remove(self, path: str) -> dict[str, Any]:
        """Remove a folder or a file of `.tdiff`, or of a copy that is under way."""
        if not path.startswith(".tdiff/") and ".part/" not in path:
            raise Problem(f"only what tdiff made is removed; got {path!r}")
        whole = self.inside(path)
        if os.path.isdir(whole) and not os.path.islink(whole):
            shutil.rmtree(whole)
        elif os.path.lexists(whole):
            os.unlink(whole)
        return {}

    def run(self, command: list[str], environment: dict[str, str]) -> dict[str, Any]:
        """Run a command in the folder. Its lines are sent as they come; it ends if the other side goes."""
        words = [os.path.join(self.root, command[0]) if "/" in command[0] else command[0], *command[1:]]
        pipe = subprocess.PIPE
        extra = {name: value.replace("{root}", self.root) for name, value in environment.items()}
        try:
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=self.root, env={**os.environ, **extra}
            )
        except OSError as error:
            raise Problem(f"{words[0]} cannot be started: {error.strerror}") from None
        readers = [
            threading.Thread(target=self._lines, args=(child, name), daemon=True) for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        while any(reader.is_alive() for reader in readers) or child.poll() is None:
            if select.select([0], [], [], 0.05)[0]:  # nothing is sent meanwhile: the other side is gone
                child.send_signal(signal.SIGINT)
                sys.exit(1)
        return {"code": child.wait()}

    def _lines(self, child: subprocess.Popen[bytes], name: str) -> None:
        for line in getattr(child, name):
            with self.lock:
                answer({"stream": name, "line": line.decode("utf-8", "replace").rstrip("\r\n")})


def answer(values: dict[str, Any]) -> None:
    """Send an answer; the bytes `data` follow it."""
    data = values.pop("data", b"")
    out = sys.stdout.buffer
    out.write(json.dumps({**values, "size": len(data)}).encode() + b"\n" + data)
    out.flush()


def main() -> None:
    """Answer requests until stdin ends."""
    far = Far()
    print(READY, flush=True)
    source = sys.stdin.buffer
    while True:
        line = source.readline()
        if not line:
            return
        request = json.loads(line)
        data = source.read(request.pop("size", 0))
        if request.pop("packed", False):
            data = zlib.decompress(data)
        op = request.pop("op")
        try:
            values = getattr(far, op)(**request, **({"data": data} if data or op in ("put", "write") else {}))
        except Problem as problem:
            values = {"error": str(problem)}
        except (OSError, tarfile.TarError, subprocess.SubprocessError) as error:
            values = {"error": str(error)}
        answer(values)


if __name__ == "__main__":
    main()
