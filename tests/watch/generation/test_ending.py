"""Generations with an ending: only the positions that hold the text are shown."""

from __future__ import annotations

import dataclasses

from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.watch.generation.branches import Node
from tdiff.watch.generation.ending import up_to_end
from tdiff.watch.generation.recording import Recording


def with_ending(until: str = "paragraph", ended: bool = True) -> Recording:
    """The text `Once upon` of 3 tokens in a canvas of 8 positions, of which 2 of the others were unmasked too."""
    settings = {"until": until} if until else {}
    given = [(0, "On", 1)]
    about = {"version": "1", "model": "m", "decoder": "topk", "seed": 0, "row": 0, "prompt": "On"}
    recording = Recording(TraceHeader(**about, settings=settings, cells=8, given=given, steps=9))
    steps = [[(1, "ce", 2), (6, "x", 9)], [(4, "y", 9)], [(2, " upon.\n", 3)]]
    for n, cells in enumerate(steps, 1):
        changes = [(position, text, token, 0.5, "commit") for position, text, token in cells]
        recording.take(TraceStep(index=n, t=1 - n / 9, calls=n, cells=changes))
    if ended:
        recording.take(TraceEnd(text="Once upon.", model_calls=3, forced=0, tokens=2, seconds=1.0))
    return recording


def test_only_the_positions_of_the_text_are_left_with_the_same_steps():
    whole = with_ending()
    cut = up_to_end(whole)
    assert cut.canvas(cut.steps).texts == ["On", "ce", " upon."] and cut.canvas(cut.steps).left == 0
    assert (cut.steps, cut.ignored) == (whole.steps, 0)
    assert [cut.canvas(n).revealed for n in range(4)] == [0, 0.5, 0.5, 1]
    assert whole.canvas(3).left == 3 and up_to_end(cut) is cut


def test_a_text_in_progress_and_one_without_an_ending_are_shown_whole():
    for recording in (with_ending(ended=False), with_ending(until="")):
        assert up_to_end(recording) is recording


def test_a_branch_of_a_text_with_an_ending_has_none():
    whole = with_ending()
    header = dataclasses.replace(whole.header, settings={})
    branch = Node.continuing(Node("A", whole), 1, header, "B").recording
    branch.take(TraceEnd(text="On", model_calls=3, forced=0, tokens=2, seconds=1.0))
    assert up_to_end(branch) is branch
