"""The address of a file on another host: `ssh://[user@]host[:port]/path`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tdiff.errors import TdiffError
from tdiff.patterns import lazy
from tdiff.visible import visible_line

DEFAULT_COMMAND = "ssh -o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=2 -T"
"""The ssh command, unless TDIFF_SSH contains another, such as `ssh -p 2222 -i key`."""
_MAX_PATH = 4096
"""Bytes of a path."""
_JOB = lazy(r"/slurm:(\d+(?:[_+]\d+)?)")
_FORM = lazy(r"ssh://(?:([^/]*)@)?(\[[^]/]*\]|[^][:/@]*)(?::([^/]*))?(/.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a path on it."""

    host: str
    path: str
    """Absolute, or relative to the home folder; bytes that are not UTF-8 are surrogates."""
    user: str = ""
    port: int | None = None
    at_home: bool = False
    """Whether the path is relative to the home folder."""

    @staticmethod
    def parse(text: str) -> Address:
        """Parse an ssh:// address. Raises TdiffError if it is invalid, or if ssh could misread a part of it."""
        match = _FORM.fullmatch(text)
        if not match:
            raise TdiffError(f"an address is ssh://[user@]host[:port]/path; got {text!r}")
        user, host, port, path = match.groups()
        host = host.removeprefix("[").removesuffix("]")
        for part, name, others in (("host", host, ":"), ("user", user, "+@")):
            if name is not None and not re.fullmatch(rf"[A-Za-z0-9._{others}][A-Za-z0-9._{others}-]*", name):
                raise TdiffError(
                    f"the {part} of an address is letters, digits and any of . _ - {' '.join(others)}, "
                    f"and does not begin with -; got {name!r} in {text!r}"
                )
        if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 1 << 16):
            raise TdiffError(f"the port of an address is a number from 1 to 65535; got {port!r} in {text!r}")
        raw = unquote_to_bytes((path or "").encode("utf-8", "surrogateescape"))
        at_home = raw.startswith(b"/~/")
        raw = raw.removeprefix(b"/~/")
        if not raw.strip(b"/") or b"\0" in raw or len(raw) > _MAX_PATH:
            raise TdiffError(
                "an address names a file or a run's folder, as in ssh://host/home/me/train.log or "
                f"ssh://host/~/checkpoints/RUN; got {text[:200]!r}"
            )
        if raw.startswith(b"/slurm:") and not _JOB.fullmatch(raw.decode("utf-8", "replace")):
            raise TdiffError(
                f"a Slurm job on another host is named by its number, as in ssh://host/slurm:4711; got {text!r}"
            )
        number = None if port is None else int(port)
        return Address(host, raw.decode("utf-8", "surrogateescape"), user or "", number, at_home)

    @property
    def job(self) -> str:
        """The number of the Slurm job on the other host that is named instead of a file; "" if none is."""
        match = _JOB.fullmatch(self.path)
        return match[1] if match else ""

    @property
    def label(self) -> str:
        """A short name to show, safe to print."""
        parts = [part for part in self.path.split("/") if part]
        if parts[-1] == "events.jsonl" and len(parts) > 1:
            parts.pop()
        return visible_line(f"{self.host}:{parts[-1]}")

    @property
    def quoted(self) -> str:
        """The path as a word for a POSIX sh on the other host."""
        return '"${HOME:-.}"/' * self.at_home + shlex.quote(self.path)

    def command(self) -> list[str]:
        """An ssh command that ends with the host; a further word is run there. Raises TdiffError if there is no ssh."""
        configured = os.environ.get("TDIFF_SSH") or DEFAULT_COMMAND
        try:
            words = shlex.split(configured)
        except ValueError as error:
            raise TdiffError(
                f"TDIFF_SSH is a command, such as `ssh -p 2222 -i key`; got {configured!r}: {error}"
            ) from None
        if not words or not shutil.which(words[0]):
            name = words[0] if words else configured
            raise TdiffError(f"an ssh:// address requires an ssh client; {name!r} was not found (set TDIFF_SSH)")
        port = ["-p", str(self.port)] if self.port else []
        return [*words, *port, "--", f"{self.user}@{self.host}" if self.user else self.host]
