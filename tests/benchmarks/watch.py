"""The cost of the live view: `python -m tests.benchmarks.watch`. Prints each figure with its target.

The command runs on a pseudo-terminal that is read at once. Other work on the machine affects every figure.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WATCH = [sys.executable, "-m", "tdiff", "watch"]
LINES = 1_000_000
CALLS = 64
"""Model calls of the text that `beside` times."""


class View:
    """`tdiff watch` on a pseudo-terminal."""

    def __init__(self, folder: Path, *arguments: str, rate: float = 0.0, width: int = 80, height: int = 24) -> None:
        """`rate` is the speed of the link in bytes per second; 0: no limit."""
        self.written, self.rate, self.started = b"", rate, time.perf_counter()
        state = {"TDIFF_STATE": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
        env = os.environ | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)} | state
        for name in ("NO_COLOR", "STY", "TMUX", "COLORTERM"):
            env.pop(name, None)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(WATCH[0], [*WATCH, *arguments], env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._allowed, self._asked, self._column = 0.0, time.perf_counter(), 0

    def read(self, seconds: float) -> None:
        """Read its output for so many seconds."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            size = 1 << 16
            if self.rate:
                now = time.perf_counter()
                self._allowed = min(self.rate / 10, self._allowed + self.rate * (now - self._asked))
                self._asked = now
                size = int(self._allowed)
                if size < 256:
                    time.sleep(min(left, 0.005))
                    continue
            if select.select([self.fd], [], [], min(left, 0.01) if self.rate else left)[0]:
                with contextlib.suppress(OSError):
                    piece = os.read(self.fd, size)
                    self.written += piece
                    self._answer(piece)
                    self._allowed -= len(piece)

    def _answer(self, piece: bytes) -> None:
        """Answer cursor position requests as a terminal does that draws blocks and braille one cell wide."""
        for _ in range(piece.count(b"\x1b[6n")):
            self._column = self._column % 3 + 1
            os.write(self.fd, b"\x1b[1;%dR" % self._column)

    def until(
        self, what: str | Callable[[], bool], after: int = 0, patience: float = 120.0, every: float = 0.005
    ) -> float:
        """Seconds until the text is written or the condition is true; checked every `every` seconds."""
        started = time.perf_counter()
        while time.perf_counter() - started < patience:
            if what() if callable(what) else what.encode() in self.written[after:]:
                return time.perf_counter() - started
            self.read(every)
        raise SystemExit(f"{what!r} did not come within {patience:.0f} s")

    def key(self, keys: bytes, shows: str) -> float:
        """Seconds from a key press to the text that it shows."""
        at = len(self.written)
        os.write(self.fd, keys)
        return self.until(shows, at)

    def cpu(self) -> float:
        """CPU seconds of the view, without its children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident megabytes of the view, without its children."""
        match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(match[1]) / 1024 if match else 0.0

    def leave(self) -> None:
        os.write(self.fd, b"qq")
        self.read(0.3)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGTERM)
        end = time.perf_counter() + 10
        while time.perf_counter() < end and os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            self.read(0.05)
        os.close(self.fd)


def report(what: str, figure: float, unit: str, target: float) -> None:
    outcome = "ok" if figure <= target else "MISSED"
    print(f"{what:<58} {figure:>8.2f} {unit:<5} target {target:g}  {outcome}", flush=True)


def run_folder(folder: Path) -> Path:
    """The shipped run, with its log and samples."""
    target = folder / "checkpoints" / "shakespeare"
    shutil.copytree(ROOT / "checkpoints" / "shakespeare", target)
    return target


def start_up(folder: Path, times: int) -> None:
    paints, samples, lives = [], [], []
    for _ in range(times):
        view = View(folder)
        view.until("tdiff watch")
        paints.append(time.perf_counter() - view.started)
        view.until("confidence low")
        view.until(lambda view=view: b"left" in view.written)  # type: ignore[misc]
        samples.append(time.perf_counter() - view.started)
        view.until("██████")
        lives.append(time.perf_counter() - view.started)
        view.leave()
    report("first paint", statistics.median(paints), "s", 0.6)
    report("the recorded sample", statistics.median(samples), "s", 1.0)
    report("live: the first masks of a generated text", statistics.median(lives), "s", 4.0)


def idle(folder: Path, seconds: float) -> None:
    view = View(folder, "--every", "100000", "--decoder", "schedule", "--steps", "4")
    view.until("next text in")
    view.read(3)
    before = view.cpu()
    view.read(seconds)
    report("idle, share of a core", 100 * (view.cpu() - before) / seconds, "%", 1.0)
    report("resident memory of the view", view.memory(), "MB", 80)
    view.leave()


def big_file(folder: Path) -> None:
    log = folder / "big" / "events.jsonl"
    log.parent.mkdir()
    line = (
        '{{"kind":"train","time":{t:.3f},"step":{n},"tokens":{k},"loss":{x:.15f},"loss_by_mask":[2.1031,1.9441,2.0311,'
        '2.2214,2.3151,2.4155,2.5155,2.6154,2.7155,2.8155],"lr":0.00026415094339622643,"grad_norm":0.9134141206741333,'
        '"tokens_per_second":87412.22561211,"progress":{p:.12f},"eta":{e:.7f},"gpu_load":97.0,"gpu_memory":41.22,'
        '"gpu_temperature":63.0,"gpu_power":402.1}}\n'
    )
    with log.open("w") as file:
        for n in range(1, LINES + 1):
            x = 1.5 + 3 / (1 + n / 20000) + (n * 7919 % 1000) / 1e4
            file.write(line.format(t=1.7e9 + n, n=n, k=n * 2048, x=x, p=n / LINES, e=float(LINES - n)))
    view = View(folder, str(log.parent), "--every", "100000", "--decoder", "schedule", "--steps", "4")
    view.until("tok/s")
    report("1,000,000 lines: the newest 20,000 painted", time.perf_counter() - view.started, "s", 2.0)
    delays = []
    reading = True
    while reading and time.perf_counter() - view.started < 180:
        delays.append(view.key(b"?", "Everywhere"))
        at = len(view.written)
        delays.append(view.key(b"q", "EMA"))  # which redraws the line above
        view.read(0.3)
        reading = b"reading" in view.written[at:]
    report("1,000,000 lines: the rest filled in", time.perf_counter() - view.started, "s", 20.0)
    report("keys while reading, the slowest", 1000 * max(delays), "ms", 100)
    report("keys while reading, the median", 1000 * statistics.median(delays), "ms", 100)
    report("resident memory with the million lines", view.memory(), "MB", 80)
    view.leave()


def slow_link(folder: Path) -> None:
    view = View(folder, "--every", "0", rate=50_000)
    view.until("left")
    delays = []
    for _ in range(8):
        view.read(1.0)
        delays += [view.key(b"?", "Everywhere"), view.key(b"q", "confidence low")]
    report("keys on a link of 50 kB/s, the slowest of 16", max(delays), "s", 1.0)
    view.leave()


def beside(folder: Path, rounds: int) -> None:
    """The time of a text of `char-10m` in the view, relative to that without a view, in pairs.

    Each round needs new processes, since two equal processes differ by some percent for as long as they run.
    """
    from tests.benchmarks.serving import saved

    model = saved(folder / "char-10m", "char-10m")
    ratios = []
    for n in range(rounds):
        round_folder = folder / f"round-{n}"
        round_folder.mkdir()
        alone = [sys.executable, "-m", "tests.benchmarks.watch", "--alone", str(model)]
        other = subprocess.Popen(alone, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert other.stdin and other.stdout
        options = ("--decoder", "schedule", "--steps", str(CALLS), "--seed", "1", "--every", "100000")
        view = View(round_folder, "--model", str(model), *options, width=160, height=48)
        for k in range(1, 6):  # one after the other
            view.until("next text in", every=0.3)  # seldom: reading the terminal slows the model down
            view.read(1.0)
            view.key(b"x", "saved")
            seen = json.loads((round_folder / f"trace-{k}.jsonl").read_text("utf-8").splitlines()[-1])["seconds"]
            other.stdin.write("\n")
            other.stdin.flush()
            plain = float(other.stdout.readline())
            if k > 1:  # the first pair is a warm-up
                ratios.append(seen / plain)
            os.write(view.fd, b"n")
            view.read(1.0)
            view.written = b""
        view.leave()
        other.stdin.close()
        other.wait()
    ratios.sort()
    half = f"half of {len(ratios)} pairs {ratios[len(ratios) // 4]:.3f} to {ratios[-1 - len(ratios) // 4]:.3f}"
    report(f"char-10m under the view / alone ({half})", statistics.median(ratios), "", 1.05)


def alone(model: str) -> None:
    """For each line of standard input write the seconds of a text without a view."""
    from tdiff.config.decoding import DecodeSettings
    from tdiff.core import devices
    from tdiff.core.diffusion.generate import narrate
    from tdiff.core.models.load import load_model

    loaded = load_model(model, devices.choose("auto"))
    for n, _ in enumerate(sys.stdin):
        *_, last = narrate(loaded, "", DecodeSettings(decoder="schedule", steps=CALLS, seed=1), row=n)
        print(last.seconds, flush=True)  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="start, idle, big, slow or beside")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone)
        return
    print(f"{time.strftime('%Y-%m-%d')}  {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_folder(folder)
        parts = {
            "start": lambda: start_up(folder, options.times),
            "idle": lambda: idle(folder, 20.0),
            "slow": lambda: slow_link(folder),
            "big": lambda: big_file(folder),
            "beside": lambda: beside(folder, options.times),
        }
        for part, measure in parts.items():
            if options.only in ("", part):
                measure()


if __name__ == "__main__":
    main()
