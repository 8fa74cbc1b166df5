"""The exception for user errors, which the command line prints as one line on stderr, with exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORT = 12  # names that fit on a line


class TdiffError(Exception):
    """A user-facing error. Its text names the thing, the rule, the value received, and the nearest valid one."""


class OutOfMemory(TdiffError):
    """A batch that does not fit into the memory of the device. Of several processes, one alone may have this error."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        """`remedy` are the options of a training that takes the same steps with less memory, if there are any."""
        super().__init__(f"{problem}; the same steps with less memory: {remedy}" if remedy else problem)
        self.problem, self.remedy = problem, remedy


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or torch ran out of memory. torch is not imported: the name of its class is compared. On MPS and
    on a CPU torch raises a plain RuntimeError.
    """
    message = str(error).partition("\n")[0].lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (
            type(error).__name__ == "OutOfMemoryError"
            or "out of memory" in message
            or "can't allocate memory" in message
        )
    )


def out_of_memory_text(error: BaseException) -> str:
    """The line about an error of Python or torch for which `is_out_of_memory` is true."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"out of memory: {reason}: use a smaller batch, length or model, or another --device"


def unknown(kind: str, name: object, known: Iterable[str]) -> TdiffError:
    """The error for a name that is not in a fixed list; it suggests the nearest one, and the list unless it is long."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hints = [f"did you mean {near[0]}?"] if near else []
    if not near or len(names) <= _SHORT:
        hints.append(f"known: {', '.join(names)}")
    return TdiffError(f"unknown {kind} {str(name)!r}; {' '.join(hints)}")
