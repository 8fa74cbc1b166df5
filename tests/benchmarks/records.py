"""How fast a watcher reads a long run: `python -m tests.benchmarks.records [--lines 1000000]`.

A million lines as `tdiff train` writes them, then a table of 100,000 rows, go through a new `Reader` in pieces of about
a megabyte, as a source reads them. Prints CPU seconds of one thread, those of only parsing the same lines as JSON, and
the peak resident memory. Generating the lines is not timed.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Iterator

from tdiff.protocol.events import Checkpoint, Eval, Start, Train, to_line
from tdiff.watch.follow import Reader
from tdiff.watch.formats.base import json_object
from tdiff.watch.run_state import RunState

_PIECE = 2_400
"""Lines per piece: about a megabyte."""


def events(count: int) -> Iterator[str]:
    """Lines of a run: train records, with a checkpoint every 100 lines and an evaluation every 1,000."""
    draw = random.Random(0)
    start = Start(
        time=1.7e9,
        run="long",
        version="0",
        settings={},
        corpus="text",
        tokens=1,
        vocabulary=66,
        parameters=1,
        device="cpu",
        threads=1,
        pid=0,
        host="elsewhere",
    )
    yield to_line(start)[:-1]
    for n in range(1, count):
        at, loss = 1.7e9 + 10.0 * n, 1.5 + 3 / n**0.3 + draw.gauss(0, 0.02)
        if n % 100 == 0:
            yield to_line(Checkpoint(time=at, step=22 * n, path="model"))[:-1]
        elif n % 1000 == 1:
            held = Eval(
                time=at, step=22 * n, nats_per_token=loss, nats_per_char=loss, interval_95=(loss, loss), tokens=9
            )
            yield to_line(held)[:-1]
        else:
            record = Train(
                time=at,
                step=22 * n,
                tokens=45056 * n,
                loss=loss,
                loss_by_mask=[round(draw.random() + share, 4) for share in range(10)],
                lr=0.002 * draw.random(),
                grad_norm=draw.random(),
                tokens_per_second=4000 + draw.random(),
                progress=n / count,
                eta=10.0 * (count - n),
            )
            yield to_line(record)[:-1]


def table(count: int) -> Iterator[str]:
    """Lines of a CSV table."""
    draw = random.Random(0)
    yield "step,time,loss,val_loss,lr,grad_norm"
    for n in range(count):
        held = f"{2 + draw.random():.4f}" if n % 100 == 0 else ""
        yield f"{n},{1.7e9 + n},{2 + draw.gauss(0, 0.05):.4f},{held},{draw.random():.3e},{draw.random():.4f}"


def fed(lines: Iterator[str]) -> tuple[float, float, int, RunState]:
    """Feed the lines. Returns (seconds, seconds of JSON parsing alone, bytes, the run state)."""
    reader, seconds, alone, size = Reader("long"), 0.0, 0.0, 0
    piece: list[str] = []
    ended = False
    while not ended:
        piece = [line for line, _ in zip(lines, range(_PIECE), strict=False)]
        ended = len(piece) < _PIECE
        size += sum(map(len, piece)) + len(piece)
        started = time.thread_time()
        for line in piece:
            json_object(line)
        alone += time.thread_time() - started
        started = time.thread_time()
        reader.feed(piece)
        seconds += time.thread_time() - started
    started = time.thread_time()
    assert reader.state.log, "a log has lines"
    assert reader.state.state(time.time()), "there is a state"
    return seconds + time.thread_time() - started, alone, size, reader.state


def peak() -> float:
    """The peak resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    before = peak()
    for what, lines, count in (
        ("tdiff events", events(options.lines), options.lines),
        ("CSV", table(options.rows), options.rows),
    ):
        seconds, alone, size, state = fed(lines)
        loss = state.metrics["train/loss"]
        print(
            f"{what}: {count:,} lines, {size / 1e6:.0f} MB: {seconds:.2f} s ({alone:.2f} s for json.loads alone), "
            f"{loss.count:,} losses in {len(loss.steps):,} leaves, {peak():.0f} MB at most ({before:.0f} at first)"
        )


if __name__ == "__main__":
    main()
