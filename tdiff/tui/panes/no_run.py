"""What the training pane says while no run is watched: commands to type, and what each does."""

from __future__ import annotations

from tdiff.draw.render import Line
from tdiff.tui.widgets.lines import fold

_NO_RUN = "No run in this folder yet. In another window:"
_SHORT = "No run in this folder yet: tdiff train --run mine starts one"
_ROWS_FOR_COMMANDS, _COLUMNS_FOR_COMMANDS = 7, 40
"""Rows and columns from which all commands are shown."""
_COMMANDS = (
    ("tdiff train --run mine", "a run on Tiny Shakespeare"),
    ("tdiff watch", "watch the newest run"),
    ("tdiff watch train.log", "any log with a loss in it"),
    ("tdiff watch ssh://host/path", "one on another machine"),
)


def no_run_lines(width: int, height: int) -> list[Line]:
    """Commands, and what each does beside or below it, in lines of `width` cells; the words where `height` allows."""
    if height < _ROWS_FOR_COMMANDS or width < _COLUMNS_FOR_COMMANDS:
        return fold([(f" {_SHORT}", "")], width)[:height]
    in_columns = [f"   {command:<30}{does}" for command, does in _COMMANDS]
    below = [line for command, does in _COMMANDS for line in (f"   {command}", f"     {does}")]
    commands = in_columns if max(map(len, in_columns)) <= width else below
    if commands is below and len(below) + 2 > height:
        commands = below[::2]
    return [*fold([(f" {_NO_RUN}", "")], width), [], *([(line, "")] for line in commands)]
