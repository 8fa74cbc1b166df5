"""A corpus of 10 GB: the way to the first step reads no more, and takes no more memory, than on a small one."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.large_corpus import FILE, FILES, first_steps


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts the bytes that a process reads")
@pytest.mark.skipif(not os.access(Path("/proc/self/io"), os.R_OK), reason="this system does not show /proc/self/io")
def test_the_first_step_on_10_gb_reads_and_allocates_what_that_on_10_mb_does(here):
    small, large = first_steps(here)
    assert (small.tokens, large.tokens) == (FILE * 9 // 10, FILE * FILES * 9 // 10)
    assert 0 < large.read < small.read + 1e6
    assert small.read < 2 * FILE
    assert small.memory < 500e6
    assert large.memory < small.memory + 100e6
