"""Curves of runs as pictures and tables."""

import csv
import io
import itertools
from xml.etree import ElementTree

import pytest

from tdiff.draw import render
from tdiff.draw.curves import Curve
from tdiff.draw.palettes import Theme
from tdiff.errors import TdiffError
from tdiff.report.export import curve
from tdiff.report.export.chart_picture import picture
from tdiff.report.export.curve import Drawing
from tdiff.report.export.frames import Size
from tdiff.report.export.measures import ROW
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
    assert "my <run>" in text and not any(0x2800 <= ord(c) < 0x2900 for c in text), "lines, not dots"
    assert cli_fast("export", log, "out.txt").returncode == 0
    assert (here / "out.txt").read_text().startswith("run.log · train 2.0000 · val 2.2500\n")


def test_two_runs_have_letters(log, here):
    (here / "other.log").write_text("step 10 loss 3.5\nstep 20 loss 3.25\n")
    runs = curve.read([log, "other.log"])
    frame = curve.frame(runs, Drawing(Size(80, 20), Theme()))
    lines = [render.plain([line]) for line in frame.lines]
    assert lines[0].startswith("A run.log · train 2.0000 · val 2.2500   B other.log · train 3.2500")
    assert {len(line) for line in lines} == {80} and len(lines) == 20
    assert any("A train" in line for line in lines) and any("B train" in line for line in lines)


def test_captions_are_samples_of_the_run(here):
    [run] = curve.read([str(ROOT / "checkpoints" / "shakespeare")])
    lines = [render.plain([line]) for line in curve.frame([run], Drawing(Size(60, 20), Theme(), captions=True)).lines]
    newest = run.samples[-1]
    at = next(n for n, line in enumerate(lines) if line.startswith(f"step {newest.step:,} "))
    assert lines[at + 1].split()[:2] == newest.text.split()[:2]


def test_strips_are_below_the_curve_with_their_names_and_newest_values(cli_fast, here):
    lines = [f"step {n} loss {4 - n / 20:.3f} lr {n / 1000:.4f} grad_norm {n % 7}" for n in range(1, 41)]
    (here / "a.log").write_text("\n".join(lines) + "\n")
    (here / "b.log").write_text("step 1 loss 3.5 lr 0.5\nstep 40 loss 3.25 lr 0.25\n")
    assert cli_fast("export", "a.log", "out.txt", "--strips").returncode == 0
    text = (here / "out.txt").read_text().split("\n")
    assert len(text) == 25 and text[18].strip() == "lr 4.00e-02" and text[21].strip() == "grad 5.0000", text
    runs = curve.read(["a.log", "b.log"])
    drawn = [render.plain([line]) for line in curve.frame(runs, Drawing(Size(80, 20), Theme(), strips=True)).lines]
    below = "\n".join(drawn[-9:])
    assert "A lr 4.00e-02" in below and "B lr 2.50e-01" in below and "A grad" in below and "B grad" not in below
    assert {len(line) for line in drawn} == {80} and len(drawn) == 20


def test_strips_of_a_run_without_either_or_without_room_are_refused(cli_fast, log, here):
    done = cli_fast("export", log, "out.svg", "--strips")
    assert done.returncode == 2 and "run.log has neither" in done.stderr
    (here / "a.log").write_text("step 1 loss 2 lr 1 grad_norm 1\nstep 2 loss 1 lr 1 grad_norm 1\n")
    done = cli_fast("export", "a.log", "out.svg", "--strips", "--size", "80x8")
    assert done.returncode == 2 and "needs 11 rows" in done.stderr
    done = cli_fast("export", "a.log", "out.csv", "--strips")
    assert done.returncode == 2 and "--strips has no effect on a table of values" in done.stderr


def test_a_log_without_a_loss_and_an_animation_of_a_run_are_refused(cli_fast, log, here):
    (here / "other.txt").write_text("nothing here\n")
    assert "'other.txt' has no loss to draw" in cli_fast("export", "other.txt", "out.svg").refused()
    assert "unknown format 'gif'" in cli_fast("export", log, "out.gif").refused()
    with pytest.raises(TdiffError, match="--size leaves"):
        curve.frame(curve.read([log]), Drawing(Size(80, 4), Theme()))


SVG = "{http://www.w3.org/2000/svg}"


def paths_of(file) -> dict[str, list[list[tuple[float, float]]]]:
    """The points of the paths of each colour."""
    found = {}
    for path in ElementTree.parse(file).getroot().iter(f"{SVG}path"):
        points = [tuple(map(float, pair.split())) for pair in path.get("d")[1:].split("L")]
        found.setdefault(path.get("stroke"), []).append(points)
    return found


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_each_curve_is_a_path_of_one_colour(cli_fast, here, theme):
    rows = [f"step {n} loss {4 - n / 100:.3f} val_loss {4.5 - n / 100:.3f}" for n in range(1, 201)]
    (here / "a.log").write_text("\n".join(rows) + "\n")
    assert cli_fast("export", "a.log", "out.svg", "--theme", theme, "--smooth", "0").returncode == 0
    curves = [paths[0] for paths in paths_of(here / "out.svg").values() if len(paths[0]) > 150]
    assert len(curves) == 2, "the training curve and the held-out one"
    for points in curves:
        assert points == sorted(points), "from left to right, and down"
        slopes = [(d - b) / (c - a) for (a, b), (c, d) in itertools.pairwise(points)]
        assert max(slopes) - min(slopes) < 0.1, "a straight line stays straight"


@pytest.mark.parametrize("low, high", [(2.1, 4.0), (4.2, 8.4), (0.011, 0.019), (1.0, 1.3)])
def test_y_axis_has_at_least_three_evenly_spaced_round_ticks(cli_fast, here, low, high):
    rows = [
        f"step {n} loss {high - (high - low) * n / 40:.5f} lr {n / 1000:.4f} grad_norm {1 + n % 3}" for n in range(41)
    ]
    (here / "a.log").write_text("\n".join(rows) + "\n")
    for more in ((), ("--strips",), ("--strips", "--size", "60x14")):
        assert cli_fast("export", "a.log", "out.svg", *more).returncode == 0
        root = ElementTree.parse(here / "out.svg").getroot()
        ticks = [t for t in root.iter(f"{SVG}text") if t.get("text-anchor") == "end"]
        values, places = [float(t.text) for t in ticks], [float(t.get("y")) for t in ticks]
        assert len(values) >= 3, more
        apart = [b - a for a, b in itertools.pairwise(places)]
        assert max(apart) - min(apart) < 0.1 and min(map(abs, apart)) >= 14, (values, places)
        step = abs(values[1] - values[0])
        assert f"{step:.0e}"[0] in "125", values


def test_a_curve_has_a_gap_where_its_value_was_not_finite(cli_fast, here):
    rows = [f"step {n} loss {'nan' if n == 20 else f'{4 - n / 20:.3f}'}" for n in range(1, 41)]
    (here / "a.log").write_text("\n".join(rows) + "\n")
    assert cli_fast("export", "a.log", "out.svg", "--smooth", "0").returncode == 0
    parts = [points for paths in paths_of(here / "out.svg").values() for points in paths if len(points) > 10]
    assert [len(points) for points in parts] == [19, 20]
    assert "✗" in (here / "out.svg").read_text("utf-8")


@pytest.mark.parametrize("rows", [2, 4])
def test_each_strip_of_a_picture_has_its_rows_and_one_for_its_name(log, rows):
    [run] = curve.read([log])
    series = run.metrics["train/loss"]
    strips = [(name, Curve(series, "dim", "")) for name in ("one", "two")]
    drawn = picture(
        [Curve(series, "red", "train")],
        strips,
        "title",
        [[("below", "")]],
        size=Size(80, 30),
        strip_rows=rows,
        smoothing=0.0,
        background="dark",
    )
    one, two, below = (
        next(label.y for label in drawn.labels if label.text == text) for text in ("one", "two", "below")
    )
    assert two - one == below - two == (1 + rows) * ROW
    assert max(y for stroke in drawn.strokes for _, y in stroke.points) < below - ROW / 2
