"""The cursor of a lens, and the positions that are selected from there on."""

from __future__ import annotations

from tdiff.tui.selection import Selection


def test_the_positions_between_the_anchor_and_the_cursor_are_selected_in_both_directions():
    selection = Selection()
    assert not selection.positions
    selection.move(4, 10)
    assert selection.positions == {4} and not selection.selected
    selection.begin()
    selection.move(6, 10)
    selection.begin()
    assert selection.selected == {4, 5, 6}, "a second beginning moves no anchor"
    selection.move(2, 10)
    assert selection.positions == {2, 3, 4}
    selection.end()
    selection.move(5, 10)
    assert selection.positions == {5} and not selection.selected


def test_the_cursor_stays_in_the_text_and_takes_its_selection_with_it():
    selection = Selection()
    selection.move(99, 10)
    assert selection.cursor == 9
    selection.begin()
    selection.move(-3, 10)
    assert selection.selected == frozenset(range(10))
    selection.move(None, 10)
    assert selection == Selection()
    selection.move(3, 0)
    assert selection == Selection(), "a text without positions"
