"""Drawing and filling curves: `python -m tests.benchmarks.charts`. Target: two series of 100,000 points in 5 ms."""

from __future__ import annotations

import platform
import random
import time
import tracemalloc
from collections.abc import Callable

from tdiff.draw.chart import draw
from tdiff.draw.curves import Curve, View
from tdiff.series.series import Series

POINTS = 100_000
WIDTH, HEIGHT = 120, 30
TARGET = 5.0


def loss(count: int, seed: int) -> list[float]:
    """A noisy curve that falls."""
    noise = random.Random(seed)
    return [2.2 + 4 / (1 + n / (count / 20)) + noise.gauss(0, 0.1) for n in range(count)]


def timed(function: Callable[[], object], times: int) -> tuple[float, float]:
    """Milliseconds per call after a warm-up call: the median and the 95th percentile."""
    function()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        took.append(1e3 * (time.perf_counter() - started))
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.95)]


def drawing(times: int = 200) -> None:
    """Time drawing a chart of two series in several views."""
    curves = []
    for seed in range(2):
        series = Series()
        series.extend(range(POINTS), loss(POINTS, seed))
        curves.append(Curve(series, "color(215)", "loss"))
    steps = iter(range(POINTS, 10 * POINTS))

    def grown() -> None:
        step = next(steps)
        for curve in curves:
            curve.series.append(step, 2.3)
        draw(curves, View(smoothing=0.6), WIDTH, HEIGHT)

    print(f"\n{'two series of 100,000 points, 120x30, warm':<48} {'p50 ms':>8} {'p95 ms':>8}")
    for name, view in (
        ("values", View()),
        ("smoothed .6 over a ghost", View(smoothing=0.6)),
        ("smoothed .99 over a ghost, log axis", View(smoothing=0.99, log_y=True)),
        ("smoothed .6 over a ghost, cursor", View(smoothing=0.6, cursor=50_000)),
        ("values, zoomed to 1,000 steps", View(x0=50_000, x1=51_000)),
    ):
        p50, p95 = timed(lambda view=view: draw(curves, view, WIDTH, HEIGHT), times)  # type: ignore[misc]
        print(f"{name:<48} {p50:>8.2f} {p95:>8.2f}")
    print(f"{'smoothed .6 over a ghost, a record each time':<48} {{:>8.2f}} {{:>8.2f}}".format(*timed(grown, times)))
    print(f"target: {TARGET} ms")


def filling(records: int = 1_000_000, many: int = 20) -> None:
    """Measure records per second and the memory of the series."""
    values = loss(records, 7)
    print(f"\n{records:,} records")
    started = time.perf_counter()
    series = Series()
    for step, value in enumerate(values):
        series.append(step, value)
    took = time.perf_counter() - started
    print(f"append: {records / took / 1e6:.2f} M/s; {len(series.steps):,} leaves of {series.stride} records")
    started = time.perf_counter()
    Series().extend(range(records), values)
    print(f"extend: {records / (time.perf_counter() - started) / 1e6:.2f} M/s")
    started = time.perf_counter()
    series.smoothed(0.6)
    print(f"smoothing from scratch: {1e3 * (time.perf_counter() - started):.1f} ms")
    for cap in (1 << 16, 1 << 12):
        tracemalloc.start()
        held = [Series(cap) for _ in range(many)]
        for series in held:
            series.extend(range(records), values)
            series.span(0, cap)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        print(f"{many} series with a cap of {cap:,}: {size / 2**20:.1f} MiB, {size / many / 2**10:.0f} KiB each")


def main() -> None:
    print(f"{time.strftime('%Y-%m-%d')}  {platform.machine()}, Python {platform.python_version()}")
    drawing()
    filling()


if __name__ == "__main__":
    main()
