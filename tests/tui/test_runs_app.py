"""The live table of runs: its keys, its filter, and what it draws at each size."""

import asyncio
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tdiff.tui.runs_app import Choice, RunsApp
from tests.support.stage import terminal_with
from tests.watch.listing.test_rows import named

ROWS = [
    named("alpha", time=4.0, where="x/alpha"),
    named("beta", "stalled", time=3.0, where="x/beta", reason="evaluating"),
    named("gamma", "failed", time=2.0, where="x/gamma", reason="out of memory"),
    named("delta", "finished", time=1.0, where="x/delta"),
]


class AllRuns:
    """Runs of a test."""

    label, left_out, problem, complete = "checkpoints", "", "", True

    def __init__(self, rows) -> None:
        self.now, self.closed = list(rows), False

    def poll(self, seconds: float = 0.05) -> bool:
        return True

    def rows(self):
        return self.now

    def close(self) -> None:
        self.closed = True


class Table:
    """The table in a test."""

    def __init__(self, rows=ROWS, choice: Choice | None = None, **options) -> None:
        self.runs, self.choice = AllRuns(rows), choice or Choice()
        self.app = RunsApp(self.runs, terminal_with(**options), self.choice)

    def lines(self) -> list[str]:
        strips = self.app.screen._compositor.render_strips(self.app.size)
        return ["".join(s.text for s in strip if not s.control).rstrip() for strip in strips]

    def text(self) -> str:
        return "\n".join(self.lines())

    def marked(self) -> str:
        """The row under the cursor."""
        for strip in self.app.screen._compositor.render_strips(self.app.size):
            if any(s.style and s.style.reverse for s in strip if not s.control and len(s.text.strip()) > 1):
                return "".join(s.text for s in strip if not s.control).split()[0]
        return ""

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def update(self) -> None:
        self.app._drawn = -1e9
        self.app._update()
        await self.pilot.pause()


def play(scene, size=(80, 24), **how) -> Table:
    table = Table(**how)

    async def run() -> None:
        async with table.app.run_test(size=size) as table.pilot:
            await table.pilot.pause()
            await scene(table)

    asyncio.run(run())
    return table


@pytest.mark.parametrize("size", [(40, 10), (60, 15), (80, 24), (160, 48)])
@pytest.mark.parametrize("glyphs", ["block", "ascii"])
def test_the_table_fits_each_size(size, glyphs):
    async def scene(table: Table) -> None:
        lines = table.lines()
        assert len(lines) == size[1] and all(cell_len(line) <= size[0] for line in lines)
        assert [line.split()[0] for line in lines[1:6]] == ["name", "alpha", "beta", "gamma", "delta"]
        assert "state" in lines[1] and "loss" in lines[1]
        if glyphs == "ascii":
            assert table.text().isascii()

    play(scene, size=size, glyphs=glyphs)


def test_the_cursor_moves_and_enter_opens():
    async def scene(table: Table) -> None:
        assert table.marked() == "alpha"
        await table.press("down", "down", "j")
        assert table.marked() == "delta"
        await table.press("down", "up")
        assert table.marked() == "gamma" and "gamma: out of memory" in table.text()
        await table.press("home")
        assert table.marked() == "alpha"
        await table.press("end", "k", "enter")

    table = play(scene)
    assert table.choice.opened.name == "gamma" and table.choice.where == "x/gamma"
    assert not table.runs.closed  # the table may return


def test_the_cursor_stays_on_its_run_when_the_order_changes_and_after_the_run_was_open():
    choice = Choice()
    choice.where = "x/delta"

    async def scene(table: Table) -> None:
        assert table.marked() == "delta"
        table.runs.now = [ROWS[3], *ROWS[:3]]
        await table.update()
        assert table.marked() == "delta" and "delta" in table.lines()[2]
        table.runs.now = ROWS[:3]
        await table.update()
        assert table.marked() == "alpha"

    play(scene, choice=choice)


def test_the_filter_is_applied_while_it_is_typed_and_cleared_by_escape():
    async def scene(table: Table) -> None:
        await table.press("slash", *"FAIL")
        assert "gamma" in table.text() and "alpha" not in table.text()
        assert "1 of 4 match 'FAIL'" in table.text()
        await table.press("enter", "down")
        assert table.marked() == "gamma"
        await table.press("slash", *"zzz")
        assert "no run matches the filter" in table.text()
        await table.press("escape")
        assert table.choice.words == "" and "alpha" in table.text()
        await table.press("slash", "q", "enter")
        assert table.choice.words == "q"  # a key of the table is a letter in the filter
        await table.press("escape")
        assert table.choice.words == ""
        await table.press("escape")

    table = play(scene)
    assert table.choice.opened is None


def test_more_runs_than_rows_scroll_with_the_cursor():
    rows = [replace(ROWS[0], name=f"run{n:02}", where=f"x/{n}") for n in range(40)]

    async def scene(table: Table) -> None:
        assert "run00" in table.text() and "run30" not in table.text()
        await table.press("end")
        assert "run39" in table.text() and "run00" not in table.text() and table.marked() == "run39"
        await table.press("pageup", "pageup", "pageup", "pageup")
        assert table.marked() == "run00"
        await table.press("pagedown")
        assert table.marked() != "run00"

    play(scene, rows=rows, size=(80, 16))


def test_an_empty_table_and_a_lost_connection_are_explained():
    async def scene(table: Table) -> None:
        assert "no run here yet" in table.text()
        table.runs.problem = "the network is down; reconnecting in 3 s"
        await table.update()
        assert "the network is down; reconnecting in 3 s" in table.text()
        table.runs.now = ROWS
        await table.update()
        assert "the network is down" in table.text() and "alpha" in table.text()
        await table.press("enter")

    assert play(scene, rows=[]).choice.opened.name == "alpha"
