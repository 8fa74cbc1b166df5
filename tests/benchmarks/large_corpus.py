"""The first step of a training on 10 MB and on 10 GB of text, once the token files exist. Linux.

python -m tests.benchmarks.large_corpus
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.support.large_corpus import first_steps

with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for step in first_steps(Path(folder)):
        print(
            f"{step.tokens:>13,} tokens: {step.seconds:.2f} s of computing, {step.memory / 1e6:,.0f} MB of memory, "
            f"{step.read / 1e6:,.1f} MB read"
        )
    os.chdir("/")
