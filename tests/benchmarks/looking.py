"""The cost of the lens and of drafts, beside the same without them: `python -m tests.benchmarks.looking`.

Everything is measured in one run. A pane of 4,096 positions is drawn 30 times a second, in turns without the
lens, with its lines, and with drafts too. `tdiff watch` opens a trace of 1,000 steps and 1,024 positions on a
pseudo-terminal, with predictions and without, and steps through it. Other work on the machine lengthens the seconds by
much, CPU seconds by less: the loop in the first row shows by how much.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tdiff.protocol.detail import DetailWriter
from tdiff.protocol.events import to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tests.benchmarks import canvas
from tests.benchmarks.watch import View, report, run_folder

STEPS, CELLS = 1000, 1024
_FRAME = 1 / 30
_PRESSES = 60
"""Keys pressed to measure a step."""


def detailed(lines: Iterator[TraceLine]) -> Iterator[TraceLine]:
    """A trace whose masked positions have predictions that move towards the right token, as many as it may have."""
    drawn = random.Random(3)
    header = next(lines)
    assert isinstance(header, TraceHeader)
    yield replace(header, given=[(n, text, 1) for n, text, _ in header.given])
    steps = [line for line in lines if isinstance(line, TraceStep)]
    right = {cell[0]: 2 + number % 997 for number, cell in enumerate(cell for line in steps for cell in line.cells)}
    text_of = {right[cell[0]]: cell[1] for line in steps for cell in line.cells}
    writer = DetailWriter(lambda token: text_of.get(token, f"w{token}"))
    masked = set(right)
    for line in steps:
        cells = [(n, text, right[n], c, event) for n, text, _, c, event in line.cells]
        line = replace(line, cells=cells)
        writer.earn(len(to_line(line)))
        predictions = {}
        for position in masked:
            p = min(0.9, drawn.uniform(0.1, 0.3) + 0.6 * line.index / len(steps))
            others = [(1 - p) / 2**n for n in range(1, 8)]
            ids = [right[position], *(2 + (right[position] + n) % 997 for n in range(1, 8))]
            order = sorted(zip([p, *others], ids, strict=True), reverse=True)
            predictions[position] = [token for _, token in order], [q for q, _ in order], 3 - 2 * p
        fresh = {cell[0] for cell in cells}
        detail, tokens = writer.pack(predictions, fresh)
        yield replace(line, detail=detail, tokens=tokens or None)
        masked -= fresh


def write_trace(path: Path, *, detail: bool, steps: int = STEPS) -> None:
    """Write a trace of so many steps and `CELLS` positions."""
    lines = canvas.trace(CELLS, steps, words=True)
    lines = detailed(lines) if detail else lines
    end = TraceEnd(text="", model_calls=steps, forced=0, tokens=CELLS - 16, seconds=60.0)
    path.write_text("".join(to_line(line) for line in (*lines, end)), "utf-8")


def panes(rounds: int) -> None:
    """4,096 positions at 30 frames a second, without the lens, with its lines, and with drafts too."""
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for looking in ("pane", "pane lens", "pane lens drafts"):
            cost = canvas.measure((160, 48), 4096, 64, words=False, frames=150, looking=looking)
            costs.setdefault(looking, []).append(1e3 * cost["cpu"] / 150)
    plain = statistics.median(costs["pane"])
    for looking, each in costs.items():
        cost = statistics.median(each)
        report(f"4,096 positions, {looking}: CPU a frame", cost, "ms", 1e3 * _FRAME)
        print(f"  to the pane alone: {cost / plain:.2f}")


def opened(folder: Path, name: str, times: int) -> None:
    """Open a trace and step through it, with what the lens shows and without."""
    seen: list[tuple[float, float, float, float]] = []
    for _ in range(times):
        small = View(folder, "small.jsonl", width=160, height=48)
        small.until("100%")
        least, least_cpu = time.perf_counter() - small.started, small.cpu()
        small.leave()
        view = View(folder, name, width=160, height=48)
        view.until("100%")
        seen.append((time.perf_counter() - view.started, view.cpu(), least, least_cpu))
        memory = view.memory()
        if len(seen) < times:
            view.leave()
    wall, cpu, least, least_cpu = (statistics.median(each) for each in zip(*seen, strict=True))
    size = (folder / name).stat().st_size / 1e6
    report(f"{name} ({size:.1f} MB): first paint, which has its text", wall, "s", 1.0)
    report(f"{name}: the same, CPU", cpu, "s", 1.0)
    print(f"  beyond that of a trace of 4 steps: {wall - least:.2f} s, CPU {cpu - least_cpu:.2f} s")
    report(f"{name}: resident memory", memory, "MB", 80)
    for keys, what in ((b"", "no lens"), (b"c", "lens"), (b"D", "lens and drafts")):
        os.write(view.fd, keys)
        view.read(1.5)
        before, started, delays = view.cpu(), time.perf_counter(), []
        for _ in range(_PRESSES):
            at, pressed = len(view.written), time.perf_counter()
            os.write(view.fd, b"h")
            view.until(lambda at=at: len(view.written) > at, every=0.002)  # type: ignore[misc]
            delays.append(time.perf_counter() - pressed)
        cost, rate = 1e3 * (view.cpu() - before) / _PRESSES, _PRESSES / (time.perf_counter() - started)
        report(f"{name}: a step back, {what}, CPU", cost, "ms", 1e3 * _FRAME)
        print(f"  {rate:.0f} steps a second; the median key {1e3 * statistics.median(delays):.0f} ms")
        before = view.cpu()
        view.key(b"\x1b[H", "step 0")
        view.key(b"\x1b[F", "100%")
        report(f"{name}: to the first step and to the last, {what}, CPU", 1e3 * (view.cpu() - before), "ms", 200)
    report(f"{name}: resident memory at the end", view.memory(), "MB", 120)
    view.leave()


def main() -> None:
    """Print each figure with its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="panes or traces")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}  {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"a loop of 200,000 multiplications (idle: about 9 ms): {canvas.reference() * 1e3:.1f} ms")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_folder(folder)
        if options.only in ("", "panes"):
            panes(options.times)
        if options.only in ("", "traces"):
            write_trace(folder / "plain.jsonl", detail=False)
            write_trace(folder / "detail.jsonl", detail=True)
            write_trace(folder / "small.jsonl", detail=False, steps=4)
            for trace in ("plain.jsonl", "detail.jsonl"):
                opened(folder, trace, options.times)


if __name__ == "__main__":
    main()
