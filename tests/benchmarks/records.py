"""How fast a watcher reads long logs: `python -m tests.benchmarks.records [--lines 1000000] [--kinds text csv ...]`.

A million lines of each kind go through a new `Reader` in pieces, as a source reads them: those of `tdiff train` first,
with which the others are compared. Prints CPU seconds of one thread, microseconds for each line, and the peak resident
memory. Generating the lines is not timed. `--follow` measures the share of a core that a followed file takes.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tdiff.protocol.events import Checkpoint, Eval, Start, Train, to_line
from tdiff.watch.follow import Watched
from tdiff.watch.reader import Reader
from tdiff.watch.run_state import RunState
from tdiff.watch.targets import Target

_PIECE = 2_400
"""Lines per piece: at most a megabyte."""


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


def losses(count: int) -> Iterator[tuple[int, float, float]]:
    """(n, loss, another number) of each record."""
    draw = random.Random(0)
    for n in range(1, count + 1):
        yield n, 1.5 + 3 / n**0.3 + draw.gauss(0, 0.02), draw.random()


def text(count: int) -> Iterator[str]:
    """Names and numbers on a line, behind a logger's clock."""
    for n, loss, other in losses(count):
        clock = f"2031-03-{n // 86_400 % 28 + 1:02} {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02},123"
        yield f"{clock} INFO train: step={n}/{count} loss={loss:.4f} lr={other:.3e} grad_norm={other + 1:.3f}"


def bar(count: int) -> Iterator[str]:
    """Bars of tqdm with the loss in the postfix."""
    for n, loss, other in losses(count):
        share, spent = n / count, n // 20
        filled = int(share * 10)
        at = f"{spent // 3600}:{spent // 60 % 60:02}:{spent % 60:02}"
        yield (
            f"Training: {share:4.0%}|{'█' * filled}{' ' * (10 - filled)}| {n}/{count} "
            f"[{at}<1:02:03, {19 + other:.2f}it/s, loss={loss:.3f}, lr={other:.2e}]"
        )


def json_lines(count: int) -> Iterator[str]:
    """An object per line."""
    for n, loss, other in losses(count):
        numbers = f'"loss": {loss:.6f}, "lr": {other:.4e}, "grad_norm": {other + 1:.4f}'
        yield f'{{"step": {n}, "time": {1.7e9 + n}, {numbers}}}'


def table(count: int) -> Iterator[str]:
    """Lines of a CSV table."""
    yield "step,time,loss,val_loss,lr,grad_norm"
    for n, loss, other in losses(count - 1):
        held = f"{2 + other:.4f}" if n % 100 == 0 else ""
        yield f"{n},{1.7e9 + n},{loss:.4f},{held},{other:.3e},{other + 1:.4f}"


def dictionaries(count: int) -> Iterator[str]:
    """What a Hugging Face Trainer prints: a dictionary, then its bar."""
    total = 5 * count
    for n, loss, other in losses(count // 2):
        rates = f"'grad_norm': {other + 1:.6f}, 'learning_rate': {other:.6e}"
        yield f"{{'loss': {loss:.4f}, {rates}, 'epoch': {n / 1000:.2f}}}"
        spent = n // 2
        at = f"{spent // 3600}:{spent // 60 % 60:02}:{spent % 60:02}"
        filled = f"{10 * n / total:4.0%}|{'█' * (100 * n // total):10}|"
        yield f" {filled} {10 * n}/{total} [{at}<5:00:00, {20 + other:.2f}it/s]"


KINDS = {"text": text, "bar": bar, "json": json_lines, "csv": table, "dictionaries": dictionaries}


def fed(lines: Iterator[str]) -> tuple[float, int, RunState]:
    """Feed the lines. Returns (seconds, bytes, the run state)."""
    reader, seconds, size = Reader("long"), 0.0, 0
    piece: list[str] = []
    ended = False
    while not ended:
        piece = list(islice(lines, _PIECE))
        ended = len(piece) < _PIECE
        size += sum(map(len, piece)) + len(piece)
        started = time.thread_time()
        reader.feed(piece)
        seconds += time.thread_time() - started
    started = time.thread_time()
    assert reader.state.log, "a log has lines"
    assert reader.state.state(time.time()), "there is a state"
    return seconds + time.thread_time() - started, size, reader.state


def follow(lines: Iterator[str], rate: int) -> float:
    """The share of a core that a file takes to which `rate` lines are added each second, in ten parts."""
    polls = 10
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        path.write_text("")
        watched = Watched(Target("file", "train.log", path=path))
        seconds, n = 0.0, 0
        for piece in iter(lambda: list(islice(lines, rate)), []):
            for part in range(polls):
                with path.open("a") as file:
                    file.writelines(f"{line}\n" for line in piece[part::polls])
                started = time.thread_time()
                watched.poll(0)
                watched.run_state.check(time.time())
                seconds += time.thread_time() - started
            n += 1
        watched.close()
    return seconds / n


def peak() -> float:
    """The peak resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--follow", type=int, default=0, metavar="RATE", help="lines a second of a followed file")
    options = parser.parse_args()
    if options.follow:
        for name in options.kinds:
            share = follow(KINDS[name](20 * options.follow), options.follow)
            print(f"{name}: {options.follow} lines a second take {share:.2%} of a core")
        return
    first, base = peak(), 0.0
    for name, lines in (("tdiff events", events), *((name, KINDS[name]) for name in options.kinds)):
        seconds, size, state = fed(lines(options.lines))
        each = 1e6 * seconds / options.lines
        base = base or each
        loss = state.metrics["train/loss"]
        print(
            f"{name:<13}{options.lines:>10,} lines {size / 1e6:>5.0f} MB {seconds:>7.2f} s {each:>6.1f} µs a line "
            f"({each / base:.2f} of events) {loss.count:>10,} losses, {peak():.0f} MB at most ({first:.0f} at first)",
            flush=True,
        )


if __name__ == "__main__":
    main()
