"""What a recording knows about a position: predictions, the step that unmasked it, and the order of all of them."""

from __future__ import annotations

import itertools
import random

import pytest

from tdiff.errors import TdiffError
from tdiff.protocol.canvas import MASKED
from tdiff.protocol.detail import DetailWriter
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.watch.generation.branches import Change, Node, branch_request, first_difference, next_name, tree
from tdiff.watch.generation.insight import Insight, tau
from tdiff.watch.generation.recording import Recording

HEADER = {"version": "0", "model": "m", "decoder": "d", "seed": 0, "row": 0, "prompt": "ab"}


def header(cells: int, given: int = 2) -> TraceHeader:
    return TraceHeader(cells=cells, given=[(n, "ab"[n], n) for n in range(given)], settings={}, **HEADER)


class Story:
    """A trace of which every step has predictions for some positions: {position: [(token, p), ...]}."""

    def __init__(self, cells: int = 6) -> None:
        self.recording = Recording(header(cells))
        self._writer = DetailWriter(lambda token: f"t{token}")
        self._writer.earn(10**6)
        self._index = 0

    def step(self, commit=(), remask=(), **predictions) -> None:
        self._index += 1
        predictions = {
            int(name[1:]): ([t for t, _ in pairs], [p for _, p in pairs], 1.0) for name, pairs in predictions.items()
        }
        cells = [(n, f"t{token}", token, 0.5, "commit") for n, token in commit]
        cells += [(n, "", 0, 0.0, "remask") for n in remask]
        detail, tokens = self._writer.pack(predictions, {n for n, _ in commit})
        self.recording.take(
            TraceStep(
                index=self._index, t=0.5, calls=self._index, cells=cells, detail=detail or None, tokens=tokens or None
            )
        )


def story() -> Story:
    """Position 3 has guesses 7, 8, 7, is unmasked in step 3 as 8, remasked in step 4, and unmasked in step 6."""
    it = Story()
    it.step(commit=[(2, 5)], p2=[(5, 0.9)], p3=[(7, 0.6), (8, 0.3)])
    it.step(commit=[(4, 5)], p3=[(8, 0.8), (7, 0.1)], p4=[(5, 0.9)])
    it.step(commit=[(3, 8)], p3=[(7, 0.5), (8, 0.4)])
    it.step(remask=[3])
    it.step(commit=[(5, 9)], p5=[(9, 1.0)], p3=[(7, 0.9)])
    it.step(commit=[(3, 7)], p3=[(7, 0.99)])
    return it


def test_a_position_knows_its_predictions_its_token_and_its_changes_of_mind_at_every_step():
    insight = Insight(story().recording)
    insight.update()
    look = insight.look(3, 3)
    assert (look.token, look.committed, look.rank, look.remasked, list(look.best)) == (8, 3, 2, 0, [7, 8, 7])
    assert [None if p is None else round(p, 1) for p in look.token_path] == [0.3, 0.8, 0.4]
    masked = insight.look(3, 5)
    assert (masked.token, masked.committed, masked.rank, masked.remasked) == (None, None, None, 1)
    assert masked.guess is not None and masked.guess.draft == 7 and len(masked.token_path) == 5
    assert insight.look(3, 6).committed == 6 and insight.text(8) == "t8"
    assert insight.look(3, 0).guess is None and insight.look(0, 3).prompt


def test_guesses_are_those_of_masked_positions_and_order_is_that_of_the_trace():
    recording = story().recording
    insight = Insight(recording)
    insight.update()
    for step in range(recording.steps + 1):
        canvas = recording.canvas(step)
        masked = {n for n, c in enumerate(canvas.confidence) if c == MASKED}
        assert set(insight.guesses(canvas.confidence, step)) <= masked
        order, tokens = insight.order(step), insight.tokens(step)
        assert {n for n, at in enumerate(order) if at is None} == masked
        assert {n for n, token in enumerate(tokens) if token is None} == masked
        assert all(n in recording.changed(at) for n, at in enumerate(order) if at)
    assert insight.commits == [1, 1, 1, 0, 1, 1]


def test_a_trace_that_grows_is_read_on_and_one_without_predictions_has_none():
    it = Story()
    insight = Insight(it.recording)
    insight.update()
    assert not insight.detailed and insight.look(3, 0).guess is None
    it.step(commit=[(2, 5)])
    insight.update()
    assert not insight.detailed and insight.commits == [1]
    it.step(commit=[(3, 6)], p3=[(6, 0.5)])
    insight.update()
    assert insight.detailed and insight.look(3, 2).rank == 1


@pytest.mark.parametrize("seed", range(20))
def test_tau_is_that_of_all_pairs(seed):
    rng = random.Random(seed)
    order = [rng.choice([None, 0, 1, 2, 3, 4, 9]) for _ in range(rng.randrange(2, 30))]
    steps = [step for step in order if step]
    pairs = list(itertools.combinations(steps, 2))
    score = sum((b > a) - (b < a) for a, b in pairs)
    untied = sum(a != b for a, b in pairs)
    expected = None if not untied else score / (len(pairs) * untied) ** 0.5
    assert tau(order) == (None if expected is None else pytest.approx(expected))


def test_tau_of_left_to_right_is_1_and_of_right_to_left_is_minus_1():
    assert tau([0, 1, 2, None, 3]) == 1.0 and tau([3, 2, 1]) == -1.0 and tau([2, 2]) is None


def test_a_branch_repeats_its_parent_up_to_the_step_and_then_its_own_lines():
    parent = story().recording
    insight = Insight(parent)
    insight.update()
    request = branch_request(insight, 3, Change(remask=frozenset({2, 3})))
    assert request.tokens == [0, 1, -1, -1, 5, -1] and request.frozen == [0, 1] and request.steps == 3
    # The model answers with a canvas in which 4 holds another token too.
    canvas = [(0, "a", 0), (1, "b", 1), (4, "x", 11)]
    root = Node("A", parent)
    node = Node.continuing(root, 3, TraceHeader(cells=6, given=canvas, settings={}, **HEADER), "B")
    node.take(TraceStep(index=1, t=0.5, calls=1, cells=[(2, "q", 12, 0.5, "commit")]))
    branch = node.recording
    assert [branch.canvas(n).texts for n in range(4)] == [parent.canvas(n).texts for n in range(4)]
    assert branch.canvas(4).texts == ["a", "b", "", "", "x", ""] and node.forked == 4
    assert branch.canvas(5).texts == ["a", "b", "q", "", "x", ""] and branch.index(5) == 4
    assert branch.canvas(5).calls == 4 and branch.ignored == 0
    assert first_difference(parent.canvas(3).texts, branch.canvas(5).texts) == 2
    assert tree(root) == [root, node] and node.root is root and next_name({"A", "B"}) == "C"


def test_a_branch_can_change_its_prompt():
    parent = story().recording
    insight = Insight(parent)
    insight.update()
    request = branch_request(insight, 6, Change(remask=frozenset({1})))
    assert request.tokens[1] == -1 and request.frozen == [0]
    canvas = [(0, "z", 3), *((n, f"t{t}", t) for n, t in enumerate(insight.tokens(6)) if n > 1 and t is not None)]
    node = Node.continuing(Node("A", parent), 6, TraceHeader(cells=6, given=canvas, settings={}, **HEADER), "B")
    assert node.recording.canvas(6).texts[:3] == ["z", "", "t5"]


def test_a_forced_token_is_in_the_request_and_no_decoder_may_change_it():
    insight = Insight(story().recording)
    insight.update()
    request = branch_request(insight, 3, Change(force=(2, 9)))
    assert request.tokens[2] == 9 and request.frozen == [0, 1, 2] and not request.text


def test_a_branch_takes_the_decoding_settings_of_its_text_and_refuses_guidance():
    header = TraceHeader(
        cells=2, given=[], settings={"k": 3, "preset": "fast", "until": "story", "length": 9, "seed": 1}, **HEADER
    )
    assert branch_request(Insight(Recording(header)), 0, Change()).settings == {"k": 3, "preset": "fast"}
    guided = TraceHeader(cells=2, given=[], settings={"class": "pos", "guidance": 2.0}, **HEADER)
    with pytest.raises(TdiffError, match=r"for the class pos; a branch cannot"):
        branch_request(Insight(Recording(guided)), 0, Change())
