"""A live generation: the requests to the model's process, their times, and the recordings of its answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdiff.config.decoding import DecodeSettings
from tdiff.errors import TdiffError
from tdiff.protocol.messages import Begin, Branch, Cancel, Cancelled, Generate, Load, Ready, Refused
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.watch.generation.branches import Fork, Node
from tdiff.watch.generation.recording import Recording
from tdiff.watch.generation.session import Live


class Process:
    """A process whose answers the test sets."""

    def __init__(self, model: str) -> None:
        self.model, self.asked, self.says, self.reason, self.closed = model, [], [], None, False

    @property
    def alive(self) -> bool:
        return self.reason is None

    def take(self) -> list:
        said, self.says = self.says, []
        return said

    def send(self, request) -> bool:
        self.asked.append(request)
        return True

    def halt(self) -> None:
        self.asked.append("halt")

    def resume(self) -> None:
        self.asked.append("resume")

    def close(self) -> None:
        self.closed = True


class Stage:
    """A Live and the processes that it has started."""

    def __init__(self, **options) -> None:
        self.processes: list[Process] = []
        self.live = Live(self._start, "mine", seed=7, **options)
        self.live.start()

    def _start(self, model: str) -> Process:
        self.processes.append(Process(model))
        return self.processes[-1]

    @property
    def process(self) -> Process:
        return self.processes[-1]

    def says(self, *answers, now: float = 0.0) -> None:
        self.process.says += answers
        self.live.poll(now)


def ready(weights: float = 1.0, **more) -> Ready:
    fields = {"model": "mine", "window": 8, "device": "cpu", "threads": 1, "vocabulary": 9, "step": 5}
    return Ready(**fields, weights=weights, decoders=["confidence", "topk"], **more)


HEADER = TraceHeader(
    version="1", model="mine", decoder="topk", settings={}, seed=7, row=0, prompt="", cells=2, given=[], steps=0
)
STEP = TraceStep(index=1, t=0.5, calls=1, cells=[(0, "a", 1, 0.9, "commit")])
END = TraceEnd(text="ab", model_calls=2, forced=0, tokens=2, seconds=0.5)


def start_generation(stage: Stage, now: float = 0.0) -> int:
    """Make the model ready and answer its first request up to the first step; return the request's id."""
    stage.says(ready(), now=now)
    asked = stage.process.asked[-1]
    assert isinstance(asked, Generate)
    stage.says(Begin(id=asked.id), HEADER, STEP, now=now)
    return asked.id


def test_first_text_starts_when_the_model_is_ready_and_the_next_after_the_pause():
    stage = Stage(every=5.0)
    assert stage.live.state == "loading"
    stage.live.poll(0.0)
    assert stage.process.asked == []
    start_generation(stage)
    assert stage.live.state == "generating"
    assert stage.live.recording.steps == 1
    stage.says(END, now=2.0)
    assert stage.live.state == "waiting"
    assert stage.live.remaining(3.0) == pytest.approx(4.0)
    stage.live.poll(6.9)
    assert len(stage.process.asked) == 1
    stage.live.poll(7.0)
    first, second = stage.process.asked
    assert (first.seed, first.row, second.row) == (7, 0, 1)
    assert first.id != second.id


def test_resting_finishes_the_text_but_starts_no_other():
    stage = Stage(every=1.0)
    start_generation(stage)
    stage.live.resting = True
    stage.says(END, now=1.0)
    assert stage.live.recording.ended is not None
    stage.live.poll(9.0)
    assert len(stage.process.asked) == 1
    stage.live.resting = False
    stage.live.poll(9.0)
    assert len(stage.process.asked) == 2


def test_requests_contain_only_the_options_that_were_set():
    stage = Stage(options={"decoder": "topk", "k": 3}, prompt="so", length=4)
    stage.says(ready())
    asked = stage.process.asked[-1]
    assert (asked.settings, asked.prompt, asked.length) == ({"decoder": "topk", "k": 3}, "so", 4)


def test_model_settings_apply_until_the_user_names_a_decoder():
    stage = Stage(options={"temperature": 0.5})
    stage.says(ready(decoding={"decoder": "klass", "threshold": 0.6, "history": 4}))
    assert stage.live.settings == DecodeSettings(decoder="klass", threshold=0.6, history=4, temperature=0.5)
    assert stage.process.asked[-1].settings == {"temperature": 0.5}  # the process knows its model's own settings
    assert stage.live.has_threshold
    assert stage.live.shift_threshold(1) == pytest.approx(0.65)
    assert stage.live.settings.history == 4
    stage.live.set_option("decoder", "topk")
    assert stage.live.settings.history == DecodeSettings().history
    assert not stage.live.has_threshold


def test_unknown_model_settings_are_ignored():
    stage = Stage()
    stage.says(ready(decoding={"decoder": "telepathy", "reach": 3}))
    assert stage.live.settings == DecodeSettings()


@pytest.mark.parametrize(
    ("change", "settings", "prompt"),
    [
        (lambda live: live.set_prompt("new"), {}, "new"),
        (lambda live: live.choose_decoder({"decoder": "topk"}), {"decoder": "topk"}, None),
        (lambda live: live.shift_threshold(1), {"threshold": 0.75}, None),
        (lambda live: live.new_text(), {}, None),
    ],
)
def test_change_cancels_the_text_and_starts_another_at_once(change, settings, prompt):
    stage = Stage()
    running = start_generation(stage)
    change(stage.live)
    assert stage.process.asked[-1] == Cancel(id=running)
    stage.says(Cancelled(id=running), now=0.1)
    asked = stage.process.asked[-1]
    assert (asked.settings, asked.prompt) == (settings, prompt)
    assert asked.id != running


def test_late_lines_of_a_cancelled_text_are_dropped():
    stage = Stage()
    start_generation(stage)
    first = stage.live.recording
    stage.live.new_text()
    stage.says(STEP, now=0.1)  # a late line
    assert first.steps == 1
    assert len(stage.live.recordings) == 1
    stage.says(Begin(id=stage.process.asked[-1].id), HEADER, now=0.2)
    assert len(stage.live.recordings) == 2
    assert stage.live.recording.steps == 0


def test_threshold_stays_in_0_to_1_and_invalid_settings_change_nothing():
    stage = Stage(options={"threshold": 0.95})
    assert [stage.live.shift_threshold(1) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert stage.live.shift_threshold(-100) == 0.0
    with pytest.raises(TdiffError, match="temperature"):
        stage.live.set_option("temperature", -1.0)
    assert stage.live.settings.threshold == 0.0


def test_refused_request_keeps_its_message_and_is_retried_with_growing_pauses():
    stage = Stage()
    stage.says(ready())
    pauses, now = [], 0.0
    for _ in range(9):
        stage.says(Refused(id=stage.process.asked[-1].id, text="out of memory"), now=now)
        pauses.append(stage.live.remaining(now))
        stage.live.poll(now + pauses[-1] - 0.1)
        assert stage.live.message == "out of memory"
        now += pauses[-1]
        stage.live.poll(now)
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert len(stage.process.asked) == 10
    stage.says(Begin(id=stage.process.asked[-1].id), HEADER, END, now=now)
    stage.live.poll(now + 11)
    assert stage.live.message == ""


def test_changed_request_is_sent_at_once_after_a_refusal():
    stage = Stage()
    stage.says(ready())
    stage.says(Refused(id=stage.process.asked[-1].id, text="the prompt has 300 tokens"))
    stage.live.set_prompt("short")
    stage.live.poll(1.0)
    assert stage.process.asked[-1].prompt == "short"


def test_refusal_of_a_cancelled_request_changes_nothing():
    stage = Stage()
    stage.says(ready())
    first = stage.process.asked[-1].id
    stage.live.set_prompt("good one")
    stage.live.poll(1.0)
    stage.says(Refused(id=first, text="too late"), now=1.0)
    assert stage.live.prompt == "good one" and stage.live.state == "generating" and not stage.live.message


def test_process_that_cannot_be_started_is_dead_with_a_reason():
    def fail(model: str) -> Process:
        raise TdiffError("cannot start 'python': No such file or directory")

    live = Live(fail, "mine", seed=7)
    live.start()
    live.poll(0.0)
    assert live.state == "dead" and "No such file" in live.message


def test_refused_first_model_ends_the_process_and_newer_weights_restart_it():
    newest = [("mine", 1.0)]
    stage = Stage(newest=lambda: newest[0])
    stage.says(Refused(text="weights are damaged"))
    assert stage.processes[0].closed and stage.live.state == "dead"
    stage.says()
    assert "weights are damaged" in stage.live.message and len(stage.processes) == 1
    newest[0] = ("mine", 2.0)
    stage.live.poll(1.0)
    assert len(stage.processes) == 2 and stage.live.state == "loading"


def test_refused_prompt_is_reverted_and_its_message_expires():
    stage = Stage(prompt="so")
    start_generation(stage)
    stage.live.set_prompt("é")
    stage.live.poll(1.0)
    stage.says(Refused(id=stage.process.asked[-1].id, text="no é here"), now=1.1)
    stage.live.poll(1.2)
    assert stage.process.asked[-1].prompt == "so"
    assert stage.live.message == "no é here"
    stage.live.poll(30.0)
    assert stage.live.message == ""


def test_newer_weights_are_loaded_once_before_the_next_text():
    newest = ["folder", 1.0]
    stage = Stage(newest=lambda: tuple(newest), every=1.0)
    start_generation(stage)
    newest[1] = 2.0
    stage.says(END, now=1.0)
    stage.live.poll(3.0)
    assert stage.process.asked[-1] == Load(model="folder")
    assert stage.live.state == "loading"
    stage.says(Refused(text="it is damaged"), now=3.1)
    assert "damaged" in stage.live.message
    stage.live.poll(9.0)
    assert isinstance(stage.process.asked[-1], Generate)  # the old weights stay in use
    assert sum(isinstance(request, Load) for request in stage.process.asked) == 1


def test_dead_process_has_a_reason_and_can_be_restarted():
    stage = Stage()
    start_generation(stage)
    stage.process.reason = "killed by signal 9"
    assert stage.live.poll(1.0)
    assert stage.live.state == "dead"
    assert "killed by signal 9" in stage.live.message
    assert len(stage.live.recordings) == 1  # the text so far stays
    stage.live.start()
    assert stage.processes[0].closed
    assert (stage.live.state, stage.live.message) == ("loading", "")
    start_generation(stage)
    assert stage.live.state == "generating"


def test_end_message_uses_the_callers_wording():
    stage = Stage(ended=lambda reason: f"no model writes: {reason}")
    stage.process.reason = "exit 127: tdiff: not found"
    stage.live.poll(0.0)
    assert (stage.live.state, stage.live.message) == ("dead", "no model writes: exit 127: tdiff: not found")


def test_process_restarts_at_once_to_yield_to_a_run():
    trains = [False]
    stage = Stage(courteous=lambda: trains[0])
    start_generation(stage)
    trains[0] = True
    stage.says(now=0.5)
    assert len(stage.processes) == 1  # courtesy is not checked at every poll
    stage.says(now=1.5)
    assert len(stage.processes) == 2 and stage.processes[0].closed and stage.live.state == "loading"
    number = start_generation(stage, now=2.0)
    trains[0] = False
    stage.says(now=9.0)
    assert len(stage.processes) == 2  # a text is not cancelled just to gain speed
    stage.says(END, now=10.5)
    assert len(stage.processes) == 3 and stage.live.recordings[-1].ended and number


def test_halted_time_does_not_count_as_part_of_the_text():
    stage = Stage(every=5.0)
    start_generation(stage, now=10.0)
    stage.live.poll(12.0)
    stage.live.halt(12.0)
    stage.live.halt(12.0)
    stage.live.resume(3600.0)
    stage.live.resume(3600.0)
    assert stage.process.asked[-2:] == ["halt", "resume"]
    stage.live.poll(3601.0)
    assert stage.live.seconds == pytest.approx(3.0)


def test_slow_mode_generates_a_twentieth_of_the_time_but_loads_newer_weights_at_once():
    weights = ["mine", 1.0]
    stage = Stage(every=5.0, newest=lambda: (weights[0], weights[1]))
    start_generation(stage, now=100.0)
    stage.says(END, now=110.0)
    assert stage.live.remaining(110.0) == 5.0
    stage.live.slow = True
    assert stage.live.remaining(110.0) == 190.0
    asked = len(stage.process.asked)
    stage.live.poll(299.0)
    assert len(stage.process.asked) == asked
    stage.live.poll(300.0)
    assert isinstance(stage.process.asked[-1], Generate) and len(stage.process.asked) == asked + 1
    stage.says(Begin(id=stage.process.asked[-1].id), HEADER, STEP, now=300.0)
    stage.says(END, now=310.0)
    weights[1] = 2.0
    stage.live.poll(314.0)
    assert isinstance(stage.process.asked[-1], Generate)
    stage.live.poll(315.0)
    assert stage.process.asked[-1] == Load(model="mine")


def test_leaving_slow_mode_starts_the_next_text_at_once():
    stage = Stage(every=5.0)
    start_generation(stage, now=100.0)
    stage.says(END, now=110.0)
    stage.live.slow = True
    stage.live.poll(150.0)
    asked = len(stage.process.asked)
    stage.live.slow = False
    stage.live.poll(150.0)
    assert len(stage.process.asked) == asked + 1
    stage.says(Begin(id=stage.process.asked[-1].id), HEADER, STEP, now=150.0)
    stage.live.slow = True
    stage.live.new_text()
    stage.live.poll(151.0)
    assert isinstance(stage.process.asked[-1], Generate)


def fork_of(stage: Stage, name: str = "B") -> Fork:
    """A branch of the newest text, after its first step."""
    request = Branch(id=0, tokens=[1, -1], frozen=[], prompt="", seed=7, row=0, settings={})
    return Fork(Node("A", stage.live.recordings[0]), 1, name, request)


def test_a_branch_waits_for_the_text_whose_header_has_not_come():
    stage = Stage(every=5.0)
    start_generation(stage)
    stage.says(END, now=1.0)
    stage.live.poll(6.0)
    ordinary = stage.process.asked[-1]
    stage.live.fork(fork_of(stage))
    stage.says(Begin(id=ordinary.id), HEADER, STEP, END, now=7.0)
    assert stage.live.branch is None
    asked = stage.process.asked[-1]
    assert isinstance(asked, Branch) and asked.id > ordinary.id
    stage.says(Begin(id=asked.id), HEADER, now=8.0)
    assert stage.live.branch is not None and stage.live.branch.name == "B"


def test_a_refused_text_leaves_the_branch_that_waits_and_a_refused_branch_is_not_repeated():
    stage = Stage(every=5.0)
    start_generation(stage)
    stage.says(END, now=1.0)
    stage.live.poll(6.0)
    stage.live.fork(fork_of(stage))
    stage.says(Refused(id=stage.process.asked[-1].id, text="no memory"), now=7.0)
    branch = stage.process.asked[-1]
    assert isinstance(branch, Branch)
    stage.says(Refused(id=branch.id, text="no room"), now=8.0)
    asked = len(stage.process.asked)
    stage.live.poll(90.0)
    assert len(stage.process.asked) == asked and stage.live.message == "no room"


def test_a_branch_of_another_models_text_is_refused_and_the_next_text_begins_as_usual():
    stage = Stage(every=5.0)
    start_generation(stage)
    stage.says(END, now=1.0)
    of_other = replace(stage.live.recordings[0].header, model="other")
    request = Branch(id=0, tokens=[1, -1], frozen=[], prompt="", seed=7, row=0, settings={})
    stage.live.fork(Fork(Node("A", Recording(of_other)), 0, "B", request))
    stage.live.poll(2.0)
    assert stage.live.message == f"other wrote this text; {stage.live.ready.model} cannot continue it"
    stage.live.poll(7.0)
    assert isinstance(stage.process.asked[-1], Generate)


def test_a_second_branch_waits_for_the_header_of_the_first_and_a_restart_requests_a_branch_again():
    stage = Stage(every=5.0)
    start_generation(stage)
    stage.live.fork(fork_of(stage))
    stage.says(END, now=1.0)
    first = stage.process.asked[-1]
    stage.live.fork(fork_of(stage, "C"))
    stage.says(Begin(id=first.id), HEADER, STEP, END, now=2.0)
    assert stage.live.branch.name == "B"
    second = stage.process.asked[-1]
    assert isinstance(second, Branch) and second.id > first.id
    stage.live.start()
    stage.says(ready(), now=3.0)
    assert isinstance(stage.process.asked[-1], Branch)
