"""The number of this process among those that torchrun started together. No torch.

torchrun sets the environment of each process (`RANK`, `WORLD_SIZE`, ...), as do other launchers. Only the first process
talks, so that nothing is printed twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from tdiff.errors import TdiffError

_PATIENCE = 5.0
"""Seconds for which the others wait for the first one's message: a launcher ends all once one has failed."""


def size(environ: Mapping[str, str] = os.environ) -> int:
    """The number of processes; 1 without a launcher."""
    return max(1, _number(environ, "WORLD_SIZE", 1)) if "RANK" in environ else 1


def rank(environ: Mapping[str, str] = os.environ) -> int:
    """The number of this process, 0..size-1."""
    return _number(environ, "RANK", 0) if size(environ) > 1 else 0


def local_rank(environ: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those of its machine."""
    return _number(environ, "LOCAL_RANK", 0) if size(environ) > 1 else 0


def talks() -> bool:
    """Whether this process prints and draws: the first one does."""
    return rank() == 0


def check_alone(command: str) -> None:
    """Raise TdiffError if a launcher started this process as one of several: the command does not share its work.

    Launchers set LOCAL_RANK; the environment of a container may have the others for what is to be started in it.
    """
    if size() > 1 and "LOCAL_RANK" in os.environ:
        raise TdiffError(
            f"tdiff {command} is for one process, not {size()}: start it without torchrun; "
            "train, eval, compare, classify and generate --input share their work"
        )


def wait_for_the_first() -> None:
    """In another process than the first: wait until the launcher ends this one, because the first has failed too."""
    if not talks():
        time.sleep(_PATIENCE)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, "")
    return int(value) if value.isdecimal() and value.isascii() else default
