"""The time until each command shows its first output, compared with its limit: `make bench`.

Each figure is measured from the start of the process: `--help` and 256 characters until the exit, `generate` until the
first frame with a masked position on a terminal, `train` until the line with the first loss, `watch` of a log with 800
records until the exit or until the first frame. Training reads Tiny Shakespeare if $TDIFF_SHAKESPEARE names the file,
and otherwise Python's documentation, so that no download is timed.
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TDIFF = [sys.executable, "-m", "tdiff"]
BLOCK, CORNER = "█".encode(), "╭".encode()
LOG = "".join(f"step {step} loss {3 - step / 500:.4f} lr 1e-3\n" for step in range(800))


def environment() -> dict[str, str]:
    return os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}


def until_exit(arguments: list[str], folder: Path) -> float:
    """Seconds to the exit."""
    started = time.perf_counter()
    subprocess.run([*TDIFF, *arguments], cwd=folder, env=environment(), check=True, capture_output=True)
    return time.perf_counter() - started


def until(text: bytes, arguments: list[str], folder: Path) -> float:
    """Seconds until `text` is on the command's terminal, which is then closed."""
    terminal, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    started = time.perf_counter()
    child = subprocess.Popen(
        [*TDIFF, *arguments],
        cwd=folder,
        env=environment(),
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    written = b""
    while text not in written:
        written += os.read(terminal, 1 << 16)
    seconds = time.perf_counter() - started
    child.kill()
    child.wait()
    os.close(terminal)
    return seconds


def first_loss(arguments: list[str], folder: Path) -> float:
    """Seconds until the first line with a loss comes through a pipe."""
    started = time.perf_counter()
    command = [*TDIFF, *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        line = next(line for line in child.stdout if b"  loss " in line)
        seconds = time.perf_counter() - started
        assert line.startswith(b"step 1 ")
        child.kill()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="repetitions of each")
    times = parser.parse_args().times
    corpus = "shakespeare" if os.environ.get("TDIFF_SHAKESPEARE") else "python"
    generate = ["generate", "--seed", "1"]  # fills the window, 256 characters
    train = ["train", "--timesteps", "128", "--data", corpus]

    def log(folder: Path) -> str:
        path = folder / "train.log"
        path.write_text(LOG)
        return str(path)

    rows: list[tuple[str, float, Callable[[Path], float]]] = [
        ("tdiff --help", 0.25, lambda folder: until_exit(["--help"], folder)),
        ("tdiff watch --once FILE", 1.0, lambda folder: until_exit(["watch", "--once", log(folder)], folder)),
        ("tdiff watch FILE, first frame", 2.0, lambda folder: until(CORNER, ["watch", log(folder)], folder)),
        ("tdiff generate, first frame", 4.0, lambda folder: until(BLOCK, generate, folder)),
        ("tdiff generate, 256 characters", 20.0, lambda folder: until_exit(generate, folder)),
        ("tdiff train --timesteps 128, first loss", 15.0, lambda folder: first_loss(train, folder)),
    ]
    print(f"{time.strftime('%Y-%m-%d')}  {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {times} times each")
    print(f"{'seconds from the start of the process':<40} {'median':>8} {'best':>8} {'worst':>8} {'limit':>8}")
    for what, limit, measure in rows:
        with tempfile.TemporaryDirectory() as folder:
            seconds = [measure(Path(folder)) for _ in range(times)]
        median = statistics.median(seconds)
        over = "" if median <= limit else "  above the limit"
        print(f"{what:<40} {median:>8.2f} {min(seconds):>8.2f} {max(seconds):>8.2f} {limit:>8.2f}{over}", flush=True)


if __name__ == "__main__":
    main()
