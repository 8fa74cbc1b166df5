"""How OpenMP threads should wait on a busy machine: `python -m tests.benchmarks.waiting`.

Each workload is a process, run with each way of waiting in turn, next to 0, 1, 2 and 8 busy processes. A way is a
value of GOMP_SPINCOUNT (`default`: libgomp's 300,000; `passive`: OMP_WAIT_POLICY=PASSIVE; `tdiff`: the value that tdiff
sets). Prints the median wall and CPU seconds of each, and their ratios to `default` on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TDIFF = [sys.executable, "-m", "tdiff"]
WORKLOADS = {
    "generate": [*TDIFF, "generate", "--length", "100", "--decoder", "confidence", "--seed", "1"],
    "train": [*TDIFF, "train", "--data", "python", "--steps", "40", "--run", "r", "--set", "train.eval_tokens=256"],
    "tests": [sys.executable, "-m", "pytest", "-q", "-n0", str(ROOT / "tests/core/diffusion/test_denoise.py")],
}
LOADS = (0, 1, 2, 8)
BUSY = "while True: pass"
LIBGOMP_OWN = "300000"


def waiting(way: str) -> dict[str, str]:
    """The environment in which a process waits that way."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    environment |= {"PYTHONPATH": str(ROOT)}
    if way == "tdiff":
        return environment
    if way == "passive":
        return environment | {"OMP_WAIT_POLICY": "PASSIVE"}
    return environment | {"GOMP_SPINCOUNT": LIBGOMP_OWN if way == "default" else way}


def measure(command: list[str], way: str) -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    with tempfile.TemporaryDirectory() as folder:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        cwd = ROOT if "pytest" in command else folder
        subprocess.run(command, cwd=cwd, env=waiting(way), check=True, capture_output=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="default,passive,tdiff")
    parser.add_argument("--loads", default=",".join(map(str, LOADS)))
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    ways = options.ways.split(",")
    print(f"{'workload':10s} {'busy':>4s} {'way':>10s}  wall s   CPU s   (median of {options.times})", flush=True)
    for name in options.workloads.split(","):
        quiet: tuple[float, float] | None = None
        for load in map(int, options.loads.split(",")):
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(load)]
            try:
                taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
                for _ in range(options.times):
                    for way in ways:  # in turn, so that other load on the machine affects all of them
                        taken[way].append(measure(WORKLOADS[name], way))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            for way in ways:
                wall, cpu = (statistics.median(column) for column in zip(*taken[way], strict=True))
                quiet = quiet or (wall, cpu)
                against = f"{wall / quiet[0]:6.2f} x {cpu / quiet[1]:6.2f} x"
                print(f"{name:10s} {load:4d} {way:>10s} {wall:7.2f} {cpu:7.2f}  {against}", flush=True)


if __name__ == "__main__":
    main()
