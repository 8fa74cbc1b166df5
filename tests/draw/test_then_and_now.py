"""Texts of several moments beside each other, with what changed."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from tdiff.draw.render import plain
from tdiff.draw.then_and_now import Moment, changed, draw, rows_of, words_of
from tests.tui.test_hostile import INERT, evil

MOMENTS = [
    Moment("first", "Once the the a was", "Once "),
    Moment("step 5", "Once there was a cat", "Once "),
    Moment("newest", "Once there was a big cat\nIt slept.", "Once "),
]


def styled(lines, style: str) -> str:
    return " ".join(text.strip() for line in lines for text, face in line if face == style and text.strip())


def test_new_words_are_those_that_are_not_at_their_place_in_the_text_before():
    new, share = changed("Once there was a cat", "Once there was a big cat\nIt slept.")
    assert new == {4, 6, 7} and share == 5 / 8
    assert changed("a b", "") == (frozenset(), 1.0)
    assert changed("", "a b") == (frozenset({0, 1}), 0.0)


def test_words_that_changed_are_bold_and_the_others_dim():
    lines = draw(MOMENTS, 40, 12)
    first, second, third = lines[:4], lines[4:8], lines[8:]
    assert styled(first, "") == "the the a was", "nothing is before the first text"
    assert styled(second, "bold") == "step 5 there was cat"
    assert styled(third, "bold") == "newest big It slept."
    assert "Once" in styled(third, "dim") and "62% as before" in plain([third[0]])


@pytest.mark.parametrize(("width", "columns"), [(104, 1), (105, 3)])
def test_texts_are_beside_each_other_where_each_has_room(width, columns):
    lines = plain(draw(MOMENTS, width, 9)).split("\n")
    assert len(lines) == 9 and {len(line) for line in lines} == {width}
    assert lines[0].count("│") == columns - 1
    assert ("newest" in lines[0]) is (columns == 3) and ("newest" in lines[6]) is (columns == 1)


def test_texts_scroll_together_and_their_titles_stay():
    lines = plain(draw(MOMENTS, 8, 6, 2)).split("\n")
    assert [line.strip() for line in lines] == ["first ─", "a was", "step 5", "was a", "newest", "was a"]
    assert rows_of(MOMENTS, 8) == 6


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (40, 2), (300, 1), (107, 3), (0, 3), (5, 0)])
def test_every_size_is_drawn(size):
    for count in range(4):
        lines = draw(MOMENTS[:count], *size)
        assert len(lines) == size[1]
        assert all(cell_len("".join(text for text, _ in line)) <= size[0] for line in lines)


@pytest.mark.parametrize("seed", range(20))
def test_hostile_texts_are_inert_and_keep_their_columns(seed):
    make = random.Random(seed)
    moments = [Moment("t", evil(make), evil(make)) for _ in range(3)]
    for width in (50, 120):
        lines = draw(moments, width, 20)
        assert len(lines) == 20
        for line in lines:
            text = "".join(part for part, _ in line)
            assert not INERT.search(text) and width - 2 <= cell_len(text) <= width, repr(text)


def test_a_text_without_words_and_a_huge_text():
    assert words_of("  ") == ("  ",) and words_of("") == ()
    new, _ = changed("a " * 5000, "b " * 5000)
    assert len(new) == 2000, "words behind the first 2,000 are not compared"
