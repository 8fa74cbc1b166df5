"""Traces with predictions from a real model, and branches that continue a changed canvas."""

from __future__ import annotations

import pytest

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.branch import branch_start
from tdiff.core.diffusion.generate import narrate
from tdiff.core.models.load import load_model
from tdiff.core.serve import Inbox, Server
from tdiff.errors import TdiffError
from tdiff.protocol.canvas import MASKED
from tdiff.protocol.events import to_line
from tdiff.protocol.messages import Begin, Load, Refused
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.watch.generation.branches import Change, Node, branch_request
from tdiff.watch.generation.insight import Insight
from tdiff.watch.generation.recording import Recording

MORE = DecodeSettings(decoder="remdm", steps=12, eta=0.2, seed=5)


@pytest.fixture(scope="module")
def model(tiny_run):
    return load_model(str(tiny_run.path))


def recorded(lines) -> Recording:
    header, *rest = lines
    recording = Recording(header)
    for line in rest:
        recording.take(line)
    return recording


@pytest.mark.parametrize("settings", [MORE, DecodeSettings(decoder="topk", k=5, block=9, temperature=1, seed=2)])
def test_a_trace_with_details_is_at_most_three_times_as_large_and_agrees_with_its_steps(model, settings):
    plain = list(narrate(model, "The ", settings, length=40))
    lines = list(narrate(model, "The ", settings, length=40, detail=True))
    size, full = (sum(len(to_line(line).encode()) for line in part) for part in (plain, lines))
    assert size < full <= 3 * size
    recording = recorded(lines)
    insight = Insight(recording)
    insight.update()
    assert insight.detailed
    for step in range(1, recording.steps + 1):
        canvas = recording.canvas(step)
        for position in recording.changed(step):
            look = insight.look(position, step)
            if canvas.confidence[position] == MASKED:
                assert look.committed is None and look.remasked
                continue
            assert look.committed == step and look.guess is not None
            assert look.guess.entropy >= 0 and sum(p for _, p in look.guess.alternatives) <= 1
            if not settings.temperature and look.token == look.guess.draft:
                assert look.guess.confidence == pytest.approx(canvas.confidence[position], abs=0.01)


def test_a_branch_keeps_what_was_not_changed_and_continues_with_the_remaining_steps(model):
    parent = recorded(narrate(model, "The ", MORE, length=24, detail=True))
    insight = Insight(parent)
    insight.update()
    inbox, said = Inbox(), []
    server = Server(inbox, said.append, "cpu")
    server.answer(Load(model=str(model.path)))
    word = Change(at=10, room=5, text="cat")
    request = branch_request(insight, 6, word)
    server.answer(request)
    ready, begin, header, *steps, end = said
    assert ready.kind == "ready" and begin == Begin(id=0) and isinstance(header, TraceHeader)
    assert isinstance(end, TraceEnd) and all(isinstance(step, TraceStep) for step in steps)
    assert 1 <= len(steps) <= 12 - parent.index(6)
    node = Node.continuing(Node("A", parent), 6, header, "B")
    for line in (*steps, end):
        node.take(line)
    branch = node.recording
    assert [branch.canvas(n).texts for n in range(7)] == [parent.canvas(n).texts for n in range(7)]
    assert branch.ignored == 0 and branch.canvas(branch.steps).left == 0
    written = "".join(branch.canvas(branch.steps).texts)
    assert written[10:13] == "cat" and written == end.text
    assert "".join(branch.canvas(7).texts[10:15]) == "cat", "what the text does not need is masked"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"tokens": [0, 10**6]}, "has no token 1000000"),
        ({"tokens": []}, "at least one position"),
        ({"tokens": [-1, -1], "frozen": [2]}, "outside its canvas"),
        ({"tokens": [-1, -1], "at": 1, "room": 2}, "outside its canvas"),
        ({"tokens": [-1, -1, -1], "at": 0, "room": 2, "text": "The"}, "the text has 3 tokens, and 2 positions"),
        ({"tokens": [1, 1]}, "nothing is masked"),
    ],
)
def test_a_branch_that_makes_no_sense_is_refused_in_one_line(model, wrong, why):
    arguments = {"frozen": [], **wrong}
    with pytest.raises(TdiffError, match=why) as error:
        branch_start(model, settings=DecodeSettings(), **arguments)
    assert "\n" not in str(error.value)


def test_a_refused_branch_does_not_end_the_process(model):
    from tdiff.protocol.messages import Branch

    said = []
    server = Server(Inbox(), said.append, "cpu")
    server.answer(Load(model=str(model.path)))
    server.answer(Branch(id=4, tokens=[1, 1], frozen=[]))
    assert isinstance(said[-1], Refused) and said[-1].id == 4
