"""Other programs that a command runs and waits for."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tdiff.errors import TdiffError
from tdiff.visible import visible_line


def output_of(command: Sequence[str], problem: str, seconds: float) -> str:
    """Run a program without input for at most `seconds`. Returns what it printed on stdout.

    Raises TdiffError if it cannot be started or fails: the `problem`, such as "sbatch refuses the job", and the last
    line that it printed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise TdiffError(f"{command[0]} cannot be started: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise TdiffError(f"{problem}: {visible_line(said[-1]) if said else f'exit code {done.returncode}'}")
    return done.stdout
