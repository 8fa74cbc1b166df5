"""Two models side by side: the requests to each, and their times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdiff.protocol.messages import Begin, Cancel, Cancelled, Generate, Refused
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.generation.session import Live
from tests.watch.generation.test_session import END, HEADER, STEP, Process, ready

AUTOREGRESSIVE = {"decoder": "autoregressive", "temperature": 0.7}
ITS_OWN_WAY = "writes from left to right, which is --decoder autoregressive; got topk"


class Stage:
    """Two live generations and the processes that they have started."""

    def __init__(self, **options) -> None:
        self.processes: list[Process] = []
        self.one, self.other = (Live(self._start, name, seed=7, **options) for name in ("one", "other"))
        self.pair = ModelPair(self.one, self.other)
        self.pair.start()

    def _start(self, model: str) -> Process:
        self.processes.append(Process(model))
        return self.processes[-1]

    def of(self, live: Live) -> Process:
        return [process for process in self.processes if process.model == live.model][-1]

    def says(self, live: Live, *answers, now: float = 0.0) -> None:
        self.of(live).says += answers
        self.pair.poll(now)

    def asked(self, live: Live) -> list[Generate]:
        return [request for request in self.of(live).asked if isinstance(request, Generate)]

    def begins(self, live: Live, *, now: float = 0.0, prompt: str = "", cells: int = 2) -> Generate:
        """It begins the text that it was asked for last, with a header of its own."""
        last = self.asked(live)[-1]
        header = replace(HEADER, row=last.row, prompt=prompt if last.prompt is None else last.prompt, cells=cells)
        self.says(live, Begin(id=last.id), header, STEP, now=now)
        return last

    def both_write(self, now: float) -> None:
        """Both begin and end the text of now."""
        self.begins(self.one, now=now)
        self.begins(self.other, now=now)
        self.says(self.one, END, now=now)
        self.says(self.other, END, now=now)


def both_ready(stage: Stage, **more) -> None:
    stage.says(stage.one, ready())
    stage.says(stage.other, ready(**more))


def keys(request: Generate) -> tuple:
    return request.prompt, request.seed, request.row, request.length


def test_second_model_gets_the_default_prompt_and_length_of_the_first():
    stage = Stage()
    both_ready(stage)
    assert keys(stage.asked(stage.one)[0]) == (None, 7, 0, 0)
    assert stage.asked(stage.other) == []
    assert stage.pair.waits(stage.other)
    stage.begins(stage.one, prompt="Once ", cells=9)
    assert keys(stage.asked(stage.other)[0]) == ("Once ", 7, 0, 9)
    assert not stage.pair.waits(stage.other)


def test_with_prompt_and_length_each_model_starts_when_it_is_ready():
    stage = Stage(prompt="so", length=4)
    stage.says(stage.other, ready())
    assert keys(stage.asked(stage.other)[0]) == ("so", 7, 0, 4)
    assert stage.asked(stage.one) == []
    stage.says(stage.one, ready())
    assert keys(stage.asked(stage.one)[0]) == ("so", 7, 0, 4)


def test_next_row_begins_after_both_finished_and_the_later_pause_is_over():
    stage = Stage(every=5.0)
    both_ready(stage)
    stage.begins(stage.one)
    stage.begins(stage.other)
    stage.says(stage.one, END, now=1.0)
    stage.pair.poll(8.0)
    assert len(stage.asked(stage.one)) == 1, "the other still writes"
    assert stage.pair.waits(stage.one)
    stage.says(stage.other, END, now=9.0)
    assert not stage.pair.waits(stage.one)
    assert stage.pair.remaining(stage.one, 10.0) == pytest.approx(4.0)
    stage.pair.poll(13.9)
    assert len(stage.asked(stage.one)) == len(stage.asked(stage.other)) == 1
    stage.pair.poll(14.0)
    assert [request.row for request in stage.asked(stage.one)] == [0, 1]
    stage.begins(stage.one, now=14.0, prompt="Then ")
    assert [request.row for request in stage.asked(stage.other)] == [0, 1]
    assert stage.asked(stage.other)[1].prompt == "Then "


def test_edited_prompt_cancels_both_texts_and_goes_to_both_models():
    stage = Stage()
    both_ready(stage)
    running = [stage.begins(stage.one).id, stage.begins(stage.other).id]
    stage.pair.set_prompt("Ho")
    for live, number in zip(stage.pair.lives, running, strict=True):
        assert stage.of(live).asked[-1] == Cancel(id=number)
        stage.says(live, Cancelled(id=number), now=0.1)
    stage.begins(stage.one, now=0.2)
    assert [stage.asked(live)[-1].prompt for live in stage.pair.lives] == ["Ho", "Ho"]
    assert stage.asked(stage.one)[-1].row == stage.asked(stage.other)[-1].row == 1


def test_prompt_refused_by_one_model_is_reverted_for_both():
    stage = Stage(prompt="so", length=2)
    both_ready(stage)
    stage.both_write(0.0)
    stage.pair.set_prompt("é")
    stage.pair.poll(1.0)
    stage.begins(stage.one, now=1.0)
    stage.says(stage.other, Refused(id=stage.asked(stage.other)[-1].id, text="no é here"), now=1.1)
    stage.pair.poll(1.2)
    assert [stage.asked(live)[-1].prompt for live in stage.pair.lives] == ["so", "so"]
    assert stage.asked(stage.one)[-1].row == stage.asked(stage.other)[-1].row
    assert "no é here" in stage.other.message and not stage.one.message


def test_default_prompt_refused_by_the_second_does_not_block_the_first():
    stage = Stage(every=1.0)
    both_ready(stage)
    stage.begins(stage.one, prompt="né ")
    stage.says(stage.other, Refused(id=stage.asked(stage.other)[-1].id, text="no é here"), now=0.5)
    stage.says(stage.one, END, now=1.0)
    stage.pair.poll(2.0)
    assert stage.asked(stage.one)[-1].row == 1
    assert [request.row for request in stage.asked(stage.other)] == [0]
    stage.begins(stage.one, now=2.1, prompt="Nay, ")
    assert keys(stage.asked(stage.other)[-1])[:3] == ("Nay, ", 7, 1)
    stage.begins(stage.other, now=2.2)
    assert not stage.other.refused


@pytest.mark.parametrize(("dies", "goes_on"), [("one", "other"), ("other", "one")])
def test_when_one_process_dies_the_other_continues_and_a_restarted_one_rejoins(dies, goes_on):
    stage = Stage(every=1.0, prompt="so", length=2)
    dead, alive = getattr(stage, dies), getattr(stage, goes_on)
    both_ready(stage)
    stage.begins(stage.one)
    stage.begins(stage.other)
    stage.of(dead).reason = "killed by signal 9"
    stage.says(alive, END, now=1.0)
    stage.pair.poll(2.0)
    assert (dead.state, alive.state) == ("dead", "generating")
    assert "killed by signal 9" in dead.message and not alive.message
    assert stage.asked(alive)[-1].row == 1
    stage.pair.restart(alive)
    assert alive.state == "generating", "only what is dead is started again"
    stage.begins(alive, now=2.1)
    stage.says(dead, ready(), now=2.2)
    assert stage.asked(dead)[-1].row == 1


def test_second_model_uses_its_default_prompts_when_the_first_is_dead():
    stage = Stage()
    stage.says(stage.other, ready())
    assert stage.asked(stage.other) == []
    stage.of(stage.one).reason = "exit 1"
    stage.pair.poll(1.0)
    assert stage.asked(stage.other)[-1].prompt is None


def autoregressive(**options) -> Stage:
    """The second writes from left to right, and refuses what it was first asked for."""
    stage = Stage(prompt="so", length=2, **options)
    both_ready(stage, decoding=AUTOREGRESSIVE)
    stage.says(stage.other, Refused(id=stage.asked(stage.other)[-1].id, text=ITS_OWN_WAY), now=1.0)
    return stage


def test_autoregressive_model_that_refuses_the_decoder_uses_its_own():
    stage = autoregressive(options={"decoder": "topk", "k": 3, "temperature": 0.5})
    assert [request.settings for request in stage.asked(stage.one)] == [{"decoder": "topk", "k": 3, "temperature": 0.5}]
    assert stage.asked(stage.other)[-1].settings == {"temperature": 0.5}
    assert stage.other.settings.decoder == "autoregressive"
    stage.begins(stage.other, now=1.1)
    assert not stage.other.refused
    stage.pair.poll(20.0)
    assert stage.other.message == ""


def test_refused_prompt_does_not_change_the_decoder():
    stage = Stage(prompt="é", length=2, options={"decoder": "topk"})
    both_ready(stage)
    stage.says(stage.other, Refused(id=stage.asked(stage.other)[-1].id, text="no é here"))
    stage.pair.set_prompt("so")
    stage.pair.poll(1.0)
    assert stage.asked(stage.other)[-1].settings == {"decoder": "topk"}


@pytest.mark.parametrize("options", [{"steps": 5}, {"decoder": "autoregressive", "steps": 5}])
def test_refusal_keeps_options_that_do_not_override_the_decoder(options):
    stage = autoregressive(options=options)
    assert stage.other.refused
    stage.other.retry()
    stage.pair.poll(1.0)
    assert stage.asked(stage.other)[-1].settings == options


def test_single_model_does_not_fall_back_to_its_own_decoder():
    live = Live(Process, "gpt", seed=7, options={"decoder": "topk"})
    pair = ModelPair(live)
    pair.start()
    live._process.says.append(ready(decoding=AUTOREGRESSIVE))
    pair.poll(0.0)
    live._process.says.append(Refused(id=1, text=ITS_OWN_WAY))
    pair.poll(1.0)
    assert live.message == ITS_OWN_WAY and live.refused


def test_changed_decoder_repeats_the_row_while_the_other_continues():
    stage = Stage(every=5.0)
    both_ready(stage)
    first = stage.begins(stage.one, prompt="Once ")
    second = stage.begins(stage.other)
    assert stage.one.choose_decoder({"decoder": "topk"}) == "topk"
    stage.says(stage.one, Cancelled(id=first.id), now=1.0)
    again = stage.asked(stage.one)[-1]
    assert (again.row, again.prompt, again.settings) == (0, "Once ", {"decoder": "topk"})
    assert stage.asked(stage.other) == [second]
    stage.says(stage.other, END, now=2.0)
    stage.begins(stage.one, now=2.1)
    stage.pair.poll(8.0)
    assert stage.asked(stage.other) == [second], "it waits until the first has repeated that row"
    stage.says(stage.one, END, now=8.0)
    stage.pair.poll(13.0)
    assert stage.asked(stage.one)[-1].row == 1


def test_decoder_changed_in_the_pause_repeats_the_row():
    stage = Stage(every=5.0)
    both_ready(stage)
    stage.both_write(1.0)
    stage.one.choose_decoder({"decoder": "topk"})
    stage.pair.poll(2.0)
    assert [request.row for request in stage.asked(stage.one)] == [0, 0]
    stage.pair.poll(7.0)
    assert len(stage.asked(stage.other)) == 1


def test_new_text_is_a_new_row_for_both():
    stage = Stage()
    both_ready(stage)
    stage.begins(stage.one)
    stage.begins(stage.other)
    stage.pair.new_text()
    stage.pair.poll(1.0)
    stage.begins(stage.one, now=1.0)
    assert stage.asked(stage.one)[-1].row == stage.asked(stage.other)[-1].row == 1


def test_no_text_begins_while_resting():
    stage = Stage(every=1.0)
    both_ready(stage)
    stage.both_write(0.0)
    stage.pair.rest(True)
    stage.pair.poll(9.0)
    assert [len(stage.asked(live)) for live in stage.pair.lives] == [1, 1]
    stage.pair.rest(False)
    stage.pair.poll(9.1)
    assert len(stage.asked(stage.one)) == 2


def test_rows_stay_in_step_whichever_model_is_slower():
    stage = Stage(every=1.0)
    both_ready(stage)
    now = 0.0
    for n in range(12):
        slow, fast = (stage.one, stage.other) if n % 2 else (stage.other, stage.one)
        stage.begins(stage.one, now=now, prompt=f"{n} ")
        stage.begins(stage.other, now=now)
        stage.says(fast, END, now=now + 1)
        stage.says(slow, END, now=now + 5)
        now += 6
        stage.pair.poll(now)
    one, other = stage.asked(stage.one), stage.asked(stage.other)
    assert [request.row for request in one][:12] == [request.row for request in other][:12] == list(range(12))
    assert [request.prompt for request in other][:12] == [f"{n} " for n in range(12)]


def test_empty_pair_does_nothing():
    pair = ModelPair()
    pair.start()
    pair.poll(0.0)
    pair.rest(True)
    pair.close()
    assert not pair and not pair.busy and not pair.started


def test_close_ends_both_processes():
    stage = Stage()
    stage.pair.close()
    assert all(process.closed for process in stage.processes)
