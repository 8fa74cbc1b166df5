"""What a restart discarded is drawn faintly, marked and listed, and can be hidden."""

import pytest

from tdiff.tui.panes.attempts import attempt_curves
from tests.support.fed import FedState
from tests.support.stage import Stage, play


def restarted() -> FedState:
    """A job that was started again at step 500, from which the first attempt rose."""
    run = FedState("job")
    first = [f"step {n}/2000 loss {1 + 400 / (100 + n) + max(0, n - 500) / 100:.4f}" for n in range(1, 1001)]
    run.feed([*first, *(f"step {n}/2000 loss {1 + 400 / (100 + n):.4f}" for n in range(500, 700))])
    return run


@pytest.mark.parametrize("colour", ["256", "16", "none"])
def test_the_discarded_part_is_drawn_until_a_key_hides_it(colour):
    async def scene(stage: Stage) -> None:
        pane = stage.app.training
        assert "restart at step 500, after step 1,000 at loss 6.364" in stage.rows()[-2]
        assert "[!]" not in stage.rows()[-2], "a restart is no problem"
        assert [x for x, _ in pane._drawn_view().marks] == [500]
        with_it = stage.text()
        assert pane._layout(pane._curves()).x.high == 1000
        await stage.press("E")
        assert pane._layout(pane._curves()).x.high == 699
        without = stage.text()
        assert without != with_it
        await stage.press("E")
        assert pane._layout(pane._curves()).x.high == 1000

    play(scene, restarted(), size=(100, 24), model=False, colour=colour)


def test_cursor_and_figures_are_those_of_the_present_attempt():
    async def scene(stage: Stage) -> None:
        await stage.press("left")
        text = stage.text()
        assert "attempt" not in text.split("restarted")[0]
        assert "train 1.501" in text

    play(scene, restarted(), size=(100, 24), model=False)


def test_attempts_have_their_own_clock():
    run = FedState("dated")
    lines = [f'{{"step": {n}, "loss": 2.0, "time": {1.7e9 + n}}}' for n in range(1, 101)]
    run.feed([*lines, *(f'{{"step": {n}, "loss": 1.5, "time": {1.7e9 + 500 + n}}}' for n in range(50, 80))])
    [by_step] = attempt_curves([run], "train/loss", "step", ["red"])
    [by_time] = attempt_curves([run], "train/loss", "time", ["red"])
    assert (by_step.x(100), by_time.x(100), by_time.label) == (100, 99, "attempt 1")
    assert attempt_curves([run], "eval/loss", "step", ["red"]) == []
