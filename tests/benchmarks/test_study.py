"""The study of `make study`: its rows, its table, and that it goes on where it was stopped."""

import shutil
import subprocess
import sys

import pytest

from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings, parse_assignment, read_layer
from tdiff.core.models.transformer import Shape, Transformer
from tests.benchmarks import study
from tests.benchmarks.study import Result, Row, families, noise, rows, spread, table
from tests.support.paths import ROOT
from tests.support.runs import environment


def settings(row: Row) -> Settings:
    base = read_layer(ROOT / "configs" / "study" / "base.toml")
    return Settings.of([PRESETS[base["preset"]], base, *map(parse_assignment, row.set)])


def test_every_row_is_a_sound_change_of_the_base_and_names_a_row_to_compare_with():
    named = {row.name: settings(row) for row in rows()}
    assert len(named) == len(rows()) and all(row.against in named for row in rows())
    for row in rows():
        assert named[row.name].data.held_out == "tuning"
        assert (named[row.name] != named["base"]) == (row.name != "base")
        assert named[row.name].train.steps == named["base"].train.steps


def test_the_two_architectures_have_as_many_parameters():
    def count(name: str) -> int:
        model = settings(next(row for row in rows() if row.name == name)).model
        shape = Shape(
            vocab_size=66, mask_id=65, suppressed=(65,), layers=model.layers, heads=model.heads, width=model.width,
            window=model.window, conv=model.conv, hidden=model.hidden, classic=model.classic,
        )  # fmt: skip
        return sum(p.numel() for p in Transformer(shape).parameters())

    assert count("classic") == pytest.approx(count("no-conv"), rel=0.001)


def result(name: str, *nats: float, against: str = "base") -> Result:
    return Result(Row(name, f"about {name}", against=against), list(nats), 1000, 2000)


def test_a_difference_inside_the_spread_of_seeds_is_none():
    results = [
        result("base", 2.00, 2.02),
        result("same", 2.01, 2.03),
        result("better", 1.50, 1.52),
        result("other", 1.80, 1.82, against="better"),
    ]
    deviation, freedom = spread(results)
    assert (deviation, freedom) == (pytest.approx(0.01 * 2**0.5), 4)
    assert noise(results) == pytest.approx(2.78 * deviation)  # Student's t of 4 degrees of freedom
    lines = {line.split("|")[1].strip(): line for line in table(results).splitlines() if line.startswith("| about")}
    assert "| none | base |" in lines["about same"]
    assert "| -0.500 | base |" in lines["about better"]
    assert "| +0.300 | better |" in lines["about other"]
    assert "2.010 (2.000, 2.020) | 2.900 | 1,000 |" in lines["about base"]


def test_noisy_row_affects_only_its_own_comparisons():
    results = [
        result("base", 2.00, 2.002),
        result("better", 1.95, 1.952),
        result("slow", 2.10, 2.102),
        result("noisy", 3.1, 3.4, against="slow"),
    ]
    assert {name: len(family) for name, family in families(results).items()} == {"base": 3, "slow": 2}
    lines = {line.split("|")[1].strip(): line for line in table(results).splitlines() if line.startswith("| about")}
    assert "| -0.050 | base |" in lines["about better"]
    assert "| +1.149 | slow |" in lines["about noisy"]


@pytest.mark.slow
def test_a_study_that_was_stopped_can_be_resumed(here, corpus_file):
    shutil.copytree(ROOT / "configs", here / "configs")
    quick = (
        f"data.sources=['{corpus_file}']", "model.layers=1", "model.width=16", "model.heads=1", "model.window=32",
        "train.compile=off", "train.batch_size=2", "objective.context=4", "train.steps=3",
    )  # fmt: skip
    options = [f"--set={one}" for one in quick]
    command = [sys.executable, "-m", "tests.benchmarks.study", "--rows", "base,cosine", *options]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = str(ROOT)
        return subprocess.run(
            [*command, *arguments],
            cwd=here,
            env=environment(PYTHONPATH=path),
            capture_output=True,
            text=True,
            timeout=300,
        )

    first = run()
    assert first.returncode == 0, first.stderr
    assert sorted(line for line in first.stderr.splitlines() if line.startswith("trained")) == [
        f"trained study-{name}-{seed}" for name in ("base", "cosine") for seed in study.SEEDS
    ]
    assert "| cosine schedule |" in first.stdout
    command_line = "tdiff train --config study/base --run study-cosine-0 --seed 0 --set objective.schedule=cosine --set"
    assert command_line in first.stdout
    (here / "checkpoints" / "study-cosine-1" / "study.json").unlink()
    again = run()
    assert again.stdout == first.stdout and "trained" not in again.stderr
    assert run("--table").stdout == first.stdout
    other = run("--set=train.steps=4")
    assert other.returncode and "study-base-0 was trained with settings that differ" in other.stderr
    # One that was killed before its first save begins anew; one that was stopped is not scored before it has ended.
    lost, stopped = (here / "checkpoints" / f"study-{name}-0" for name in ("base", "cosine"))
    shutil.rmtree(lost / "resume")
    for folder in (lost, stopped):
        (folder / "study.json").unlink()
        events = (folder / "events.jsonl").read_text()
        (folder / "events.jsonl").write_text(events.replace('"reason":"finished"', '"reason":"stopped"'))
    again = run()
    assert sorted(again.stderr.splitlines()) == ["trained study-base-0", "trained study-cosine-0"]
    assert again.stdout == first.stdout
