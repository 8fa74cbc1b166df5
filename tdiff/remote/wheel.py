"""A wheel of this very tdiff, made of its installed files or of its source tree, without a build system."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import tdiff
from tdiff import __version__
from tdiff.errors import TdiffError

_NAME = "tdiff-lm"
_MOMENT = (2020, 1, 1, 0, 0, 0)
"""The time of all members, so that the same files are the same wheel."""
_WHEEL = "Wheel-Version: 1.0\nGenerator: tdiff\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_SHIPPED = ("checkpoints/shakespeare/README.md", "checkpoints/shakespeare/config.toml")
_SKIPPED = frozenset({"__pycache__", ".DS_Store"})


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel."""

    name: str
    """Of its file."""
    data: bytes
    sha256: str


@cache
def build() -> Wheel:
    """The wheel of the tdiff that runs. Raises TdiffError if it was not installed as a package."""
    try:
        installed = distribution(_NAME)
    except PackageNotFoundError:
        raise TdiffError(
            f"tdiff runs from {Path(tdiff.__file__).parents[1]} without being installed, so its requirements are "
            "unknown: install it with pip install -e"
        ) from None
    stem = f"{_NAME.replace('-', '_')}-{__version__}"
    members = dict(_package())
    for name, text in _about(installed, __version__):
        members[f"{stem}.dist-info/{name}"] = text
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items())
    members[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _MOMENT), data, zipfile.ZIP_DEFLATED)
    data = out.getvalue()
    return Wheel(f"{stem}-py3-none-any.whl", data, hashlib.sha256(data).hexdigest())


def _package() -> Iterator[tuple[str, bytes]]:
    """The files of the package; in a source tree the configurations and the model that are shipped lie beside it."""
    package = Path(tdiff.__file__).resolve().parent
    for path in _files(package):
        yield f"tdiff/{path.relative_to(package).as_posix()}", path.read_bytes()
    if (package / "_data").is_dir():
        return
    tree = package.parent
    shipped = [*_files(tree / "configs"), *(tree / name for name in _SHIPPED)]
    shipped += _files(tree / "checkpoints/shakespeare/model")
    for path in shipped:
        if path.is_file():
            yield f"tdiff/_data/{path.relative_to(tree).as_posix()}", path.read_bytes()


def _about(installed: Distribution, version: str) -> Iterator[tuple[str, bytes]]:
    metadata = installed.read_text("METADATA") or ""
    # That of an editable installation is as old as its last `pip install`.
    head, blank, rest = metadata.partition("\n\n")
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in head.split("\n")]
    lines = [line for line in lines if not line.startswith("License-File:")]
    yield "METADATA", ("\n".join(lines) + blank + rest).encode()
    yield "WHEEL", _WHEEL.encode()
    yield "entry_points.txt", (installed.read_text("entry_points.txt") or "").encode()


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and _SKIPPED.isdisjoint(path.relative_to(folder).parts)
    )


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
