"""Install this version of tdiff in a folder of another machine: an environment, the wheel, and what was found there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tdiff.errors import TdiffError
from tdiff.remote.link import Link
from tdiff.remote.place import PYTHON, TDIFF
from tdiff.remote.wheel import Wheel
from tdiff.visible import visible_line

_VENV, _STAMP = ".tdiff/venv", ".tdiff/installed.json"
_PIECE = 1 << 22
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_CUDA_12_INDEX = "https://download.pytorch.org/whl/cu126"
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
_INSIDE = {"PIP_CACHE_DIR": "{root}/.tdiff/cache", "TMPDIR": "{root}/.tdiff/tmp"}
"""pip writes its cache and its temporary files in the folder too."""
_FACTS = """\
import json, platform, sys
import torch
cuda = torch.cuda.is_available()
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda or "",
    "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else [],
    "mps": torch.backends.mps.is_available()}))
"""
_COMMAND = """\
#!/bin/sh
# The tdiff of this folder, written by tdiff train --on.
cd -- "$(dirname -- "$0")/.." || exit
export TDIFF_STATE="$PWD/.tdiff/state"
[ ! -f .tdiff/shakespeare.txt ] || export TDIFF_SHAKESPEARE="$PWD/.tdiff/shakespeare.txt"
exec "$PWD/.tdiff/venv/bin/python" -P -m tdiff "$@"
"""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What the other machine has."""

    python: str
    torch: str
    cuda: str
    """The CUDA version of torch; "" for a build without."""
    gpus: list[str] = field(default_factory=list)
    """The GPUs that torch can use."""
    mps: bool = False
    seen: list[str] = field(default_factory=list)
    """The GPUs that nvidia-smi lists."""
    driver: str = ""
    """The CUDA version that their driver supports."""

    def lines(self) -> list[str]:
        """The same in words."""
        build = f"CUDA {self.cuda}" if self.cuda else "without CUDA"
        names = self.gpus or (["Apple GPU (mps)"] if self.mps else [])
        lines = [f"Python {self.python}, torch {self.torch} ({build}), {_counted(names) or 'no GPU'}"]
        if self.seen and not self.gpus:
            lines.append(
                f"nvidia-smi lists {_counted(self.seen)} with CUDA {self.driver or '?'}, which this torch cannot use: "
                "the run will use the CPU. Install a torch that suits the driver in .tdiff/venv (https://pytorch.org)"
            )
        return lines


def install(
    link: Link, wheel: Wheel, say: Say, on_line: Say = lambda _: None, *, for_other_machines: bool = False
) -> Found:
    """Install the wheel unless it is installed, and report what is there.

    `for_other_machines`: the runs will be on the nodes of a cluster, whose GPUs cannot be seen from here.
    `say` takes what is done, `on_line` the lines of pip. Raises TdiffError where Python, venv or pip is missing or too
    old, and for what pip reports.
    """
    link.ask("hold")
    gpus = link.ask("gpus")
    seen, driver = [visible_line(str(name)) for name in gpus["names"]], visible_line(str(gpus["cuda"]))
    stamp = _stamp(link)
    fresh = _ensure_environment(link, say)
    if fresh or stamp.get("wheel") != wheel.sha256:
        system = "" if for_other_machines and not seen else str(link.facts["system"])
        options = [] if _has_own_index(link) else index_options(system, seen, driver)
        _install(link, wheel, options, again=not fresh and bool(stamp), say=say, on_line=on_line)
        facts = _facts(link)
        link.ask("put", json.dumps({"wheel": wheel.sha256, "facts": facts}).encode(), path=_STAMP, mode=0o644)
    else:
        facts = stamp["facts"] if len(stamp["facts"].get("gpus") or ()) == len(seen) else _facts(link)
        say(f"{wheel.name.split('-py3')[0]} is installed there already")
    link.ask("put", _COMMAND.encode(), path=TDIFF, mode=0o755)
    link.ask("release")
    return Found(
        visible_line(str(facts.get("python"))),
        visible_line(str(facts.get("torch"))),
        visible_line(str(facts.get("cuda") or "")),
        [visible_line(str(name)) for name in facts.get("gpus") or ()],
        bool(facts.get("mps")),
        seen,
        driver,
    )


def index_options(system: str, gpus: list[str], driver: str) -> list[str]:
    """What pip needs beside its own settings so that the torch that it finds suits the machine.

    PyPI's torch for Linux is made for the newest CUDA. Drivers of CUDA 12 require the build for that, and machines
    without a GPU are spared gigabytes. pip prefers these builds, since a local version is higher.
    """
    if system != "Linux":
        return []
    if not gpus:
        return ["--extra-index-url", _CPU_INDEX]
    if driver.startswith("12."):
        return ["--extra-index-url", _CUDA_12_INDEX]
    return []


def _ensure_environment(link: Link, say: Say) -> bool:
    """Make the environment unless it is there. Returns whether it was made."""
    if link.ask("exists", paths=[PYTHON])["there"][0]:
        code, _, _ = link.run([PYTHON, "-c", ""])
        if code == 0:
            _check_pip(link)
            return False
        link.ask("remove", path=_VENV)  # its interpreter was removed or updated
    pythons = link.ask("pythons")
    if not pythons["fit"]:
        found = ", ".join(f"{path} {version}" for path, version in pythons["found"])
        raise TdiffError(
            f"{link.host} has {visible_line(found)}: tdiff requires Python 3.11 or newer. Install one there, or make "
            f"the environment with another one: PYTHON -m venv {shlex.quote(link.root + '/' + _VENV)}"
        )
    python = str(pythons["fit"][0])
    say(f"making an environment there: {visible_line(python)} -m venv {_VENV}")
    code, _, last = link.run([python, "-m", "venv", _VENV])
    if code:
        link.ask("remove", path=_VENV)
        said = " ".join(last)
        if "ensurepip" in said or "No module named venv" in said:
            raise TdiffError(
                f"{link.host}: {visible_line(python)} comes without venv or pip; on Debian and Ubuntu the package "
                "python3-venv has them (sudo apt install python3-venv)"
            )
        raise TdiffError(f"{link.host}: {visible_line(python)} -m venv failed: {visible_line(_last(last))}")
    _check_pip(link)
    return True


def _check_pip(link: Link) -> None:
    code, _, last = link.run([PYTHON, *_PIP, "--version"])
    if code:
        raise TdiffError(
            f"{link.host}: the environment {link.root}/{_VENV} has no pip ({visible_line(_last(last))}); "
            f"{PYTHON} -m ensurepip installs it, or remove {_VENV} and try again"
        )


def _install(link: Link, wheel: Wheel, options: list[str], *, again: bool, say: Say, on_line: Say) -> None:
    path = f".tdiff/wheels/{wheel.name}"
    for offset in range(0, len(wheel.data), _PIECE):
        link.ask("write", wheel.data[offset : offset + _PIECE], path=path, offset=offset)
    if link.ask("digest", path=path)["sha256"] != wheel.sha256:
        raise TdiffError(f"the wheel arrived damaged at {link.host}; try again")
    link.ask("put", b"", path=".tdiff/tmp/.keep", mode=0o644)
    say(f"installing {wheel.name.split('-py3')[0]} and what it requires there, with pip (minutes the first time)")
    commands = [[*_PIP, "install", *options, path]]
    if again:  # the same version number with other contents
        commands.append([*_PIP, "install", "--force-reinstall", "--no-deps", path])
    for command in commands:
        code, _, last = link.run([PYTHON, *command], lambda _, line: on_line(line), _INSIDE)
        if code:
            errors = [line for line in last if line.startswith("ERROR")] or last
            raise TdiffError(f"{link.host}: pip cannot install tdiff: {visible_line(_last(errors[:1]))}")


def _has_own_index(link: Link) -> bool:
    """Whether the settings of pip there name an index or a folder of wheels, which then decide alone."""
    _, listing, _ = link.run([PYTHON, *_PIP, "config", "list"])
    code, variables, _ = link.run(["sh", "-c", "env | grep -E '^PIP_(EXTRA_)?INDEX_URL|^PIP_FIND_LINKS'"])
    return any(word in listing for word in ("index-url", "find-links")) or (code == 0 and bool(variables))


def _facts(link: Link) -> dict[str, Any]:
    code, out, last = link.run([PYTHON, "-P", "-c", _FACTS])
    try:
        facts = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        facts = None
    if code or not isinstance(facts, dict):
        raise TdiffError(f"{link.host}: torch is installed but cannot be imported: {visible_line(_last(last))}")
    return facts


def _stamp(link: Link) -> dict[str, Any]:
    if not link.ask("exists", paths=[_STAMP])["there"][0]:
        return {}
    try:
        values = json.loads(link.ask("read", path=_STAMP, offset=0, count=1 << 16)["data"])
    except ValueError:
        return {}
    return values if isinstance(values, dict) and isinstance(values.get("facts"), dict) else {}


def _counted(names: list[str]) -> str:
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())


def _last(lines: list[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
