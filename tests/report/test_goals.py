"""What a snapshot says of a target and of several runs."""

import pytest

from tdiff.report.goals import goal_lines, goals
from tests.support.fed import FedState


def run(name: str, first: float, last: int = 8):
    state = FedState(name)
    state.feed([f"step {10 * n} loss {first - n / 10:.2f} val_loss {first - n / 20:.2f}" for n in range(1, last + 1)])
    return state


def test_each_run_says_when_it_reaches_a_target():
    runs = [run("a", 5), run("b", 6)]
    assert [goal["target"]["reached"] for goal in goals(runs, 4.81, 0.6)] == [True, False]
    lines = list(goal_lines(runs, 4.81, 0.6))
    assert lines[0] == "a: target 4.81: reached at step 40"
    assert lines[1].startswith("b: target 4.81: about step ")
    assert list(goal_lines(runs[:1], None, 0.6)) == []


def test_runs_are_compared_at_the_newest_step_that_both_have():
    data = goals([run("a", 5), run("b", 6, last=5)], None, 0.0)
    assert "difference" not in data[0] and "target" not in data[0]
    assert data[1]["difference"]["eval/loss"] == {"step": 50, "value": pytest.approx(1)}
    lines = list(goal_lines([run("a", 5), run("b", 6, last=5)], None, 0.0))
    assert lines == ["b: loss +1 from a at step 50", "b: validation loss +1 from a at step 50"]
