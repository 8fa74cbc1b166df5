"""Curves of runs as pictures and tables."""

import csv
import io
from xml.etree import ElementTree

import pytest

from tdiff.draw import render
from tdiff.draw.palettes import Theme
from tdiff.errors import TdiffError
from tdiff.report.export import curve
from tdiff.report.export.frames import Size
from tests.support.paths import ROOT


@pytest.fixture
def log(here):
    lines = [f"step {n * 10}/400 loss {4 - n / 20:.4f}" for n in range(1, 41)]
    lines += ["step 400 val_loss 2.25"]
    (here / "run.log").write_text("\n".join(lines) + "\n")
    return "run.log"


def test_table_has_a_row_for_each_step_and_a_column_for_each_metric(cli_fast, log, here):
    assert cli_fast("export", log, "out.csv").returncode == 0
    rows = list(csv.DictReader(io.StringIO((here / "out.csv").read_text())))
    assert [row["step"] for row in rows] == [str(10 * n) for n in range(1, 41)]
    assert [float(row["train/loss"]) for row in rows] == pytest.approx([4 - n / 20 for n in range(1, 41)], rel=1e-6)
    assert (rows[0]["eval/loss"], rows[-1]["eval/loss"]) == ("", "2.25")


def test_picture_has_the_curve_with_its_last_values(cli_fast, log, here):
    assert cli_fast("export", log, "out.svg", "--title", "my <run>").returncode == 0
    root = ElementTree.parse(here / "out.svg").getroot()
    text = "".join(root.itertext())
    assert "my <run>" in text and any(0x2800 <= ord(c) < 0x2900 for c in text)
    assert cli_fast("export", log, "out.txt").returncode == 0
    assert (here / "out.txt").read_text().startswith("run.log · train 2.0000 · val 2.2500\n")


def test_two_runs_have_letters(log, here):
    (here / "other.log").write_text("step 10 loss 3.5\nstep 20 loss 3.25\n")
    runs = curve.read([log, "other.log"])
    frame = curve.frame(runs, Size(80, 20), Theme(), 0.9, "", False)
    lines = [render.plain([line]) for line in frame.lines]
    assert lines[0].startswith("A run.log · train 2.0000 · val 2.2500   B other.log · train 3.2500")
    assert {len(line) for line in lines} == {80} and len(lines) == 20
    assert any("A train" in line for line in lines) and any("B train" in line for line in lines)


def test_captions_are_samples_of_the_run(here):
    [run] = curve.read([str(ROOT / "checkpoints" / "shakespeare")])
    lines = [render.plain([line]) for line in curve.frame([run], Size(60, 20), Theme(), 0.9, "", True).lines]
    newest = run.samples[-1]
    at = next(n for n, line in enumerate(lines) if line.startswith(f"step {newest.step:,} "))
    assert lines[at + 1].split()[:2] == newest.text.split()[:2]


def test_a_log_without_a_loss_and_an_animation_of_a_run_are_refused(cli_fast, log, here):
    (here / "other.txt").write_text("nothing here\n")
    assert "'other.txt' has no loss to draw" in cli_fast("export", "other.txt", "out.svg").refused()
    assert "unknown format 'gif'" in cli_fast("export", log, "out.gif").refused()
    with pytest.raises(TdiffError, match="--size leaves"):
        curve.frame(curve.read([log]), Size(80, 4), Theme(), 0.9, "", False)
