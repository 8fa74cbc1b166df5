"""The table of runs as text, at any width."""

import math
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tdiff.draw.columns import Column, fit
from tdiff.report.runs import count, span, table
from tests.support.stage import run_lines
from tests.watch.listing.test_rows import made, named

ROWS = [
    named("a-run-with-a-rather-long-name", host="gpu01", eta=4000.0, age=3.0, trend=-0.03),
    named("日本語の実験", "failed", loss=math.nan, eta=None, trend=0.2, age=86_400.0 * 3),
    replace(
        made(run_lines(20)), name="new", state="waiting", step=None, loss=None, eval_loss=None, trend=None, age=None
    ),
]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (40, ["name", "state", "loss"]),
        (60, ["name", "state", "step", "loss", "trend", "ETA"]),
        (80, ["name", "state", "step", "loss", "val", "trend", "ETA", "age"]),
        (120, ["name", "state", "step", "loss", "val", "trend", "ETA", "age", "host", "pid", "GPU", "size"]),
    ],
)
def test_columns_drop_out_from_the_least_important_one(width, titles):
    rows = [replace(row, eval_loss=2.0) for row in ROWS]
    lines = table(rows, width, wide=True)
    assert lines[0].split() == titles
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) == 4


@pytest.mark.parametrize("width", range(40, 200, 7))
def test_no_line_is_wider_than_the_table(width):
    assert all(cell_len(line) <= width for line in table(ROWS, width, wide=True))


def test_cells_say_what_is_known():
    lines = table(ROWS, 200)
    assert "● running" in lines[1] and "↓ 3.0%" in lines[1] and "1h07" in lines[1] and "20/2,000" in lines[1]
    assert "✗ failed" in lines[2] and "NaN" in lines[2] and "3d 0h" in lines[2]
    assert lines[3].split() == ["new", "○", "waiting", "-", "-", "-", "-", "-"]


def test_table_in_ascii_contains_nothing_else():
    assert all(line.isascii() for line in table(ROWS, 80, ascii=True))


def test_the_first_column_is_shortened_before_any_other_is_cut():
    columns = [Column("name", ["x" * 30], least=10), Column("loss", ["1.0"], 1), Column("age", ["5 s"], 2)]
    assert [(column.title, size) for column, size in fit(columns, 30)] == [("name", 19), ("loss", 4), ("age", 3)]
    assert [column.title for column, _ in fit(columns, 17)] == ["name", "loss"]
    assert [(column.title, size) for column, size in fit(columns, 12)] == [("name", 12)]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10k"),
        (12_512, "12.5k"),
        (2_000_000, "2M"),
        (2_500_000, "2.5M"),
        (10**9, "1G"),
    ],
)
def test_counts_are_short(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (3599, "1h00"),
        (7500, "2h05"),
        (86_399, "1d 0h"),
        (90_000, "1d 1h"),
        (864_000, "10 d"),
    ],
)
def test_times_are_short(seconds, text):
    assert span(seconds) == text
