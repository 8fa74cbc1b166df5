"""Several texts at once behind the pipe: each is the text that it would be alone, and texts are measured."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from tdiff.core import serve
from tdiff.core.diffusion.generate import narrate
from tdiff.core.diffusion.together import in_a_batch, in_turn
from tdiff.core.evaluation import own_bound
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tdiff.protocol.messages import Begin, Cancel, Cancelled, Lanes, Measure, Measured, Refused
from tdiff.protocol.trace import TraceEnd, TraceStep
from tdiff.runs.model_facts import facts
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


def test_rows_of_a_batch_have_the_predictions_that_each_row_has_alone(bench, tiny_run):
    settings = [{"decoder": "topk", "k": 2}] * 2
    said = bench.ask(Lanes(id=400, settings=settings, rows=[0, 3], length=10, prompt="the ", detail=True))
    found = by_text(said, 400)
    model = load_model(str(tiny_run.path))
    for n, row in enumerate((0, 3)):
        alone = narrate(
            model, "the ", model.decode_settings(settings[n], 0), length=10, row=row, detail=True, live=True
        )
        steps = [line for line in alone if isinstance(line, TraceStep)]
        assert [line.detail for line in found[n] if isinstance(line, TraceStep)] == [line.detail for line in steps]
        assert steps[0].detail


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


def without_corpus(tiny_run, tmp_path, monkeypatch):
    """A copy of a run whose training text is not on this machine, and nothing beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run.path, tmp_path / "checkpoints" / "tiny")
    config = tmp_path / "checkpoints" / "tiny" / "model" / "config.json"
    origin = json.loads(config.read_text())
    origin["origin"]["sources"] = ["gone/train.txt"]
    config.write_text(json.dumps(origin))
    return config.parents[1]


def bounds_of(model, prompt: str, texts: list[str]) -> list[tuple[float, float]]:
    """What the model's own bound measures, to its end."""
    work = own_bound.bounds(model, prompt, texts)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def test_without_the_corpus_the_model_decides_by_its_own_bound_on_real_text(tiny_run, tmp_path, monkeypatch):
    run = without_corpus(tiny_run, tmp_path, monkeypatch)
    bench = Bench(run)
    real = facts(run / "model").bound
    texts = ["the hhw wwhl rrhw wwww", "the wolf runs over the hill"]
    (answer,) = bench.ask(Measure(id=5, prompt="the ", texts=texts))
    assert isinstance(answer, Measured), answer
    assert (answer.model, answer.corpus, answer.words) == (bench.server._model.name, "", [])
    assert answer.real == [pytest.approx(real, abs=1e-4)]
    found = bounds_of(bench.server._model, "the ", texts)
    assert answer.nats == pytest.approx([nats for nats, _ in found], abs=1e-4)
    least = max(own_bound.LEAST_DIFFERENCE, *(half for _, half in found))
    assert answer.distances == pytest.approx([abs(nats - real) / least for nats in answer.nats], abs=2e-3)


def test_a_measurement_by_a_bound_ends_when_another_request_comes(tiny_run, tmp_path, monkeypatch):
    bench = Bench(without_corpus(tiny_run, tmp_path, monkeypatch))
    said = bench.ask(Measure(id=5, prompt="", texts=["the wolf runs over the hill "] * 3), Cancel(id=5))
    assert said == [Cancelled(id=5)]


def test_what_reads_best_is_nearest_to_real_text_and_not_the_lowest_bound():
    near, loop, noise = own_bound.distances(1.2, [(1.3, 0.01), (0.4, 0.01), (3.0, 0.01)])
    assert near < loop < noise and near == pytest.approx(2)
    assert own_bound.distances(1.2, [(1.3, 0.2), (1.2, 0.0)])[0] == pytest.approx(0.5), "within the error"


def test_the_prompt_is_not_scored_and_a_text_longer_than_the_context_is(tiny_run):
    model = load_model(str(tiny_run.path))
    [(alone, _), (together, _)] = bounds_of(model, "hhwwhhww", ["hhwwhhww the wolf", "hhwwhhww the wolf"])
    assert alone == together
    [(whole, _)] = bounds_of(model, "", ["hhwwhhww the wolf"])
    assert whole > alone, "the prompt is less likely than what follows it"
    [(long, half)] = bounds_of(model, "the ", ["the wolf runs over the hill " * 4])
    assert 0 < long < 6 and half > 0


def test_a_text_that_the_vocabulary_cannot_express_is_refused_in_one_short_line(tiny_run):
    model = load_model(str(tiny_run.path))
    with pytest.raises(TdiffError, match=r"^tiny has no token for a character of a text$"):
        bounds_of(model, "", ["the 😀"])


def test_without_corpus_and_bound_one_short_line_says_so(tiny_run, tmp_path, monkeypatch):
    run = without_corpus(tiny_run, tmp_path, monkeypatch)
    (run / "events.jsonl").unlink()
    (refused,) = Bench(run).ask(Measure(id=5, prompt="", texts=["the cat", "the dog"]))
    assert isinstance(refused, Refused) and len(f" no winner: {refused.text}") <= 80
