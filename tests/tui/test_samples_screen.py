"""Then and now: the samples of a run over the view."""

from __future__ import annotations

import json

import pytest

from tdiff.protocol.events import Sample
from tdiff.tui.panes.details import sample_lines
from tdiff.tui.samples_screen import comparable
from tests.support.stage import NOW, Stage, golden, in_utc, play, run_lines, run_state  # noqa: F401

TEXTS = [
    "Once upon gsg the tte a the was",
    "Once upon a the there was the girl and the",
    "Once upon a time there was a girl who was in the wood.",
    "Once upon a time there was a little girl named Lily.\nShe lived near the edge of a deep green forest.",
]


def sample(step: int, text: str) -> str:
    path = f"samples/{step:08d}.jsonl"
    return json.dumps({"kind": "sample", "time": NOW, "step": step, "prompt": "Once upon", "text": text, "path": path})


def lines(*samples: tuple[int, str]) -> list[str]:
    return [line for line in run_lines() if '"sample"' not in line] + [sample(*one) for one in samples]


SAMPLES = list(zip((0, 300, 600, 900), TEXTS, strict=True))


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (40, 8)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_first_a_middle_and_the_newest_sample_are_shown_with_what_changed(size):
    async def scene(stage: Stage) -> None:
        await stage.press("S")
        golden(f"then-and-now-{size[0]}x{size[1]}", stage.text())
        await stage.press("q")
        assert len(stage.app.screen_stack) == 1

    play(scene, run_state(lines(*SAMPLES)), size=size, model=False)


def test_arrows_change_the_middle_and_new_samples_appear():
    story = run_state(lines(*SAMPLES))

    async def scene(stage: Stage) -> None:
        await stage.press("S")
        assert "step 0" in stage.text() and "step 600" in stage.text() and "newest · step 900" in stage.text()
        await stage.press("left")
        assert "step 300" in stage.text() and "step 600" not in stage.text()
        await stage.press("left", "left")
        assert "step 300" in stage.text(), "the first stays"
        story.feed([sample(1000, "Once upon a new one")])
        await stage.settle()
        assert "newest · step 1,000" in stage.text() and "step 300" in stage.text() and "a new one" in stage.text()
        await stage.pilot.resize_terminal(160, 20)
        await stage.settle()
        assert "step 300" in stage.rows()[1] and "step 1,000" in stage.rows()[1]
        await stage.pilot.resize_terminal(40, 20)
        assert "gsg" in stage.text()
        await stage.press("down")
        assert "gsg" not in stage.text()
        await stage.press("escape")
        assert len(stage.app.screen_stack) == 1

    play(scene, story, model=False)


def test_the_head_counts_the_samples_that_the_arrows_go_through():
    other = sample(450, "A fox").replace('"Once upon"', '"A"')
    story = run_state([*lines(*SAMPLES[:2]), other, *(sample(*one) for one in SAMPLES[2:])])

    async def scene(stage: Stage) -> None:
        await stage.press("S")
        assert "4 of 5 samples have this prompt · bold: new words" in stage.rows()[0]

    play(scene, story, model=False)


def test_the_sample_that_is_shown_is_the_middle_one():
    async def scene(stage: Stage) -> None:
        await stage.press("left_square_bracket", "left_square_bracket", "left_square_bracket", "S")
        assert "step 300" in stage.text() and "step 600" not in stage.text()

    play(scene, run_state(lines(*SAMPLES)), model=False)


def test_the_details_pane_dims_the_words_that_are_as_in_the_sample_before():
    rows = sample_lines(run_state(lines(*SAMPLES)), 3, 9)
    assert [text for text, style in rows[0] if style == ""] == [TEXTS[0]], "nothing is before the first one"
    assert [text.strip() for text, style in rows[1][1:] if style == ""] == ["there", "the girl and the"]
    assert ("Once upon a the ", "dim") in rows[1] and rows[3][0] == ("     900▸ ", "bold")
    assert "".join(text for text, _ in rows[3][1:]) == " ".join(TEXTS[3].split())
    assert any(style == "bold" for _, style in rows[3][1:])


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_samples_are_shown_as_many_as_there_are(count):
    async def scene(stage: Stage) -> None:
        await stage.press("S", "left", "right")
        assert ("newest" in stage.text()) is (count == 2) and "first · step 0" in stage.text()

    play(scene, run_state(lines(*SAMPLES[:count])), model=False)


def test_without_samples_a_notice_says_so():
    async def scene(stage: Stage) -> None:
        await stage.press("S")
        assert "no samples yet" in stage.text() and len(stage.app.screen_stack) == 1

    play(scene, run_state(lines()), model=False)
    play(scene, model=False)


def test_only_samples_with_the_prompt_of_the_newest_are_compared():
    def of(prompt: str, step: int) -> Sample:
        return Sample(time=NOW, step=step, prompt=prompt, text=f"{prompt} {step}", path="")

    mixed = [of("Once", 1), of("The King", 2), of("Once", 3), of("A fox", 4), of("Once", 5)]
    assert [one.step for one in comparable(mixed)] == [1, 3, 5]
    assert comparable(mixed[:4]) == mixed[:4], "the newest has a prompt of its own: there is nothing better"
    assert comparable([]) == []


def test_the_share_of_words_as_before_is_shown_at_120_columns():
    async def scene(stage: Stage) -> None:
        await stage.press("S")
        title = stage.rows()[1]
        assert title.count("%") == 2 and "step 600" in title and "newest · step 900" in title, title

    play(scene, run_state(lines(*SAMPLES)), size=(120, 36), model=False)
