"""The canvas as a widget: what it shows, how little it writes, and that the terminal shows what the widget means."""

import contextlib
import random
import re

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.events import MouseScrollDown
from textual.screen import ModalScreen
from textual.widgets import Static

from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.palettes import Theme
from tdiff.draw.render import plain
from tdiff.protocol.canvas import GIVEN, MASKED, Canvas
from tdiff.tui.line_filters import NoColours
from tdiff.tui.widgets.canvas import lay_out_from, replace_in_place, typical_width
from tdiff.watch.generation.recording import Recording
from tests.support.canvas_stage import THEME, Alone, Grid, canvas, differences, header, letters, settle, step, watching
from tests.support.canvases import canvas_lines

FEW = examples(derandomize=True, deadline=None, max_examples=200, database=None)
TALE = "Once upon a time\nthere was a little girl who lived near the edge of a deep green forest."

# What it shows

GOLDEN = {
    (1, 1): ["█"],  # the first that is masked
    (3, 2): ["Onc", "e█u"],
    (8, 4): ["Once█upo", "█ a time", "████████", "████"],
    (20, 3): ["Once█upo█ a time", "████████████", ""],
    (40, 2): ["Once█upo█ a time", "████████████"],
}


@pytest.mark.parametrize("size", sorted(GOLDEN))
def test_a_canvas_is_shown_as_this(size):
    @watching(size)
    async def test(app, pilot):
        text = "Once█upo█ a time\n" + "█" * 12
        app.view.show(letters(text))
        await settle(pilot)
        assert app.rows() == [row.rstrip() for row in GOLDEN[size]]
        assert all(app.view.full_row(y).cell_length == size[0] for y in range(size[1]))


def test_nothing_is_shown_before_a_canvas_and_after_it_is_cleared():
    @watching((10, 3))
    async def test(app, pilot):
        assert app.rows() == [""] * 3
        app.view.show(letters("ab█"))
        await settle(pilot)
        assert app.rows() == ["ab█", "", ""]
        app.view.clear()
        await settle(pilot)
        assert app.rows() == [""] * 3 == [row.rstrip() for row in shown_rows(app)]


def shown_rows(app: Alone) -> list[str]:
    grid = Grid(*app.size).feed(app.wrote())
    return ["".join(text for text, _ in row) for row in grid.cells]


@pytest.mark.parametrize("glyphs", ["block", "space", "ascii"])
def test_masks_and_remasked_positions_have_the_glyphs_of_the_theme(glyphs):
    theme = Theme(glyphs=glyphs)

    @watching((8, 1), theme)
    async def test(app, pilot):
        shown = letters("ab██")
        app.view.show(shown)
        again = letters("ab██")
        again.apply(step(3, 1))
        app.view.show(again, {1})
        await settle(pilot)
        assert app.view.full_row(0).text == plain(canvas_lines(again, 8, theme)).ljust(8)
        assert app.view.full_row(0).text.rstrip() == {"block": "a▒██", "space": "a", "ascii": "a%##"}[glyphs]


def test_masks_have_the_typical_width_and_keep_it_while_a_text_resolves():
    given = [" upon", " time", " once", " deep"]

    @watching((20, 3))
    async def test(app, pilot):
        app.view.show(canvas([*given, None, None], given=4))
        await settle(pilot)
        assert app.rows() == [" upon time once deep", "██████████", ""]
        app.view.show(canvas([*given, " be", None], given=4), {4})
        await settle(pilot)
        assert app.rows() == [" upon time once deep", "be████████", ""]  # the mask takes what the word leaves
        app.view.show(canvas([None] * 3))  # the next text: as the last one was
        await settle(pilot)
        assert app.rows() == ["███████████████", "", ""]


def test_the_typical_width_requires_enough_positions_and_is_bounded():
    assert typical_width(canvas(["abc"] * 3)) == 0 and typical_width(canvas([None] * 9)) == 0
    assert typical_width(canvas(["abcd", "ab", "a", "a"])) == 2
    assert typical_width(canvas(["", "\n", "a", "b"])) == 1
    assert typical_width(canvas(["a long token indeed"] * 4)) == 8
    assert typical_width(canvas(["日本"] * 4)) == 4


# Where one is


def test_the_first_masked_position_stays_in_view_until_the_user_scrolls():
    @watching((4, 6))
    async def test(app, pilot):
        view = app.view
        view.show(letters("abcd" * 10 + "████" * 10))
        assert view.rows == (8, 6, 20)  # row 10 stands in the upper two thirds
        view.scroll_rows(-8)
        assert view.rows[0] == 0
        view.show(letters("abcd" * 11 + "████" * 9), set(range(40, 44)))
        assert view.rows[0] == 0
        view.scroll_rows(9)  # back to what is followed
        view.show(letters("abcd" * 15 + "████" * 5), set(range(44, 60)))
        assert view.rows[0] == 13
        view.show(letters("abcd" * 20), set(range(60, 80)))
        assert view.rows[0] == 13  # finished: stays
        view.scroll_rows(99)
        assert view.rows[0] == 14
        view.show(letters("wxyz" * 20))
        assert view.rows[0] == 0
        await settle(pilot)
        assert app.rows() == ["wxyz"] * 6


def test_follow_resumes_on_request():
    @watching((4, 6))
    async def test(app, pilot):
        app.view.show(letters("abcd" * 10 + "████" * 10))
        app.view.scroll_rows(-99)
        app.view.follow()
        assert app.view.rows[0] == 8


def test_the_wheel_scrolls():
    @watching((4, 2))
    async def test(app, pilot):
        app.view.show(letters("abcd" * 10))
        await pilot._post_mouse_events([MouseScrollDown], app.view)
        await settle(pilot)
        assert app.view.rows[0] == 3


# Text of every kind

PIECES = [
    "a",
    "be",
    " the",
    " grandmother",
    "日",
    "日本語 text",
    "e\u0301",
    "\u0301",
    "\n",
    "a\nb",
    "\t",
    "",
    " ",
    "😀",
    "x" * 30,
]
TEXTS = st.lists(st.sampled_from([*PIECES, None]), max_size=40)


@given(texts=TEXTS, width=st.integers(1, 12), more=st.lists(st.tuples(st.integers(0, 39), st.sampled_from(PIECES))))
@example(texts=["a\n\u0301", "bb", "cc", None], width=2, more=[(2, "c")])
@FEW
def test_an_updated_layout_equals_a_new_layout(texts, width, more):
    now = ["█" if text is None else text for text in texts]
    laid = lay_out(now, width)
    for place, text in more:
        if place >= len(now):
            continue
        before, now[place] = now[place], text
        if not replace_in_place(laid, place, before, text):
            laid = lay_out_from(laid, now, place)
        assert laid == lay_out(now, width)


@pytest.mark.parametrize("width", range(1, 14))
def test_rows_are_exactly_as_wide_as_the_widget_and_no_wide_character_is_cut(width):
    @watching((width, 40))
    async def test(app, pilot):
        app.view.show(canvas(["日本語", "a", "日", "b日本", None, " 😀", "e\u0301", "long token", "\t", "本"]))
        await settle(pilot)
        grid = Grid(width, 40).feed(app.wrote())
        assert differences(grid, app) == []
        for y, row in enumerate(grid.cells):
            assert app.view.full_row(y).cell_length == width == len(app.view.cells(y))
            for x, (text, _) in enumerate(row):
                assert (cell_len(text) == 2) == ((row[x + 1 : x + 2] and row[x + 1][0] == "") or False)
        if width > 1:
            kept = "".join(text for row in grid.cells for text, _ in row)
            assert [kept.count(c) for c in "日本語😀"] == [3, 3, 1, 1]


ATTACKS = [
    "\x1b[31m",
    "\x9b2J",
    "\x1b]52;c;QQ==\x07",
    "\r\x08\x7f",
    "\u202eabc\u2069",
    "[/x]",
    "[bold]",
    "\x00",
    "a\ufeffb",
]


def test_hostile_text_is_inert():
    @watching((30, 9))
    async def test(app, pilot):
        recording = Recording(header(len(ATTACKS) * 2, ATTACKS))
        recording.take(step(1, *((n + len(ATTACKS), text, 0.5) for n, text in enumerate(ATTACKS))))
        grid = Grid(30, 9)
        for k in range(recording.steps + 1):
            app.view.show(recording.canvas(k))
            await settle(pilot)
            rows = [app.view.full_row(y).text for y in range(9)]
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", "".join(rows))
            grid.feed(app.wrote())  # which refuses what it does not know
            assert differences(grid, app) == []
        assert "[/x]" in "".join(rows) and "␛[31m" in "".join(rows)


# How little is drawn and written


def test_only_the_rows_that_changed_are_drawn():
    @watching((20, 12))
    async def test(app, pilot):
        recording = Recording(header(240))
        app.view.show(recording.canvas(0))
        await settle(pilot)
        assert sorted(set(app.lines)) == list(range(12))
        app.lines.clear()
        before: set[int] = set()
        for k, places in enumerate([{0, 45}, {100}, {239}], 1):
            app.drawn.clear()
            recording.take(step(k, *((place, "x", 0.5) for place in places)))
            app.view.show(recording.canvas(k), recording.changed(k))
            await settle(pilot)
            assert sorted(app.drawn) == sorted({place // 20 for place in places | before})
            before = places
        assert not app.lines  # a cell of a row that is kept costs no row


@pytest.mark.parametrize("padding", [0, 1])
def test_a_step_writes_what_it_changed_and_not_its_rows(padding):
    @watching((160, 40))
    async def test(app, pilot):
        app.view.styles.padding = (0, padding)
        recording = Recording(header(6000))
        for k in range(30):
            draw = random.Random(k)
            recording.take(
                step(k + 1, *((draw.randrange(6000), draw.choice("aeiou"), draw.random()) for _ in range(4)))
            )
        app.view.show(recording.canvas(0))
        await settle(pilot)
        app.wrote()
        for k in range(1, 31):
            app.view.show(recording.canvas(k), recording.changed(k))
            await settle(pilot)
            assert 0 < len(app.wrote()) < 8 * 50
        await pilot.resize_terminal(90, 30)
        await settle(pilot)
        app.wrote()
        recording.take(step(31, (5, "!", 0.1)))
        app.view.show(recording.canvas(31), recording.changed(31) + recording.changed(30))
        await settle(pilot)
        assert 0 < len(app.wrote()) < 5 * 50


def test_what_did_not_change_writes_nothing_of_the_rows():
    @watching((20, 3))
    async def test(app, pilot):
        app.view.show(letters("ab█" * 10))
        await settle(pilot)
        app.wrote()
        app.view.show(letters("ab█" * 10), set())
        await settle(pilot)
        assert app.wrote() == ""
        app.view.show(letters("ab█" * 10))
        await settle(pilot)
        assert not re.sub(r"\x1b\[\d+;\d+H|\n", "", app.wrote())


# The terminal shows what the widget means, whatever happens around it


class Over(ModalScreen):
    CSS = "Over { background: black 50%; }"

    def compose(self):
        yield Static("a question")


def take_random_step(recording: Recording, draw: random.Random, pieces: list[str]) -> None:
    """Places that are revealed, remasked, or that stay and are now more or less sure."""
    newest = recording.canvas(recording.steps)
    cells: list[tuple[int, str, float] | int] = []
    for place in draw.sample(range(5, 60), draw.choice([1, 1, 4, 20])):
        known = newest.confidence[place] != MASKED
        if known and draw.random() < 0.3:
            cells.append(place)
        else:
            text = newest.texts[place] if known and draw.random() < 0.7 else draw.choice(pieces)
            cells.append((place, text, draw.random()))
    recording.take(step(1, *cells))


async def disturb(app: Alone, pilot, draw: random.Random) -> None:
    """Something that draws over the widget, moves it, or draws everything anew."""
    what = draw.randrange(11)
    toast = app.query_one("#toast")
    if what == 0:
        toast.display = not toast.display
    elif what == 7:
        toast.offset = (draw.randrange(5), draw.randrange(4))
    elif what == 9:
        app.view.styles.padding = draw.choice([0, (0, 1), (1, 0, 0, 2)])
    elif what == 10:
        app.view.styles.background = draw.choice(["red", "blue"])
    elif what == 8:
        app.view.offset = draw.choice([(0, 0), (2, 1)])
    elif what == 1:
        if isinstance(app.screen, Over):
            app.pop_screen()
        else:
            app.push_screen(Over())
    elif what == 2 and not isinstance(app.screen, Over):
        app.refresh(layout=draw.random() < 0.5)
    elif what == 3:
        app.view.scroll_rows(draw.randrange(-3, 4))
    elif what == 4:
        app.view.scroll_rows(99)
    elif what == 5:
        app.view.styles.margin = draw.choice([0, (1, 2), (0, 0, 0, 3)])
    else:
        app.view.theme = Theme(palette=draw.choice(["dark", "traffic"]), glyphs=draw.choice(["block", "ascii"]))


@pytest.mark.parametrize("seed", range(8))
def test_the_terminal_always_shows_the_rendered_cells(seed):
    draw = random.Random(seed)
    size = draw.choice([(24, 7), (13, 5), (40, 12)])
    pieces = draw.choice(
        [list("abc de"), [one for one in PIECES if one[-1:] != "\u0301"], [" the", " of", "日", "a", "\n"]]
    )

    @watching(size)
    async def test(app, pilot):
        grid = Grid(*size).feed(app.wrote())
        recording = Recording(header(60, [draw.choice(pieces) for _ in range(5)]))
        at = 0
        for _ in range(50):
            take_random_step(recording, draw, pieces)
            before, at = at, recording.steps if draw.random() < 0.8 else draw.randrange(recording.steps + 1)
            between = range(min(before, at), max(before, at) + 1)
            changed = {place for k in between for place in recording.changed(k)}
            app.view.show(recording.canvas(at), changed if draw.random() < 0.8 else None)
            if draw.random() < 0.3:
                await disturb(app, pilot, draw)
            if draw.random() < 0.7:
                await settle(pilot)
                grid.feed(app.wrote())
                if not isinstance(app.screen, Over):
                    assert differences(grid, app) == []
        with contextlib.suppress(Exception):
            app.pop_screen()
        await settle(pilot)
        grid.feed(app.wrote())
        assert differences(grid, app) == []


def test_another_widget_may_cover_it_move_and_disappear():
    @watching((14, 4))
    async def test(app, pilot):
        grid, toast, draw = Grid(14, 4).feed(app.wrote()), app.query_one("#toast"), random.Random(3)
        recording = Recording(header(60, list("abcde")))
        for k in range(120):  # no wide characters: textual forgets the other half of one that it cut
            take_random_step(recording, draw, list("vwxyz"))
            app.view.show(recording.canvas(k + 1), recording.changed(k + 1))
            if k % 3 == 0:
                toast.styles.width, toast.styles.height = draw.randrange(1, 6), draw.randrange(1, 3)
                toast.styles.offset = (draw.choice([1, 1, -1, 0, 6, 13]), draw.randrange(3))
            if k % 20 == 10:
                toast.display = not toast.display
            await settle(pilot)
            grid.feed(app.wrote())
            assert differences(grid, app) == []


def test_it_may_have_padding_and_be_faint():
    @watching((14, 6))
    async def test(app, pilot):
        grid, draw, styles = Grid(14, 6).feed(app.wrote()), random.Random(4), app.view.styles
        recording = Recording(header(60, list("abcde")))
        for k, padding in enumerate([0, (0, 1), (0, 2), (1, 0, 0, 3), (1, 2, 0, 1), (0, 1, 1, 2), 0]):
            styles.padding, styles.opacity = padding, 0.5 if k % 3 == 2 else 1.0
            for _ in range(2):
                take_random_step(recording, draw, list("vwxyz"))
                app.view.show(recording.canvas(recording.steps), recording.changed(recording.steps))
                await settle(pilot)
                grid.feed(app.wrote())
                assert differences(grid, app) == []


@pytest.mark.parametrize("seed", range(3))
def test_combining_marks_stay_with_the_character_before_them(seed):
    draw = random.Random(seed)

    @watching((7, 9))
    async def test(app, pilot):
        grid = Grid(7, 9).feed(app.wrote())
        recording = Recording(header(60, ["a"] * 5))
        for k in range(40):
            take_random_step(recording, draw, ["a", "b", "e\u0301", "\u0301", "日", "本\u0301"])
            app.view.show(recording.canvas(k + 1), recording.changed(k + 1))
            await settle(pilot)
            grid.feed(app.wrote())
            assert differences(grid, app) == []


def test_a_changed_position_that_was_not_named_is_drawn_too():
    @watching((10, 2))
    async def test(app, pilot):
        app.view.show(letters("ab██ef"))
        app.view.show(letters("abcdef"), {2})
        await settle(pilot)
        assert app.rows() == ["abcdef", ""]
        app.view.show(letters("abcdefgh"), set())  # another canvas altogether
        await settle(pilot)
        assert app.rows() == ["abcdefgh", ""] and differences(Grid(10, 2).feed(app.wrote()), app) == []


def test_output_passes_the_filters_of_the_terminal():
    @watching((10, 1))
    async def test(app, pilot):
        app.view.show(letters("abc██"))
        await settle(pilot)
        assert "38;5" in app.wrote()
        app._line_filters = [NoColours()]
        app.view.refresh()
        await settle(pilot)
        assert Grid(10, 1).feed(app.wrote()).cells[0][:5] == [*((c, "") for c in "abc██")]


def test_many_resizes_leave_the_rows_of_the_last_size():
    draw = random.Random(1)

    @watching((30, 8))
    async def test(app, pilot):
        recording = Recording(header(len(TALE)))
        for k in range(20):
            recording.take(step(k + 1, *((n, TALE[n], 0.4) for n in draw.sample(range(len(TALE)), 2))))
            app.view.show(recording.canvas(k), recording.changed(k))
            await pilot.resize_terminal(draw.randrange(1, 40), draw.randrange(1, 10))
            if draw.random() < 0.5:
                await settle(pilot)
        app.wrote()
        app.view.show(recording.canvas(20))
        await settle(pilot)
        top, room, rows = app.view.rows
        expected = plain(canvas_lines(recording.canvas(20), app.size.width, THEME)).split("\n")
        assert room == app.size.height and rows == len(expected)
        assert app.rows() == [row.rstrip() for row in expected[top : top + room]] + [""] * (room - rows)
        assert all(app.view.full_row(y).cell_length == app.size.width for y in range(room))


def test_given_text_is_plain_and_confidence_has_its_colour():
    @watching((10, 1))
    async def test(app, pilot):
        shown = Canvas.begin(header(3, ["g"]))
        shown.apply(step(1, (1, "h", 0.95)))
        app.view.show(shown)
        await settle(pilot)
        row = Grid(10, 1).feed(app.wrote()).cells[0]
        assert row[0] == ("g", "") and row[1] == ("h", "1;38;5;230") and row[2][0] == "█"
        assert shown.confidence[0] == GIVEN
