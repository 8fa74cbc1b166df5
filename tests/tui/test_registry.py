"""The table of panes: a row is all that a new pane needs."""

import subprocess
import sys

PROGRAM = """
from tdiff.tui.key import Key, bindings
from tdiff.tui.panes import registry
from tdiff.tui.panes.base import Pane
from tdiff.tui.widgets.lines import Lines


class RacePane(Pane):
    KEYS = (Key("race_faster", "f", "race faster", "race", "faster", "faster(2)"),)
    BINDINGS = bindings(KEYS)
    speed = 1

    def body(self):
        self.view = Lines(id="race-lines")
        return [self.view]

    def show_scene(self, scene):
        self.view.show([[(f"{len(scene.runs)} run at {scene.runs[0].step}", "")]])
        self.frame([("race", "")], [], [], [])

    def action_faster(self, factor):
        self.speed *= factor


row = registry.PaneSpec(
    name="race", pane_class=RacePane, title="Race", content="the race", key="9", side="left", shown=lambda now: False
)
registry.PANES = (*registry.PANES, row)

import sys

from tdiff.tui.widgets.help import help_lines
from tests.support.stage import Stage, play, run_lines, run_state


async def scene(stage):
    await stage.settle()
    app = stage.app
    assert "1 run at" not in stage.text()
    await stage.press("9")
    assert "1 run at 1000" in stage.text(), stage.text()
    app.arranger.focus_on("race")
    await stage.press("f")
    assert app.panes.by_name["race"].speed == 2
    assert "f faster" in stage.rows()[-1], "the footer shows its key"
    await stage.press("tab")
    await stage.press("colon", *"race faster", "enter")
    assert app.panes.by_name["race"].speed == 4, "the palette runs its command"
    await stage.press("9")
    assert "1 run at" not in stage.text()


page = "".join(text for line in help_lines({}, ascii=True) for text, _ in line)
assert "Race pane" in page and "race faster" in page and "show or hide the race" in page
for options in ({}, {"second_model": "other"}):
    play(scene, run_state(run_lines()), size=(160, 48), **options)
print("passed")
"""


def test_a_row_adds_a_pane_with_its_keys_help_palette_and_layout():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout == "passed\n", done.stderr
