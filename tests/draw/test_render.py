"""The canvas as a fold over its trace, and its drawing."""

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.palettes import DEPTHS, GLYPHS, Theme, styles
from tdiff.draw.render import drawn_texts, in_ascii, legend, plain, row_line, status, style_of
from tdiff.protocol.canvas import GIVEN, MASKED, Canvas
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.visible import visible
from tests.support.canvases import assert_rows_keep_text, canvas_lines

FEW = examples(derandomize=True, deadline=None, max_examples=100, database=None)
THEMES = [
    Theme(palette=palette, background=background, colour=colour, glyphs=glyphs)
    for palette, background in (("dark", "dark"), ("light", "light"), ("traffic", "dark"), ("traffic", "light"))
    for colour in DEPTHS
    for glyphs in (GLYPHS if palette == "dark" else GLYPHS[:1])
]
EACH_LOOK = pytest.mark.parametrize(
    "theme", THEMES, ids=lambda theme: f"{theme.palette}-on-{theme.background}-{theme.colour}-{theme.glyphs}"
)
COLOURLESS = Theme(colour="none")


def header(cells: int, given: str = "") -> TraceHeader:
    return TraceHeader(
        version="0",
        model="m",
        decoder="confidence",
        settings={},
        seed=0,
        row=0,
        prompt=given,
        cells=cells,
        given=[(place, text, ord(text)) for place, text in enumerate(given)],
    )


def step(index: int, *cells, calls: int | None = None) -> TraceStep:
    """A step from (place, text, confidence), or a place that is remasked."""
    full = [(c, "", 0, 0.0, "remask") if isinstance(c, int) else (c[0], c[1], 7, c[2], "commit") for c in cells]
    return TraceStep(index=index, t=0.5, calls=index if calls is None else calls, cells=full)


def canvas(text: str, confidence: float = 0.5, masked: str = "█", each: bool = True) -> Canvas:
    """A canvas that shows `text`; `masked` stands for a mask. Without `each` all of it is one place."""
    pieces = list(text) if each else [text]
    drawn = Canvas.begin(header(len(pieces)))
    drawn.apply(step(1, *((n, piece, confidence) for n, piece in enumerate(pieces) if piece != masked)))
    drawn.apply(step(2))  # so that nothing is fresh
    return drawn


def test_a_new_canvas_has_the_prompt_and_masks():
    drawn = Canvas.begin(header(6, "ab"))
    assert drawn.texts == ["a", "b", "", "", "", ""]
    assert drawn.confidence == [GIVEN, GIVEN, *[MASKED] * 4]
    assert (drawn.maskable, drawn.left, drawn.index, drawn.calls) == (4, 4, 0, 0)
    assert drawn.revealed == 0 and drawn.mean_confidence == 0


def test_canvas_counts_unmasked_positions_and_averages_confidence():
    drawn = Canvas.begin(header(6, "ab"))
    drawn.apply(step(1, (2, "c", 0.5), (5, "f", 1.0), calls=1))
    assert drawn.texts == ["a", "b", "c", "", "", "f"] and drawn.fresh == {2, 5}
    assert (drawn.left, drawn.revealed, drawn.mean_confidence) == (2, 0.5, 0.75)
    drawn.apply(step(3, (3, "d", 0.3), calls=4))
    assert drawn.fresh == {3} and (drawn.index, drawn.calls, drawn.left) == (3, 4, 1)
    assert drawn.mean_confidence == pytest.approx(0.6)


def test_a_remasked_position_is_masked_and_leaves_the_mean_confidence():
    drawn = Canvas.begin(header(3))
    drawn.apply(step(1, (0, "a", 0.2), (1, "b", 0.8)))
    drawn.apply(step(2, 0, (2, "c", 0.6)))
    assert drawn.texts == ["", "b", "c"] and drawn.confidence[0] == MASKED
    assert drawn.left == 1 and drawn.mean_confidence == pytest.approx(0.7) and drawn.fresh == {2}
    assert drawn.remasked == {0}
    drawn.apply(step(3, (0, "z", 0.1)))
    assert drawn.left == 0 and drawn.mean_confidence == pytest.approx(0.5)
    assert drawn.remasked == set()


def test_a_position_committed_twice_counts_once():
    drawn = Canvas.begin(header(2))
    drawn.apply(step(1, (0, "a", 0.2)))
    drawn.apply(step(2, (0, "b", 0.8)))
    assert drawn.texts[0] == "b" and drawn.left == 1 and drawn.mean_confidence == pytest.approx(0.8)


def test_trace_end_sets_the_calls_and_clears_fresh_positions():
    drawn = Canvas.begin(header(1))
    drawn.apply(step(1, (0, "a", 0.9)))
    drawn.apply(TraceEnd(text="a", model_calls=12, forced=0, tokens=1, seconds=0.5))
    assert (drawn.calls, drawn.fresh, drawn.left, drawn.revealed) == (12, set(), 0, 1.0)


def test_a_canvas_with_only_a_prompt_is_finished():
    drawn = Canvas.begin(header(2, "ab"))
    assert drawn.revealed == 1.0 and drawn.mean_confidence == 0


STEPS = st.lists(st.dictionaries(st.integers(0, 7), st.none() | st.floats(0, 1), max_size=8), max_size=12)


@given(steps=STEPS)
@FEW
def test_canvas_counters_match_its_content(steps):
    drawn = Canvas.begin(header(8, ""))
    for index, cells in enumerate(steps, 1):
        drawn.apply(step(index, *(place if c is None else (place, "x", c) for place, c in cells.items())))
        shown = [c for c in drawn.confidence if c != MASKED]
        assert drawn.left == 8 - len(shown) == drawn.texts.count("")
        assert drawn.mean_confidence == pytest.approx(sum(shown) / len(shown) if shown else 0, abs=1e-9)
        assert drawn.fresh == {place for place, c in cells.items() if c is not None}
        assert drawn.remasked == {place for place, c in cells.items() if c is None}


def test_hostile_trace_text_is_safe_in_a_canvas():
    drawn = Canvas.begin(header(2, "\x1b"))
    drawn.apply(step(1, (1, "\x07\u202e", 0.5)))
    assert drawn.texts == ["␛", "␇\\u202e"]


def test_drawing_of_a_small_canvas():
    drawn = Canvas.begin(header(24, "To "))
    text = "To be, or\n\tnot to be.\n\n!"
    for place in (3, 4, 5, 6, 9, 10, 11, 12, 20, 21, 22, 23):
        drawn.apply(step(1, (place, text[place], 0.5)))
    drawn.apply(step(2))
    assert plain(canvas_lines(drawn, 12)) == "\n".join(
        [
            "To be, ██",
            "    no██████",
            "█.",
            "",
            "!",
        ]
    )


def test_a_canvas_wraps_at_its_width_without_losing_text():
    assert plain(canvas_lines(canvas("abcdefgh██"), 4)) == "abcd\nefgh\n██"
    assert plain(canvas_lines(canvas("abcd\nefgh"), 4)) == "abcd\nefgh"  # a full line and its line feed are one break


def test_a_token_is_split_only_if_no_line_can_hold_it():
    drawn = Canvas.begin(header(3))
    drawn.apply(step(1, (0, "one", 0.5), (1, " two", 0.5), (2, " thirteen", 0.5)))
    assert plain(canvas_lines(drawn, 6)) == "one\ntwo\nthirte\nen"


def test_a_wide_character_takes_two_columns():
    assert plain(canvas_lines(canvas("日本語abc"), 6)) == "日本語\nabc"
    assert plain(canvas_lines(canvas("a日本"), 4)) == "a日\n本"
    assert plain(canvas_lines(canvas("日本█", each=True), 1)) == "日\n本\n█"  # one that no line can hold stands alone


def test_a_combining_mark_takes_no_column():
    assert plain(canvas_lines(canvas("e\u0301e\u0301xy"), 4)) == "e\u0301e\u0301xy"


LINE_TEXT = st.text(st.sampled_from("ab █日本é\n\t"), max_size=60)


@given(text=LINE_TEXT, width=st.integers(4, 20), each=st.booleans())
@FEW
def test_no_line_is_wider_than_the_screen_and_no_character_is_lost(text, width, each):
    drawn = canvas(text, each=each, masked="" if each else text * 2 + "x")
    laid = lay_out(drawn_texts(drawn), width)
    lines = canvas_lines(drawn, width, laid=laid)
    assert all(cell_len(plain([line])) <= width for line in lines)
    assert [plain([line]) for line in lines] == ["".join(part for _, part in row) for row in laid.rows]
    assert_rows_keep_text(laid.rows, list(text) if each else [text])


@EACH_LOOK
def test_masks_differ_in_style_and_equal_styles_are_one_run(theme):
    glyph, style = styles(theme).mask
    [line] = canvas_lines(canvas("ab██cd"), 80, theme)
    if theme.colour != "none":
        assert line == [("ab", style_of(0.5, theme)), (glyph * 2, style), ("cd", style_of(0.5, theme))]
    assert plain([line]) == f"ab{glyph * 2}cd"


@EACH_LOOK
def test_fresh_positions_are_drawn_as_in_the_legend(theme):
    drawn = Canvas.begin(header(2))
    for level in range(6):
        drawn.apply(step(1, (0, "a", level / 6 + 0.01)))
        drawn.apply(step(2, (1, "b", level / 6 + 0.01)))
        [(old, old_style), (new, new_style)] = canvas_lines(drawn, 80, theme)[0]
        assert (old, new) == ("a", "b")
        mark = next(style for text, style in legend(theme) if text == "bold")
        assert set(mark.split()) <= set(new_style.split()) and not set(mark.split()) <= set(old_style.split())


@EACH_LOOK
def test_a_remasked_position_differs_from_a_mask_for_one_step(theme):
    drawn = canvas("abc")
    drawn.apply(step(3, 1))
    mask, again = styles(theme).mask, styles(theme).remask
    assert mask != again and (again[0] != mask[0] or theme.glyphs == "space")  # a copied screen has no colours
    assert again in canvas_lines(drawn, 80, theme)[0]
    assert legend(theme)[-1] == again
    drawn.apply(step(4, (0, "x", 0.5)))
    assert again not in canvas_lines(drawn, 80, theme)[0] and mask in canvas_lines(drawn, 80, theme)[0]


@EACH_LOOK
def test_the_prompt_has_no_style(theme):
    drawn = Canvas.begin(header(3, "a b"))
    assert canvas_lines(drawn, 80, theme) == [[("a b", "")]]


@EACH_LOOK
def test_confidence_levels_are_equal_steps_including_both_ends(theme):
    levels = 5 if theme.colour == "none" else 6
    found = [style_of(n / levels + 1e-9, theme) for n in range(levels)]
    assert len(set(found)) == levels
    for n in range(levels):
        assert style_of((n + 1) / levels - 1e-9, theme) == found[n]
    assert style_of(0.0, theme) == found[0]
    assert style_of(1.0, theme) == found[-1]


@EACH_LOOK
def test_styles_are_valid_and_within_the_colour_depth(theme):
    chosen = styles(theme)
    read = [Style.parse(style) for style in (*chosen.shades, *chosen.fresh, chosen.mask[1], chosen.remask[1])]
    colours = [colour for style in read for colour in (style.color, style.bgcolor) if colour]
    most = {"none": 0, "16": 16, "256": 256, "truecolor": 256}[theme.colour]
    assert all(colour.number is not None and colour.number < most for colour in colours)
    assert bool(colours) == (theme.colour != "none")


def test_palette_entries():
    shades = {
        palette: [style_of(n / 6 + 0.01, Theme(palette=palette)) for n in range(6)] for palette in ("dark", "light")
    }
    assert shades["dark"] == [f"color({n})" for n in (131, 166, 208, 214, 221, 230)]
    assert shades["light"] == [f"color({n})" for n in (166, 160, 125, 89, 53, 17)]


def test_traffic_palette_goes_from_red_to_green():
    low, high = (Style.parse(style_of(c, Theme(palette="traffic"))).color.get_truecolor() for c in (0.0, 1.0))
    assert low.red > 2 * low.green and high.green > 2 * high.red


def test_five_levels_without_colour_use_common_attributes():
    assert styles(COLOURLESS).shades == ("dim", "", "bold", "underline", "reverse")
    assert len({Style.parse(style) for style in styles(COLOURLESS).shades}) == 5


def test_without_colour_a_blank_is_neither_reversed_nor_underlined():
    drawn = canvas("  well", 0.9, each=False)
    assert canvas_lines(drawn, 80, COLOURLESS) == [[("  ", ""), ("well", "reverse")]]
    assert canvas_lines(canvas("a b", 0.9), 80, COLOURLESS) == [[("a", "reverse"), (" ", ""), ("b", "reverse")]]
    assert canvas_lines(canvas("a b", 0.7), 80, COLOURLESS) == [[("a", "underline"), (" ", ""), ("b", "underline")]]
    assert canvas_lines(canvas(" b", 0.5), 80, COLOURLESS) == [[(" b", "bold")]]


def test_prompt_confidence_has_no_style():
    assert style_of(GIVEN) == style_of(GIVEN, fresh=True) == ""


@EACH_LOOK
def test_legend_names_both_ends_and_shows_each_level(theme):
    line = legend(theme)
    text = plain([line])
    assert text.startswith("confidence low") and "high" in text and "new this step" in text and "remasked" in text
    ramp = [(label, style) for label, style in line if label.strip().startswith(".")]
    assert [float(label) for label, _ in ramp] == sorted({float(label) for label, _ in ramp})
    assert len({style for _, style in ramp}) == len(ramp) == len(styles(theme).shades)
    for label, style in ramp:
        assert style == style_of(float(label), theme)


@EACH_LOOK
def test_a_narrow_legend_keeps_all_levels_and_fits(theme):
    for width in range(17, 100):
        line = legend(theme, width)
        assert cell_len(plain([line])) <= width
        assert {*styles(theme).shades, styles(theme).new} <= {style for _, style in line}
    assert cell_len(plain([legend(theme)])) <= 76  # within a frame of 80


PIECES = st.lists(
    st.sampled_from(
        ["", "a", "b ", " word", "    ", "日", "日本", "\n", "a\nb", "\n\n", "\t", "e\u0301", "longer than it"]
    )
)


@given(texts=PIECES, width=st.integers(1, 12))
@example(texts=["日"], width=1)
@example(texts=["abc", "\t"], width=3)
@example(texts=["a", "    "], width=3)
@FEW
def test_layout_keeps_every_character_and_the_start_of_each_position(texts, width):
    laid = lay_out(texts, width)
    assert len(laid.row) == len(laid.column) == len(texts)
    assert_rows_keep_text(laid.rows, texts)
    for place, text in enumerate(texts):
        parts = [(n, part) for n, row in enumerate(laid.rows) for p, part in row if p == place]
        if parts and not text.startswith("\n"):
            row = parts[0][0]
            before = "".join(other for p, other in laid.rows[row] if p < place)
            assert (laid.row[place], laid.column[place]) == (row, cell_len(before))
    for row in laid.rows:
        assert [place for place, _ in row] == sorted({place for place, _ in row})
        text = "".join(part for _, part in row)
        assert cell_len(text) <= width or (len(text) == 1 and width == 1)
    breaks = sum(text.count("\n") for text in texts)
    assert len(laid.rows) >= breaks + 1
    assert laid.row == sorted(laid.row)


STORY = [
    "Once",
    " upon",
    " a",
    " time",
    ",",
    " the",
    " dragon",
    ".",
    '"',
    ' "Yes',
    "!",
    '"',
    " he",
    " said",
    ";",
    " a",
    "nd",
]


@pytest.mark.parametrize("width", range(12, 60))
def test_a_row_begins_neither_with_a_blank_nor_with_punctuation(width):
    laid = lay_out(STORY * 3, width)
    rows = ["".join(part for _, part in row) for row in laid.rows]
    assert not [row for row in rows if row[0] in " ,.;!"], rows
    assert max(map(cell_len, rows)) <= width
    assert_rows_keep_text(laid.rows, STORY * 3)


def test_a_row_after_a_line_feed_keeps_its_blanks():
    assert lay_out(["a", "\n", "  b"], 20).rows[1] == [(2, "  b")]


def test_masks_that_are_drawn_as_blanks_are_not_left_out():
    drawn, theme = Canvas.begin(header(10)), Theme(glyphs="space")
    rows = lay_out(drawn_texts(drawn, theme), 4).rows
    assert [plain([row_line(drawn, row, theme)]) for row in rows] == ["    ", "    ", "  "]


@given(texts=PIECES.filter(bool), width=st.integers(1, 12), data=st.data())
@FEW
def test_rows_that_are_not_stale_are_unchanged(texts, width, data):
    cells = len(texts)
    before = Canvas.begin(header(cells))
    before.apply(step(1, *((n, text, 0.5) for n, text in enumerate(texts))))
    after = Canvas.begin(header(cells))
    after.apply(step(1, *((n, text, 0.5) for n, text in enumerate(texts))))
    changed = data.draw(st.sets(st.integers(0, cells - 1)))
    after.apply(step(2, *((n, data.draw(st.sampled_from(["x", "wider", "日", "\n"])), 0.9) for n in changed)))
    old, new = (lay_out(drawn_texts(c), width) for c in (before, after))
    stale = new.stale(old, before.fresh | after.fresh)
    lines, kept = canvas_lines(after, width, laid=new), canvas_lines(before, width, laid=old)
    for n in set(range(max(len(lines), len(kept)))) - stale:
        assert lines[n] == kept[n]
    assert not new.stale(new, [])


def test_only_rows_that_changed_are_stale():
    drawn = canvas("aaaa" * 10)
    before = lay_out(drawn_texts(drawn), 4)
    drawn.apply(step(3, (13, "b", 0.5)))
    after = lay_out(drawn_texts(drawn), 4)
    assert after.stale(before, drawn.fresh) == {3}
    assert row_line(drawn, after.rows[3])[1][0] == "b"


@EACH_LOOK
def test_ascii_text_keeps_its_width(theme):
    shown = [("╭─ ███ ▁▂▃ ⣀⡠ → · … ─╮", "bold"), *legend(theme)]
    line = in_ascii(shown, Theme(colour=theme.colour, glyphs="ascii", utf8=False))
    assert plain([line]).isascii() and cell_len(plain([line])) == cell_len(plain([shown]))
    assert [style for _, style in line] == [style for _, style in shown]
    assert in_ascii(shown, Theme(glyphs="block")) == shown


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
@FEW
def test_no_byte_beyond_ascii_without_utf8(text):
    text = visible(text)
    [(shown, _)] = in_ascii([(text, "")], Theme(glyphs="ascii", utf8=False))
    assert shown.isascii() and cell_len(shown) == cell_len(text)


def test_ascii_glyphs_leave_letters_unchanged():
    assert in_ascii([("naïve 日本 ─█⣀", "")], Theme(glyphs="ascii")) == [("naïve 日本 -#.", "")]
    assert in_ascii([("9 left · values ≤ 0 …", "")], Theme(glyphs="ascii")) == [("9 left . values < 0 .", "")]


def test_status_line():
    drawn = Canvas.begin(header(6, "ab"))
    assert status(drawn, "topk", 50, 0.0) == "topk · step 0/50 · 0% · 4 left · … tok/s"
    drawn.apply(step(7, (2, "c", 0.5), (5, "f", 1.0), (3, "d", 0.9)))
    assert status(drawn, "confidence 0.7", 0, 1.5) == (
        "confidence 0.7 · step 7 · 75% · 1 left · confidence 0.80 · 2 tok/s"
    )
    assert "step 7/9 ·" in status(drawn, "x", 9, 0.0) and "… tok/s" in status(drawn, "x", 9, 0.0)


def test_status_line_separates_thousands():
    drawn = canvas("a" * 300)
    assert status(drawn, "x", 0, 0.1).endswith(" 3,000 tok/s")
