"""How the threads of a product of matrices wait for one another: a moment at full speed, then asleep.

OpenMP's threads spin while they wait, by default for milliseconds, as if the machine were theirs. Beside a running job
the one that they wait for may not be running, and each spins away the time that it needs. The OpenMP library reads the
environment once, when torch is first imported, so `set_defaults` must come before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

SPINS = "1000"
"""Turns of libgomp's waiting loop (its default is 300,000): longer than the gap between two parts of one layer on a
quiet machine, shorter than a time slice. tests/benchmarks/waiting.py measures it."""
MILLISECONDS = "1"
"""The same for LLVM's and Intel's OpenMP, whose default is 200."""
_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_defaults(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the waiting time for this process and its children, unless the user set one, or torch is there already."""
    if "torch" in sys.modules or any(environ.get(name) for name in _BY_USER):
        return
    environ["GOMP_SPINCOUNT"] = SPINS
    environ["KMP_BLOCKTIME"] = MILLISECONDS
