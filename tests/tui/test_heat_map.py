"""The heat map of the loss by mask ratio, in the details pane and over the curves."""

import re

from tdiff.draw.curves import Curve, View, layout
from tdiff.draw.palettes import Theme, styles
from tdiff.draw.render import plain
from tdiff.report.export.colours import colours
from tdiff.tui import heat_map
from tests.support.stage import run_lines, run_state

THEME = Theme()


def both(width: int = 80):
    run = run_state(run_lines())
    curve = Curve(run.metrics["train/loss"], "", "")
    names = [name for name in run.metrics if name.startswith(heat_map.PREFIX)]
    large = heat_map.draw(run, curve, layout([curve], View(), width, 20), width, len(names) + 1, None, THEME)
    return heat_map.small(run, width, THEME), large


def cells(lines) -> list[list[str]]:
    """For each row of the map the colours of its cells, without their dimming."""
    return [
        [part for text, style in line if "█" in text for part in [style.removeprefix("dim ")] * len(text)]
        for line in lines
        if re.match(r" +t \.", plain([line]))
    ]


def test_small_map_has_the_rows_the_numbers_and_the_colours_of_the_large_one():
    small, large = both()
    rows = [plain([line]).split("█") for line in small[1:]], [plain([line]).split("█") for line in large[:-1]]
    assert [(row[0].strip(), row[-1].strip()) for row in rows[0]] == [
        (row[0].strip(), row[-1].strip()) for row in rows[1]
    ]
    # Both have the same ramp and direction: the first and the last column are of the same steps.
    assert [(row[0], row[-1]) for row in cells(small)] == [(row[0], row[-1]) for row in cells(large)]
    assert {style for row in cells(small) for style in row} <= set(styles(THEME).shades)
    assert plain(large[-1:]).split("loss")[1].split() == plain(small[:1]).split("loss")[2].split()


def test_small_map_is_darker_than_the_text_beside_it():
    text = sum(colours("", "dark").text)
    fills = [style for line in both()[0] for part, style in line if "█" in part]
    assert fills and all(sum(colours(style, "dark").text) < text for style in fills)


def test_without_ratios_there_is_no_map():
    run = run_state(run_lines())
    for name in [name for name in run.metrics if name.startswith(heat_map.PREFIX)]:
        del run.metrics[name]
    assert heat_map.small(run, 80, THEME) == []
