"""Texts that are generated at once: which settings race, what is asked of each model, and who reads best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdiff.commands.watch_race import with_racers
from tdiff.errors import TdiffError
from tdiff.protocol.messages import Begin, Branch, Cancel, Lanes, Measure, Measured, Refused
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.watch.generation.branches import Change
from tdiff.watch.generation.lane import Entry
from tdiff.watch.generation.race import Race, entries
from tdiff.watch.options import Options
from tests.watch.generation.test_session import Process, ready


def header(row: int = 0) -> TraceHeader:
    known = {"version": "1", "model": "mine", "decoder": "topk", "settings": {}, "seed": 7, "prompt": "O"}
    return TraceHeader(**known, row=row, cells=4, given=[(0, "O", 1)])


def step(index: int, position: int, text: str, event: str = "commit") -> TraceStep:
    return TraceStep(index=index, t=0.5, calls=index, cells=[(position, text, 2, 0.5, event)])


def end(text: str = "Oabc") -> TraceEnd:
    return TraceEnd(text=text, model_calls=3, forced=0, tokens=3, seconds=1.5)


class Bench:
    """A race and its processes."""

    def __init__(self, *texts: str, **options) -> None:
        self.processes: list[Process] = []
        fields = {"prompt": None, "length": 0, "seed": 7} | options
        self.race = Race(self._start, entries(texts), **fields)
        self.race.begin()

    def _start(self, model: str | None) -> Process:
        self.processes.append(Process(model or "mine"))
        return self.processes[-1]

    def says(self, *answers, of: int = 0) -> None:
        self.processes[of].says += answers
        self.race.poll()
        self.race.poll()

    def lines(self, lane: int, *lines, seconds: float = 0.0, of: int = 0) -> None:
        first = [request.id for request in self.processes[of].asked if isinstance(request, Lanes)][-1]
        self.says(*(part for line in lines for part in (Begin(id=first + 1 + lane, seconds=seconds), line)), of=of)


def test_entries_are_decoders_with_options_and_models():
    found = entries(["confidence threshold=0.9", "model=tale", "remdm steps=64 model=tale"])
    assert [(one.settings, one.model) for one in found] == [
        ({"decoder": "confidence", "threshold": 0.9}, None),
        ({}, "tale"),
        ({"decoder": "remdm", "steps": 64}, "tale"),
    ]
    for bad in (["topk"], ["topk"] * 2, ["topk", "fastest"], ["topk", "topk k=x"], ["topk", ""], ["topk"] * 5):
        with pytest.raises(TdiffError):
            entries(bad)


def test_targets_that_are_settings_race_too_and_other_modes_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = with_racers(Options(race=("topk k=4",), targets=("remdm steps=64", "train.log")))
    assert (options.race, options.targets) == (("topk k=4", "remdm steps=64"), ["train.log"])
    assert with_racers(Options(targets=("topk",))).targets == ("topk",)
    for more in ({"once": True}, {"others": ("b",)}, {"race": ("topk",)}):
        with pytest.raises(TdiffError):
            with_racers(Options(**{"race": ("topk", "remdm")} | more))


def test_one_process_generates_all_texts_of_a_model_and_they_are_in_step_by_calls_and_by_time():
    bench = Bench("topk", "remdm")
    bench.says(ready())
    (asked,) = bench.processes[0].asked
    assert [options["decoder"] for options in asked.settings] == ["topk", "remdm"]
    assert (asked.rows, asked.seed, asked.prompt) == ([0, 0], 7, None)
    race, (one, other) = bench.race, bench.race.lanes
    bench.lines(0, header(), step(1, 1, "a"), step(2, 2, "b"), seconds=1.0)
    bench.lines(1, header(), step(1, 1, "a"), seconds=4.0)
    assert race.reached("calls") == 1.0 and race.reached("seconds") == 1.0
    assert [lane.at("calls", 1) for lane in race.lanes] == [1, 1]
    assert [lane.at("seconds", 1.0) for lane in race.lanes] == [2, 0]
    bench.lines(1, step(2, 1, "", "remask"), step(3, 1, "z"), seconds=5.0)
    assert (other.remasked(1), other.remasked(3), one.remasked(2)) == (0, 1, 0)
    assert race.difference(other, "calls", 1) is None and race.difference(other, "calls", 3) == 1
    bench.lines(0, end(), seconds=1.5)
    assert one.ended and one.seconds(2) == 1.5 and race.reached("calls") == 3.0


def test_another_model_gets_the_prompt_and_length_of_the_first_one():
    bench = Bench("topk", "model=tale")
    bench.says(ready(), of=1)
    bench.says(ready())
    assert bench.processes[1].model == "tale" and not bench.processes[1].asked
    bench.lines(0, header())
    bench.race.poll()
    (asked,) = bench.processes[1].asked
    assert (asked.prompt, asked.length) == ("O", 3)
    bench.lines(0, header(), step(1, 1, "z"), of=1)
    bench.lines(0, step(1, 1, "a"))
    assert bench.race.difference(bench.race.lanes[1], "calls", 1) is None, "their tokens may not be the same"


def test_complete_texts_are_measured_and_the_nearest_to_real_text_wins():
    bench = Bench("topk", "remdm", "schedule")
    bench.says(ready())
    first = bench.processes[0].asked[0].id
    bench.says(Refused(id=first + 3, text="no"))
    for lane in (0, 1):
        bench.lines(lane, header(), step(1, 1, "a"), end(f"text {lane}"))
    measure = bench.processes[0].asked[-1]
    assert isinstance(measure, Measure) and measure.texts == ["text 0", "text 1"]
    measures = {"corpus": "tale", "nats": [2.0, 1.9], "distinct": [1.0, 1.0], "words": [1.0, 1.0], "real": [1.9, 1, 1]}
    bench.says(Measured(id=measure.id, distances=[2.0, 0.0], **measures))
    assert [lane.letter for lane in bench.race.best] == ["B"] and not bench.race.busy
    bench.race.measured = Measured(id=measure.id, distances=[0.5, 0.0], **measures)
    assert [lane.letter for lane in bench.race.best] == ["A", "B"], "a difference that says nothing"


def test_without_a_corpus_the_reason_is_reported_and_a_dead_process_ends_its_texts():
    bench = Bench("topk", "remdm")
    bench.says(ready())
    for lane in (0, 1):
        bench.lines(lane, header(), step(1, 1, "a"), end())
    bench.says(Refused(id=bench.processes[0].asked[-1].id, text="no corpus"))
    assert bench.race.why_not == "no corpus" and not bench.race.best and not bench.race.busy
    bench = Bench("topk", "remdm")
    bench.says(Refused(text="weights are damaged"))
    assert [lane.refused for lane in bench.race.lanes] == ["weights are damaged"] * 2
    bench = Bench("topk", "remdm")
    bench.processes[0].reason = "killed"
    bench.race.poll()
    assert all("killed" in lane.refused for lane in bench.race.lanes) and bench.race.complete


def test_where_the_first_model_cannot_decide_the_next_one_does():
    for last in ("tale has no bound", ""):
        bench = Bench("topk", "model=tale")
        bench.says(ready())
        bench.says(ready(), of=1)
        bench.lines(0, header(), step(1, 1, "a"), end("Oabc"))
        bench.lines(0, header(), step(1, 1, "z"), end("Ozzz"), of=1)
        bench.says(Refused(id=bench.processes[0].asked[-1].id, text="no token"))
        assert bench.race.busy and not bench.race.why_not, "the other model is asked"
        measure = bench.processes[1].asked[-1]
        assert isinstance(measure, Measure) and measure.texts == ["Oabc", "Ozzz"]
        if last:
            bench.says(Refused(id=measure.id, text=last), of=1)
            assert bench.race.why_not == "no token" and not bench.race.busy
        else:
            bench.says(Measured(id=measure.id, model="tale", distances=[3, 1], nats=[1.5, 1.3], real=[1.2]), of=1)
            assert [lane.letter for lane in bench.race.best] == ["B"] and not bench.race.why_not


@pytest.mark.parametrize("others", [0, 1])
def test_a_judge_that_ends_is_followed_by_the_next_one_or_by_its_reason(others):
    bench = Bench("topk", "model=tale" if others else "remdm")
    for of in range(1 + others):
        bench.says(ready(), of=of)
    for lane in (0, 1):
        of = lane if others else 0
        bench.lines(0 if others else lane, header(), step(1, 1, "a"), end(), of=of)
    assert isinstance(bench.processes[0].asked[-1], Measure)
    bench.processes[0].reason = "killed"
    bench.race.poll()
    if others:
        assert isinstance(bench.processes[1].asked[-1], Measure) and bench.race.busy and not bench.race.why_not
    else:
        assert bench.race.why_not == "the model's process ended: killed" and not bench.race.busy


def test_a_refusal_of_a_branch_that_is_no_longer_shown_refuses_no_new_text():
    bench = raced(measures=False)
    bench.race.fork(bench.race.lanes[0], 1, Change(remask=frozenset({1})))
    bench.race.poll()
    (request,) = asked(bench, Branch)
    bench.race.again(1)
    bench.says(Refused(id=request.id, text="late"))
    assert [lane.refused for lane in bench.race.lanes] == ["", ""]


def test_other_texts_cancel_the_request_and_lines_of_the_old_one_are_ignored():
    bench = Bench("topk", "remdm")
    bench.says(ready())
    old = bench.processes[0].asked[0].id
    bench.lines(0, header(), step(1, 1, "a"))
    bench.race.again(1)
    bench.race.poll()
    cancel, asked = bench.processes[0].asked[1:]
    assert isinstance(cancel, Cancel) and cancel.id == old and asked.rows == [1, 1]
    bench.says(Begin(id=old + 1), header(), step(1, 1, "x"))
    assert bench.race.lanes[0].recording is None
    batch = Race(bench._start, [Entry("", row=n) for n in range(4)], prompt="O", length=3, seed=1, row=2)
    batch.begin()
    bench.says(ready(), of=-1)
    batch.poll()
    assert bench.processes[-1].asked[-1].rows == [2, 3, 4, 5]


def asked(bench: Bench, kind: type, of: int = 0) -> list:
    return [request for request in bench.processes[of].asked if isinstance(request, kind)]


def raced(**options) -> Bench:
    """A race of two texts of four positions, three steps each."""
    bench = Bench("topk", "topk k=2", **options)
    bench.says(ready())
    for lane in (0, 1):
        bench.lines(lane, header(), step(1, 1, "a"), seconds=0.5)
        bench.lines(lane, step(2, 2, "b"), seconds=1.0)
        bench.lines(lane, step(3, 3, "c"), end(), seconds=1.5)
    return bench


def branch_of(bench: Bench, request: Branch, *texts: str, seconds: float = 1.0) -> None:
    """Answer a request for a branch: each of the texts is unmasked in a step of its own."""
    given = [(n, "Oabc"[n], token) for n, token in enumerate(request.tokens) if token >= 0]
    masked = [n for n, token in enumerate(request.tokens) if token < 0]
    lines = [replace(header(), given=given)]
    lines += [step(n + 1, position, text) for n, (position, text) in enumerate(zip(masked, texts, strict=True))]
    ended = replace(end(), model_calls=len(texts), seconds=seconds)
    bench.says(*(part for line in [*lines, ended] for part in (Begin(id=request.id), line)))


def test_a_branch_is_after_its_text_and_begins_once_the_race_is_measured():
    bench = raced()
    race = bench.race
    first = race.lanes[0]
    (measure,) = asked(bench, Measure)
    branch, notice = race.fork(first, 2, Change(remask=frozenset({1})))
    assert [lane.letter for lane in race.lanes] == ["A", "C", "B"] and branch.parent is first
    race.poll()
    assert asked(bench, Branch) == [] and "complete" in notice, "another request would end the measuring"
    assert branch.reached("calls") == 2 and branch.reached("seconds") == 1.0 and not race.complete
    bench.says(
        Measured(id=measure.id, corpus="", distances=[0, 5], nats=[0, 0], distinct=[0, 0], words=[0, 0], real=[1] * 3)
    )
    (request,) = asked(bench, Branch)
    assert [n for n, token in enumerate(request.tokens) if token < 0] == [1, 3]
    branch_of(bench, request, "x", "y")
    assert branch.recording.ended.text and "".join(branch.recording.canvas(99).texts) == "Oxby"
    assert branch.recording.calls(branch.recording.steps) == 4, "two of its own after two of its parent"
    assert [branch.seconds(n) for n in range(6)] == [0, 0.5, 1.0, 1.0, 1.5, 2.0], "a step that remasks takes no time"
    assert branch.remasked(3) == 1 and branch.at("seconds", 1.6) == 4
    assert race.difference(branch, "calls", 4) == 1 and race.difference(race.lanes[2], "calls", 4) is None
    assert race.complete and not race.busy and race.best == [first], "branches are not in the race"
    assert len(asked(bench, Measure)) == 1


def test_a_branch_of_a_branch_in_progress_leaves_it_when_its_time_is_known():
    bench = raced(measures=False)
    race = bench.race
    one, _ = race.fork(race.lanes[0], 1, Change(remask=frozenset({1})))
    race.poll()
    (request,) = asked(bench, Branch)
    given = [(n, "Oabc"[n], token) for n, token in enumerate(request.tokens) if token >= 0]
    for line in (replace(header(), given=given), step(1, 1, "x")):
        bench.says(Begin(id=request.id), line)
    two, _ = race.fork(one, one.recording.steps, Change(at=1, room=1, text="y"))
    for line in (step(2, 2, "y"), step(3, 3, "z"), replace(end(), seconds=6.0)):
        bench.says(Begin(id=request.id), line)
    race.poll()
    branch_of(bench, asked(bench, Branch)[1], *["w"] * sum(t < 0 for t in asked(bench, Branch)[1].tokens))
    times = [two.seconds(n) for n in range(two.recording.steps + 1)]
    assert times == sorted(times) and two.reached("seconds") == times[-1] == one.seconds(two.fork.step) + 1.0


def test_a_branch_that_changes_nothing_times_its_own_first_step():
    bench = raced(measures=False)
    branch, _ = bench.race.fork(bench.race.lanes[0], 1, Change(remask=frozenset({2})))  # masked there already
    bench.race.poll()
    (request,) = asked(bench, Branch)
    branch_of(bench, request, "x", "y", seconds=2.0)
    assert branch.node.forked == 1 and [branch.seconds(n) for n in range(4)] == [0, 0.5, 1.5, 2.5]


def test_branches_continue_branches_wait_for_each_other_and_are_removed_with_what_continues_them():
    bench = raced(measures=False)
    race = bench.race
    one, notice = race.fork(race.lanes[1], 1, Change(at=1, room=1, text="z"))
    two, _ = race.fork(race.lanes[0], 3, Change(remask=frozenset({2})))
    race.poll()
    assert notice == "" and len(asked(bench, Branch)) == 1, "a request would end the one in progress"
    branch_of(bench, asked(bench, Branch)[0], "x", "y")
    race.poll()
    assert len(asked(bench, Branch)) == 2
    three, _ = race.fork(one, one.recording.steps, Change(remask=frozenset({1})))
    assert [lane.letter for lane in race.lanes] == ["A", "D", "B", "C", "E"] and three.root is race.lanes[2]
    assert not race.remove(race.lanes[0]) and race.remove(one)
    assert race.lanes == [race.lanes[0], two, race.lanes[2]]
    bench.says(Begin(id=asked(bench, Branch)[1].id), Refused(id=asked(bench, Branch)[1].id, text="too long"))
    assert two.refused == "too long" and race.complete
    race.again(1)
    assert [lane.letter for lane in race.lanes] == ["A", "B"] and race.lanes[0].recording is None
    race.poll()
    bench.lines(1, header(1), step(1, 1, "q"))
    assert race.lanes[1].recording.steps == 1


def test_what_no_branch_can_continue_is_said_and_a_process_that_ends_ends_its_branches():
    bench = Bench("topk", "topk k=2", measures=False)
    with pytest.raises(TdiffError, match="has not started"):
        bench.race.fork(bench.race.lanes[0], 0, Change())
    bench = raced(measures=False)
    for _ in range(7):
        bench.race.fork(bench.race.lanes[0], 1, Change(remask=frozenset({1})))
    with pytest.raises(TdiffError, match="9 texts"):
        bench.race.fork(bench.race.lanes[0], 1, Change())
    bench.processes[0].reason = "killed"
    bench.race.poll()
    assert all("killed" in lane.refused for lane in bench.race.lanes if lane.parent) and bench.race.complete
    assert not any(lane.refused for lane in bench.race.roots), "complete texts stay"
