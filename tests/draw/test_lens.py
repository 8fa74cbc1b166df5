"""The lens, drafts and the order of a text, drawn as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from tdiff.draw.lens import (
    Facts,
    flow_line,
    in_a_line,
    lens_lines,
    order_heading,
    order_lines,
    share,
    sparkline,
    title,
)
from tdiff.draw.overlay import MODES, Overlay, draft_text
from tdiff.draw.palettes import PALETTES, Theme, styles
from tdiff.draw.render import drawn_texts, legend, plain, row_line
from tests.support.canvas_stage import canvas
from tests.support.stage import golden

FACTS = Facts(
    position=17,
    text=" girl",
    state="unmasked in step 37",
    alternatives=[(" girl", 0.62), (" boy", 0.21), (" child", 0.08), (" dog", 0.03), ("\n", 0.02), (" ", 0.004)],
    chosen=0,
    entropy=1.31,
    margin=0.41,
    path=[None, 0.05, 0.06, 0.1, 0.2, 0.25, 0.4, 0.5, 0.62],
    entropies=[None, 4.0, 3.9, 3.5, 2.5, 2.0, 1.6, 1.5, 1.31],
    committed=37,
    best=[" boy", " child", " girl"],
    remasked=1,
)
MASKED = Facts(position=3, text="", state="masked", note="not predicted yet")
UTF8, ASCII, NONE = Theme(), Theme(glyphs="ascii", utf8=False), Theme(colour="none")


def test_the_lens_shows_alternatives_and_history_at_every_width():
    text = []
    for width, theme in ((40, UTF8), (78, UTF8), (118, UTF8), (78, ASCII)):
        rows = [[*title(FACTS, width)[0], (" ", ""), *title(FACTS, width)[1]], *lens_lines(FACTS, width, 8, theme)]
        assert all(cell_len(plain([row])) <= width for row in rows[1:])
        if theme is ASCII:
            assert plain(rows[1:]).isascii()
        text += [f"-- {width} {theme.glyphs}", plain(rows)]
    text += ["-- masked", plain([title(MASKED, 78)[0], *lens_lines(MASKED, 78, 2, UTF8)])]
    for width in (24, 40, 70):
        head, rest = in_a_line(FACTS, width)
        assert cell_len(plain([[*head, *rest]])) <= max(width, 24)
        text.append(f"{plain([head])} | {plain([rest])}")
    order = [0, 0, 3, 1, None, 2, 4, None, 4, 1, 1, 2]
    text += [
        "-- order",
        plain([order_heading(UTF8), order_heading(ASCII)]),
        plain([flow_line([3, 2, 1, 2], 3, 0.34, 40, UTF8)]),
    ]
    text += [plain([flow_line([3, 2, 1, 2], 3, 0.34, 40, ASCII)]), plain(order_lines(order, 4, 6, 2, UTF8))]
    text += [plain(order_lines(order, 4, 6, 2, ASCII)), plain(order_lines(order, 4, 3, 1, UTF8))]
    golden("lens", "\n".join(line.rstrip() for line in "\n".join(text).splitlines()) + "\n")


def test_the_title_of_the_lens_drops_whole_figures_and_the_step_of_commitment_last():
    seen = []
    for width in range(60, 2, -1):
        left, right = (plain([line]) for line in title(FACTS, width))
        text = f"{left} {right}".rstrip()
        assert cell_len(text) <= width or text == "@17"
        if text not in seen:
            seen.append(text)
    assert seen == [
        '@17 " girl" · unmasked in step 37 H 1.31 nats · margin .41',
        '@17 " girl" · step 37 H 1.31 nats · margin .41',
        '@17 " girl" · unmasked in step 37 H 1.31 nats',
        '@17 " girl" · step 37 H 1.31 nats',
        '@17 " girl" · step 37',
        "@17 · step 37",
        "@17",
    ]
    long = replace(FACTS, text="incomprehensibilities" * 3)
    assert all("step 37" in plain([title(long, width)[0]]) for width in range(33, 80))
    assert all("step 37" in plain([in_a_line(facts, 70)[0]]) for facts in (FACTS, long))


def test_a_token_that_is_no_alternative_has_its_probability_and_a_rank_beyond_them():
    facts = replace(FACTS, text=" dragon", chosen=None, confidence=0.013)
    assert plain([in_a_line(facts, 70)[0]]) == '@17 " dragon" .01 · step 37'
    assert "rank           > 6 · p .01" in plain(lens_lines(facts, 100, 8, UTF8))
    forced = replace(facts, confidence=None, state="forced at step 36")
    assert plain([in_a_line(forced, 70)[0]]) == '@17 " dragon" · forced at step 36'
    assert "> 6" in plain(lens_lines(forced, 100, 8, UTF8))


def test_a_sparkline_has_the_largest_value_of_each_cell_and_blanks_where_nothing_is_known():
    assert sparkline([None, 0.0, 0.5, 1.0], 4, ascii=False) == " ▁▅█"
    assert sparkline([0.0, 1.0, 0.0, 0.0], 2, ascii=True) == "%.".replace("%", "#")
    assert sparkline([], 5, ascii=False) == "" and len(sparkline([0.1] * 1000, 20, ascii=False)) == 20
    assert [share(p) for p in (0.0, 0.625, 0.994, 0.996, 1.0)] == [".00", ".62", ".99", "1.0", "1.0"]


def test_drafts_are_on_one_line_and_never_empty():
    assert [draft_text(text, False) for text in ("", " ", "\n", "\t", " a\nb")] == ["·", "·", "↵", " ", " a↵b"]
    assert all(draft_text(text, True).isascii() for text in ("", " ", "\n", "a"))


@pytest.mark.parametrize("theme", [Theme(palette=p) for p in PALETTES] + [NONE, Theme(colour="16")])
def test_drafts_differ_from_tokens_and_masks_and_the_cursor_is_seen(theme):
    shown = canvas(["a", None, "b", None, "c"])
    overlay = Overlay(drafts={1: "x"}, cursor=2, selected=frozenset({4}))
    assert drawn_texts(shown, theme, overlay)[1] == "x" and len(drawn_texts(shown, theme, overlay)[3]) == 1
    row = list(enumerate(drawn_texts(shown, theme, overlay)))
    runs = row_line(shown, row, theme, overlay)
    look = dict(runs)
    assert look["b"] == styles(theme).cursor and look["c"] == styles(theme).selected
    assert len({look[text] for text in ("a", "x", "b", "c", row[3][1])}) == 5
    assert plain([runs]) == plain([row_line(shown, row, theme)]), "an overlay changes no text beside the drafts"


def test_values_replace_the_confidence_and_positions_without_one_have_no_colour():
    shown = canvas(["a", None, "b", None])
    values = [0.0, 0.99, None, None]
    runs = row_line(shown, list(enumerate(drawn_texts(shown))), UTF8, Overlay(values=values))
    chosen = styles(UTF8)
    assert [style for _, style in runs] == [chosen.shades[0], chosen.tinted[-1], "", chosen.mask[1]]


@pytest.mark.parametrize("mode", MODES)
def test_the_legend_names_what_the_colours_mean_and_fits(mode):
    for width in (17, 30, 47, 60, 80):
        assert cell_len(plain([legend(UTF8, width, mode)])) <= max(width, 17)
        if width > 25:
            assert plain([legend(UTF8, width, mode, 64)]).startswith(mode), "the name stays longest"


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 12])
def test_the_legend_of_steps_names_only_steps_that_exist(steps):
    text = plain([legend(UTF8, 60, "step", steps)])
    named = [int(word) for word in text.partition(" of ")[0].split()[1:]]
    assert named and set(named) <= set(range(1, steps + 1)) and text.split(" of ")[1].split()[0] == str(steps)


def test_levels_of_the_legend_have_the_unit_of_what_they_mean():
    assert plain([legend(UTF8, 44, "entropy")]).startswith("entropy 2.5 1.4 .9 .5 .3 .1 nats  new: bold")
    assert plain([legend(UTF8, 44, "step", 64)]).startswith("step 60 49 38 27 16 5 of 64")
    assert plain([legend(UTF8, 44, "rank")]).startswith("rank 8 7 6 5 3 2 of 8")
    assert plain([legend(UTF8, 44, "margin")]).startswith("margin .1 .2 .4 .6 .8 .9  new: bold")
    for mode in MODES:
        for width in range(17, 80):  # words are whole
            words = plain([legend(UTF8, width, mode, 64)]).replace(":", "").split()
            assert set(filter(str.isalpha, words)) <= {
                *MODES, "nats", "of", "low", "high", "new", "this", "step", "bold", "remasked"
            }  # fmt: skip


def test_an_overlay_tells_which_positions_look_different():
    before = Overlay(values=[0.1, 0.2, 0.3], drafts={1: "x"}, cursor=0)
    after = Overlay(values=[0.1, 0.25, 0.3], drafts={2: "y"}, cursor=2)
    assert after.changed(before) == {0, 1, 2} and before.changed(before) == set()
    assert not after.same_kind(Overlay()) and after.same_kind(before)
