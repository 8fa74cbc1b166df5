"""The panes that a window shows, and the absences of its viewer."""

import pytest

from tdiff.tui.absence import Absence
from tdiff.tui.layout import NAMES, arrange, shown_panes
from tdiff.tui.panes.registry import CANVASES, Situation

BOTH = ["generation", "training"]


@pytest.mark.parametrize(
    ("width", "height", "panes", "side_by_side", "summary", "bottom", "hints"),
    [
        (160, 48, BOTH, True, False, True, True),
        (80, 24, BOTH, False, False, True, True),
        (80, 16, BOTH, False, False, True, True),
        (80, 15, ["training"], False, True, True, True),
        (80, 8, ["training"], False, True, False, True),
        (80, 6, ["training"], False, False, False, False),
        (80, 5, [], False, False, False, False),
        (39, 24, ["training"], False, True, True, True),
        (20, 6, ["training"], False, False, False, False),
        (19, 24, [], False, False, False, False),
    ],
)
def test_panes_and_lines_at_each_size(width, height, panes, side_by_side, summary, bottom, hints):
    how = arrange(width, height, BOTH, "training", zoomed=False)
    assert how.panes == set(panes) and how.tiny == (not panes)
    assert (how.side_by_side, how.summary, how.bottom, how.hints) == (side_by_side, summary, bottom, hints)


@pytest.mark.parametrize(
    ("width", "height", "here", "panes"),
    [
        (59, 16, "generation", ["generation", "training"]),
        (59, 16, "details", ["generation", "details"]),
        (80, 24, "training", ["generation", "training", "log"]),
        (80, 24, "details", ["generation", "training", "details"]),
        (80, 28, "log", NAMES[:4]),
        (80, 34, "log", NAMES),
        (120, 16, "details", NAMES[:4]),
        (120, 22, "details", NAMES),
        (120, 15, "details", ["details"]),
    ],
)
def test_stacked_panes_have_at_least_six_rows_each(width, height, here, panes):
    assert arrange(width, height, NAMES, here, zoomed=False).panes == set(panes)


def test_panes_below_two_canvases_have_at_least_six_rows():
    shown = [*CANVASES, *NAMES[1:]]
    assert arrange(99, 30, shown, "generation", False, two=True).panes == {"generation", "second", "training"}
    assert arrange(99, 30, shown, "log", False, two=True).panes == {"generation", "second", "log"}
    assert arrange(99, 76, shown, "log", False, two=True).panes == set(shown)
    assert arrange(120, 22, shown, "log", False, two=True).panes == {"generation", "second", "training", "log"}
    assert arrange(160, 48, shown, "log", False, two=True).panes == set(shown)


def test_a_zoomed_pane_has_the_whole_screen():
    assert arrange(160, 48, BOTH, "training", zoomed=True).panes == {"training"}
    assert arrange(160, 48, BOTH, "log", zoomed=True).panes == {"generation"}  # what is hidden cannot have it


def test_the_user_else_the_window_size_decides_which_panes_are_shown():
    assert shown_panes(Situation(80, 24), {}) == BOTH and shown_panes(Situation(80, 24, only_traces=True), {}) == [
        "generation"
    ]
    assert shown_panes(Situation(140, 40, gpus=True), {}) == list(NAMES)
    assert shown_panes(Situation(140, 30, gpus=True), {}) == shown_panes(Situation(160, 48), {}) == list(NAMES[:4])
    assert shown_panes(Situation(80, 24), {"gpus": True}) == [*BOTH, "gpus"]
    assert shown_panes(Situation(140, 30), {"log": False, "generation": False}) == ["training", "details"]
    assert shown_panes(Situation(80, 24), {"log": True}) == [*BOTH, "log"]


def test_curves_without_text_come_first_above_their_log_until_there_is_room_beside_it():
    shown = ["training", "log"]
    narrow, wide = (arrange(width, 24, shown, "training", False, only_curves=True) for width in (139, 140))
    assert narrow.panes == wide.panes == set(shown) and narrow.curves_first and wide.curves_first
    assert not narrow.side_by_side and wide.side_by_side
    assert not arrange(140, 24, BOTH, "training", False).curves_first


def test_an_absence_is_reported_when_it_ends():
    absence = Absence(0.0)
    assert absence.ended(True, 1.0) is None
    assert absence.ended(False, 2.0) is absence.ended(False, 3.0) is None
    assert absence.ended(True, 50.0) == 2.0 and absence.ended(True, 51.0) is None


def test_a_late_update_ends_an_absence():
    absence = Absence(0.0)
    assert absence.ended(True, 15.0) is None
    assert absence.ended(True, 115.0) == 15.0
    assert absence.ended(False, 300.0) is None  # resumed, but not attached
    assert absence.ended(True, 301.0) == 115.0


TWO = ["generation", "second", "training"]


@pytest.mark.parametrize(
    ("width", "height", "focused", "panes", "side_by_side", "summary"),
    [
        (160, 48, "training", TWO, True, False),
        (100, 16, "training", TWO, True, False),
        (99, 22, "second", TWO, False, False),
        (99, 21, "second", ["generation", "second"], False, True),
        (99, 21, "training", ["training"], False, True),
        (100, 15, "second", ["second"], True, True),
        (60, 15, "log", ["generation"], False, True),
        (39, 24, "second", ["second"], False, True),
        (19, 24, "second", [], False, False),
    ],
)
def test_panes_and_lines_at_each_size_with_two_models(width, height, focused, panes, side_by_side, summary):
    how = arrange(width, height, TWO, focused, zoomed=False, two=True)
    assert how.panes == set(panes)
    assert (how.side_by_side, how.summary) == (side_by_side, summary)


def test_the_canvases_of_two_models_are_shown_and_hidden_together():
    assert shown_panes(Situation(80, 24, two=True), {}) == TWO
    assert shown_panes(Situation(80, 24, two=True), {"generation": False}) == ["training"]
    assert shown_panes(Situation(80, 24, two=True), {"generation": False, "training": False}) == [
        "generation",
        "second",
    ]
    assert shown_panes(Situation(80, 24, only_traces=True, two=True), {}) == ["generation"]
    assert shown_panes(Situation(160, 48, two=True), {}) == [*TWO, "details"]
    assert shown_panes(Situation(160, 48, two=True, watched=False), {}) == TWO
    assert shown_panes(Situation(160, 48, two=True), {"log": True}) == [*TWO, "log", "details"]
