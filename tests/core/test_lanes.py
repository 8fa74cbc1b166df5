"""Several texts at once behind the pipe: each is the text that it would be alone, and texts are measured."""

from __future__ import annotations

import dataclasses

import pytest

from tdiff.core import serve
from tdiff.core.diffusion.generate import narrate
from tdiff.core.diffusion.together import in_a_batch, in_turn
from tdiff.core.models.load import load_model
from tdiff.protocol.messages import Begin, Cancel, Cancelled, Lanes, Measure, Measured, Refused
from tdiff.protocol.trace import TraceEnd, TraceStep
from tests.core.test_serve import Bench

SETTINGS = [{"decoder": "topk", "k": 4}, {"decoder": "schedule", "steps": 6}, {"decoder": "topk", "k": 0, "top_p": 9.0}]


@pytest.fixture(scope="module")
def bench(tiny_run):
    return Bench(tiny_run.path)


def by_text(said: list, first: int) -> dict[int, list]:
    """The lines of each text."""
    found: dict[int, list] = {}
    current = -1
    for one in said:
        if isinstance(one, Begin):
            current = one.id - first - 1
        else:
            found.setdefault(current, []).append(one)
    return found


def untimed(lines: list) -> list:
    return [dataclasses.replace(line, seconds=0.0) if isinstance(line, TraceEnd) else line for line in lines]


def test_texts_in_turn_are_those_that_each_setting_gives_alone_and_a_bad_one_is_refused(bench, tiny_run):
    said = bench.ask(Lanes(id=100, settings=SETTINGS, rows=[0, 0, 0], length=10, seed=3))
    assert [one.id for one in said if isinstance(one, Refused)] == [103]
    found = by_text([one for one in said if not isinstance(one, Refused)], 100)
    model = load_model(str(tiny_run.path))
    for n, options in enumerate(SETTINGS[:2]):
        prompt = found[n][0].prompt
        alone = narrate(model, prompt, model.decode_settings(serve.checked(options), 3), length=10)
        assert untimed(found[n]) == untimed(list(alone))
        assert found[n][-1].seconds > 0
    order = [n for n, line, _ in in_turn([iter(found[n]) for n in (0, 1)]) if isinstance(line, TraceStep)]
    assert order[:4] == [0, 1, 0, 1], "a call of each in turn"


def test_rows_of_a_batch_are_the_texts_that_each_row_gives_alone(bench, tiny_run):
    model = load_model(str(tiny_run.path))
    settings = model.decode_settings({"decoder": "remdm", "steps": 8}, 5)
    lanes: dict[int, list] = {}
    for n, line, _ in in_a_batch(model, "", settings, [0, 3], 10):
        lanes.setdefault(n, []).append(line)
    for n, row in enumerate((0, 3)):
        alone = untimed(list(narrate(model, "", settings, length=10, row=row)))
        together = untimed(lanes[n])
        assert together[0] == alone[0] and together[-1].text == alone[-1].text
        changes = [
            [(line.index, line.calls, n, text, event) for line in lines[1:-1] for n, text, _, _, event in line.cells]
            for lines in (together, alone)
        ]
        assert changes[0] == changes[1]


def test_a_cancelled_request_ends_and_too_many_texts_are_refused(bench):
    settings = [{"decoder": "topk", "k": 1}] * 2
    bench.then[len(bench.said) + 4] = [Cancel(id=200)]
    said = bench.ask(Lanes(id=200, settings=settings, rows=[0, 1], length=10))
    assert said[-1] == Cancelled(id=200) and len(said) < 10
    (refused,) = bench.ask(Lanes(id=300, settings=[{}] * 10, rows=[0] * 10))
    assert refused.id == 300 and "1 to 9" in refused.text


def test_real_text_is_nearer_to_the_corpus_than_noise(bench):
    (answer,) = bench.ask(Measure(id=5, prompt="", texts=["zq" * 40, "the small dog and the cat"]))
    assert isinstance(answer, Measured) and answer.distances[0] > answer.distances[1]
