"""Live predictions: what is requested and answered, how it is drawn, and the view that shows it."""

import asyncio
import json
from dataclasses import replace

import pytest

from tdiff.draw import classification
from tdiff.draw.palettes import Theme
from tdiff.draw.predictions import reliability, shaded, strongest, words
from tdiff.draw.render import plain
from tdiff.protocol.messages import (
    Cancel,
    Cancelled,
    Classify,
    Ready,
    Refused,
    Scores,
    parse_answer,
    parse_request,
    to_line,
)
from tdiff.protocol.prediction import Contribution, PredictionRound
from tdiff.terminal import detect
from tdiff.tui.classify_app import ClassifyApp
from tdiff.watch.generation.live_prediction import LivePrediction
from tests.core.test_serve import Bench
from tests.support.classifying import model as model
from tests.support.stage import golden

HOSTILE = "\x1b[2Jred \u202eevil [bold]"


def standing(id: int = 1, draws: int = 4, p: float = 0.7, **more) -> Scores:
    values = {
        "interval": [p - 0.05, p + 0.05],
        "sure": False,
        "final": False,
        "words": [["great", 1.5], [" film", -0.5]],
    }
    return Scores(id=id, classes=["good", "bad"], posterior=[p, 1 - p], draws=draws, **values | more)


READY = Ready(
    model="kinds", window=16, device="cpu", threads=1, vocabulary=30, step=60, weights=0.0, decoders=["confidence"]
)


class Process:
    """The model's process, whose answers are the test's."""

    reason = None

    def __init__(self) -> None:
        self.asked, self.answers, self.alive, self.closed, self.halted = [], [READY], True, False, False

    def take(self) -> list:
        answers, self.answers = self.answers, []
        return answers

    def send(self, request) -> bool:
        self.asked.append(request)
        return True

    def halt(self) -> None:
        self.halted = True

    def resume(self) -> None:
        self.halted = False

    def close(self) -> None:
        self.closed = True


def test_suspended_view_halts_the_process_until_the_next_poll():
    process = Process()
    prediction = LivePrediction(lambda: process, ["a text"], seed=0)
    prediction.halt()  # nothing is started yet
    prediction.start()
    prediction.halt()
    assert process.halted
    prediction.poll(1.0)
    assert not process.halted


def test_server_classifies_a_text_round_by_round(model):
    bench = Bench(model)
    said = bench.ask(Classify(id=7, text="warm gold sun over hill", draws=12, confidence=1.0))
    assert [type(one) for one in said] == [Scores] * 6
    assert [one.draws for one in said] == list(range(2, 13, 2))
    assert [one.final for one in said] == [False] * 5 + [True]
    assert said[-1].classes == ["bad", "good"] and said[-1].posterior[1] > 0.5
    assert "".join(text for text, _ in said[-1].words) == "warm gold sun over hill"
    for one in said:
        assert parse_answer(to_line(one)) == replace(one, words=[list(word) for word in one.words])
    assert parse_request(to_line(Classify(id=1, text="x"))) == Classify(id=1, text="x")


def test_new_request_ends_classification_and_invalid_text_is_refused(model, tiny_run):
    bench = Bench(model)
    bench.then[2] = [Cancel(id=3)]
    said = bench.ask(Classify(id=3, text="warm gold", confidence=1.0))
    assert [type(one) for one in said] == [Scores, Cancelled]
    for wrong, says in (
        (Classify(id=4, text=" "), "the text is empty"),
        (Classify(id=4, text="a Z"), "'Z'"),
        (Classify(id=4, text="warm", confidence=0.1), "confidence must lie between"),
    ):
        [refused] = bench.ask(wrong)
        assert isinstance(refused, Refused) and refused.id == 4 and says in refused.text
    [refused] = Bench(tiny_run.path).ask(Classify(id=1, text="x"))
    assert "has no classes" in refused.text


@pytest.mark.parametrize(
    "broken",
    [
        {"posterior": [0.5]}, {"posterior": [0.5, 2.0]}, {"interval": [0.1]}, {"classes": ["a", 3]},
        {"words": [["a"]]}, {"words": [["a", "b"]]}, {"posterior": [0.5, None]},
    ],
)  # fmt: skip
def test_invalid_scores_are_not_parsed(broken):
    line = json.loads(to_line(standing())) | broken
    assert parse_answer(json.dumps(line)) is None


def test_live_prediction_requests_its_texts_in_turn():
    process = Process()
    prediction = LivePrediction(lambda: process, ["one", "two"], seed=5)
    assert prediction.state == "off" and not prediction.poll(0.0)
    prediction.start()
    assert prediction.state == "loading"
    prediction.poll(1.0)
    assert process.asked == [Classify(id=1, text="one", seed=5)]
    process.answers = [standing(), standing(id=99), standing(draws=8, final=True, sure=True)]
    assert prediction.poll(2.0)
    assert [one.draws for one in prediction.rounds] == [4, 8]
    assert (prediction.state, prediction.seconds) == ("done", 1.0)
    prediction.move(1)
    prediction.poll(3.0)
    process.answers = [standing()]  # of the text before: too late
    prediction.poll(3.5)
    assert prediction.rounds == [] and process.asked[-1] == Classify(id=2, text="two", seed=5)
    process.answers = [Refused(id=2, text="no")]
    prediction.poll(4.0)
    assert (prediction.state, prediction.message) == ("refused", "no")
    prediction.next_seed()
    prediction.poll(5.0)
    assert process.asked[-1] == Classify(id=3, text="two", seed=6)
    process.alive, process.reason = False, "killed"
    prediction.poll(6.0)
    assert prediction.state == "dead" and "killed" in prediction.message


ROUNDS = [
    PredictionRound(4, (0.55, 0.45), (0.3, 0.8), False, False),
    PredictionRound(8, (0.8, 0.2), (0.7, 0.9), False, False),
    PredictionRound(12, (0.97, 0.03), (0.93, 0.99), True, True),
]
PARTS = [
    Contribution("A", 0.1),
    Contribution(" great", 1.5),
    Contribution(" film", 0.2),
    Contribution(" but", -0.9),
    Contribution(" long", -0.3),
]


THEMES = {"utf8": Theme(), "ascii": Theme(glyphs="ascii", colour="none", utf8=False)}


@pytest.mark.parametrize(("name", "theme"), THEMES.items())
def test_live_prediction_is_drawn_at_all_sizes(name, theme):
    drawn = []
    for size in ((80, 22), (60, 13), (40, 6)):
        lines = classification.view(
            ["good", "bad"], ROUNDS, PARTS, max_draws=64, seconds=1.25, size=size, top=0, theme=theme
        )
        assert len(lines) <= size[1]
        drawn.append(plain(lines))
        assert name == "utf8" or drawn[-1].isascii()
    golden(f"classify_{name}", "\n----\n".join(drawn))
    assert classification.view([], [], PARTS, max_draws=64, seconds=0.0, size=(40, 6), top=0, theme=theme)
    for width in range(1, 90, 7):
        for height in range(1, 30):
            lines = classification.view(
                ["good", "bad"], ROUNDS, PARTS, max_draws=64, seconds=0, size=(width, height), top=9, theme=theme
            )
            assert len(lines) <= height


def test_words_are_coloured_by_their_contribution():
    styles = {text.strip(): style for text, style in shaded(PARTS, Theme()) if text.strip()}
    assert styles["great"] != "" and styles["but"] != "" and styles["great"] != styles["but"]
    assert styles["A"] == ""
    assert [part.text for part in strongest(PARTS)[0]][:1] == [" great"]
    pieces = [
        Contribution("gr", 1.0),
        Contribution("eat", 0.5),
        Contribution(" ", 0.1),
        Contribution("film", 1.0),
        Contribution("\n", 0.0),
        Contribution("x", 1.0),
    ]
    whole = words(pieces)
    assert [part.text for part in whole] == ["great", " film", "\nx"]
    assert sum(part.nats for part in whole) == pytest.approx(sum(part.nats for part in pieces))


def test_the_reliability_picture():
    bins = [(0.55, 0.5, 20), (0.75, 0.8, 40), (0.95, 0.97, 200), (0.2, 0.0, 0)]
    golden("reliability", plain(reliability(bins)))
    assert plain(reliability(bins, ascii=True)).isascii()


def played(prediction: LivePrediction, *keys: str, size: tuple[int, int] = (80, 24)) -> list[str]:
    """The screen after each key."""
    app, shots = ClassifyApp(prediction, detect.detect({"TERM": "xterm-256color"}, encoding="utf-8", tty=True)), []

    async def play() -> None:
        async with app.run_test(size=size) as pilot:
            for key in keys:
                await pilot.press(*([key] if key else []))
                await pilot.pause(0.2)
                shots.append("\n".join("".join(text for text, _ in app._body.line(y)) for y in range(size[1] - 2)))
            top = "".join(text for text, _ in app._top.line(0))
            shots.append(top)

    asyncio.run(play())
    return shots


def test_classify_view_responds_to_keys():
    process = Process()
    process.answers.append(standing(draws=4))
    prediction = LivePrediction(lambda: process, ["great film " * 3, HOSTILE])
    original = process.send

    def answering(request) -> bool:
        process.answers.append(standing(id=request.id, draws=8, final=True, sure=True, words=[[request.text, 1.0]]))
        return original(request)

    process.send = answering
    first, second, back, top = played(prediction, "", "n", "p")
    assert "good" in first and "70.0%" in first and "decided" in first and "great film" in first
    assert "\x1b" not in second and "\u202e" not in second and "[bold]" in second
    assert first.split("s\n")[-1] == back.split("s\n")[-1]
    assert "kinds" in top and "text 1 of 2" in top
    assert process.closed
