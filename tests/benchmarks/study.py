"""The study: which choices of the two seed projects matter, each at equal compute and with two seeds.

`make study` trains the rows of configs/study/rows.toml, as many at once as there are cores, one thread each, and prints
the table of the guide page what-matters. Finished runs are skipped and interrupted runs resume, so it may be stopped at
any time. `--rows` selects rows, `--table` trains nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings, parse_assignment, read_layer
from tdiff.files import write_atomic
from tdiff.protocol.events import End
from tdiff.runs.run import ROOT, Run

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "study"
SEEDS = (0, 1)
DRAWS = 8
"""Mask samples of each window of the tuning part, the same for every model."""
# Student's t, 97.5%, by degrees of freedom: the limit in pooled deviations of a chance difference of two means.
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 11: 2.20, 12: 2.18}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the study."""

    name: str
    about: str
    set: list[str] = field(default_factory=list)
    """Settings that differ from base.toml."""
    against: str = "base"

    def run(self, seed: int) -> Run:
        """The run of the row with that seed."""
        return Run(ROOT / f"study-{self.name}-{seed}")

    def command(self, seed: int) -> list[str]:
        """The arguments of `tdiff` that train the row."""
        options = [part for assignment in self.set for part in ("--set", assignment)]
        return ["train", "--config", "study/base", "--run", self.run(seed).name, "--seed", str(seed), *options]


def rows() -> list[Row]:
    """All rows of rows.toml."""
    return [Row(**row) for row in tomllib.loads((CONFIGS / "rows.toml").read_text("utf-8"))["row"]]


def tdiff(*arguments: str) -> str:
    """Run the command on one thread. Returns its stdout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tdiff", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tdiff {shlex.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def is_finished(run: Run) -> bool:
    """Whether a run has finished, and was not just stopped."""
    ended = [record for record in run.history() if isinstance(record, End)] if run.path.exists() else []
    return bool(ended) and ended[-1].reason == "finished"


def finish(row: Row, seed: int) -> None:
    """Train and evaluate a row with that seed, unless that is done."""
    run = row.run(seed)
    if not is_finished(run):
        if run.state.exists():
            tdiff("train", "--resume", run.name)
        else:
            shutil.rmtree(run.path, ignore_errors=True)  # it was killed before its first save
            tdiff(*row.command(seed))
        if not is_finished(run):  # it was stopped and saved
            return
        print(f"trained {run.name}", file=sys.stderr, flush=True)
    if not scored(row, seed).exists():
        text = tdiff("eval", str(run.path), "--split", "tuning", "--draws", str(DRAWS), "--json", "--device", "cpu")
        write_atomic(scored(row, seed), text.encode())


def check(row: Row, seed: int) -> None:
    """Raises SystemExit if a run of that name has other settings."""
    run = row.run(seed)
    if run.path.exists() and (run.path / "config.toml").exists():
        base = read_layer(CONFIGS / "base.toml")
        changes = [parse_assignment(assignment) for assignment in row.set]
        expected = Settings.of([PRESETS[base["preset"]], base, *changes, {"train": {"seed": seed}}])
        if run.settings() != expected:
            raise SystemExit(
                f"{run.path} was trained with settings that differ from the study's: delete it, or rename it"
            )


def scored(row: Row, seed: int) -> Path:
    """The file of the evaluation of a run."""
    return row.run(seed).path / "study.json"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a row."""

    row: Row
    nats: list[float]
    """Nats per character for each seed."""
    parameters: int
    tokens: int
    """Tokens seen in training."""

    @property
    def mean(self) -> float:
        """The mean of the seeds, nats per character."""
        return statistics.fmean(self.nats)


def read(row: Row) -> Result | None:
    """The result of a finished row; None if it is not finished."""
    if not all(scored(row, seed).exists() for seed in SEEDS):
        return None
    nats = [json.loads(scored(row, seed).read_text())["nats_per_char"] for seed in SEEDS]
    start = next(record for record in row.run(SEEDS[0]).history() if record.kind == "start")
    config = json.loads((row.run(SEEDS[0]).model / "config.json").read_text())
    return Result(row, nats, start.parameters, config["origin"]["tokens"])  # type: ignore[union-attr]  # a start


def spread(results: list[Result]) -> tuple[float, int]:
    """The pooled standard deviation of a single seed, nats per character, and its degrees of freedom."""
    squares = [sum((x - result.mean) ** 2 for x in result.nats) for result in results]
    freedom = len(results) * (len(SEEDS) - 1)
    return math.sqrt(sum(squares) / freedom), freedom


def noise(results: list[Result]) -> float:
    """The smallest difference between two rows that is significant at 95%, nats per character."""
    deviation, freedom = spread(results)
    # The standard error of a difference between two means of len(SEEDS) values.
    return _T[min(freedom, max(_T))] * deviation * math.sqrt(2 / len(SEEDS))


def families(results: list[Result]) -> dict[str, list[Result]]:
    """The rows that are compared with the same baseline, and the baseline, by its name.

    Each group has its own noise: rows with another baseline may be much noisier.
    """
    named = {result.row.name: result for result in results}
    grouped = {name: [named[name]] for name in {result.row.against for result in results} if name in named}
    for result in results:
        if result.row.against in grouped and result.row.name != result.row.against:
            grouped[result.row.against].append(result)
    return grouped


def table(results: list[Result]) -> str:
    """The table of the guide, in Markdown."""
    named = {result.row.name: result for result in results}
    least = {name: noise(family) for name, family in families(results).items()}
    lines = [
        "| | nats a character | bits a byte | parameters | difference | against |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        baseline = named.get(result.row.against)
        columns: Any = ("", "")
        if baseline is not None and baseline is not result:
            difference = result.mean - baseline.mean
            real = abs(difference) > least[baseline.row.name]
            columns = (f"{difference:+.3f}" if real else "none", result.row.against)
        seeds = ", ".join(f"{x:.3f}" for x in result.nats)
        lines.append(
            f"| {result.row.about} | {result.mean:.3f} ({seeds}) | {result.mean / math.log(2):.3f} | "
            f"{result.parameters:,} | {columns[0]} | {columns[1]} |"
        )
    lines.append("")
    lines.append(
        f"The tuning part of Tiny Shakespeare, {DRAWS} masks a window, two seeds, {results[0].tokens:,} tokens each; "
        f"{platform.machine()}, one thread a run. Differences inside the spread of the seeds are none: "
        + ", ".join(f"below {limit:.3f} against {name}" for name, limit in least.items())
        + "."
    )
    lines += ["", *(f"tdiff {shlex.join(result.row.command(0))}" for result in results)]
    return "\n".join(lines)


def main() -> None:
    """Train and evaluate the missing rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", default="", help="names of rows, separated by commas; default: all")
    parser.add_argument("--set", action="append", default=[], help="a setting for all rows, such as train.steps=4000")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    selected = [replace(row, set=[*row.set, *options.set]) for row in rows()]
    selected = [row for row in selected if not options.rows or row.name in options.rows.split(",")]
    todo = [
        (row, seed) for seed in SEEDS for row in selected
    ]  # the first seed of all rows first, so that an interrupted study has all rows
    for row, seed in todo:
        check(row, seed)
    if not options.table:
        pool = ThreadPoolExecutor(options.jobs)
        try:
            for done in [pool.submit(finish, row, seed) for row, seed in todo]:
                done.result()
        finally:  # Ctrl-C also reaches the runs, which save and stop
            pool.shutdown(cancel_futures=True)
    results = [result for row in selected if (result := read(row))]
    if not results:
        raise SystemExit("no row is finished yet")
    print(table(results))


if __name__ == "__main__":
    main()
