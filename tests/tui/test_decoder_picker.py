"""The picker of decoders: search, options, and marks for a race."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdiff.config.decoding import DECODERS, parse_decoder
from tdiff.tui.decoder_search import matching, options_text, typed, zeros_text
from tdiff.tui.widgets.decoder_picker import DecoderPicker
from tests.support.stage import Stage, play, run_lines, run_state


def test_decoders_are_found_by_name_by_explanation_and_when_misspelt():
    assert matching(()) == sorted(DECODERS) == matching((), ["a decoder of another version"])
    assert matching(("conf",))[0] == "confidence" and "klass" in matching(("conf",))
    assert matching(("bounded",)) == ["entropy-bounded"]
    assert matching(("maskgit",)) == ["schedule"]
    assert matching(("confidense",)) == ["confidence"]
    assert matching(("conf",), ["topk", "klass"])[0] == "klass"
    assert matching(("zzzz",)) == []


def test_the_options_that_are_named_can_be_typed():
    for name in DECODERS:
        parse_decoder(f"{name} {options_text(name)}")
    line = typed("rem steps=64 eta=0.02")
    assert (line.words, line.text("remdm")) == (("rem",), "remdm steps=64 eta=0.02")
    assert line.settings("remdm") == {"decoder": "remdm", "steps": 64, "eta": 0.02}


async def opened(stage: Stage) -> DecoderPicker:
    """The picker, with a model that supports every decoder."""
    await stage.begin()
    stage.live.ready = replace(stage.live.ready, decoders=list(DECODERS))
    await stage.press("d")
    return stage.app.picker


def test_each_decoder_has_a_line_and_an_invalid_option_is_refused_in_the_box():
    async def scene(stage: Stage) -> None:
        await opened(stage)
        assert [name for name in DECODERS if f" {name} " not in stage.text()] == []
        assert "> confidence" in stage.text() and "threshold=0.7" in stage.text(), "the one in use is selected"
        stage.app.picker._line.value = "factor threshold=3"
        await stage.press("enter")
        assert stage.app.picker.display and "threshold" in stage.text() and stage.live.settings.decoder == "confidence"
        await stage.press("escape")
        assert not stage.app.picker.display and stage.app.focused.id == "generation"

    play(scene, run_state(run_lines()))


def test_at_80_columns_the_words_that_distinguish_decoders_are_shown_and_a_0_is_explained():
    async def scene(stage: Stage) -> None:
        picker = await opened(stage)
        text = stage.text()
        for words in ("lowest entropy first (Dream)", "largest lead over the second token first", "in random order"):
            assert words in text
        picker._line.value = "topk"
        await stage.settle()
        assert "k=0" in stage.text() and "0 means, k:" in stage.text()
        assert zeros_text("topk") == "0 means, k: a tenth of the length, steps: by decoder, block: one block"

    play(scene, run_state(run_lines()))


@pytest.mark.slow
def test_marks_have_letters_are_removed_again_and_need_a_second_setting():
    async def scene(stage: Stage) -> None:
        picker = await opened(stage)
        picker._line.value = "remdm steps=64"
        await stage.press("tab")
        picker._line.value = "conf"
        await stage.press("tab")
        assert picker.marked == ["remdm steps=64", "confidence"]
        assert "A remdm steps=64  B confidence" in stage.text()
        picker._line.value = "conf"
        await stage.press("tab")
        assert picker.marked == ["remdm steps=64"]
        await stage.press("escape", "d")
        assert picker.marked == []

    play(scene, run_state(run_lines()), size=(60, 15))
