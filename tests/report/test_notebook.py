"""The player of a notebook."""

import dataclasses
import html
import json
import re

import pytest

import tdiff
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import canvas
from tdiff.errors import TdiffError


@pytest.mark.parametrize("decoder", ["topk", "remdm"])
def test_player_has_the_steps_and_ends_in_the_text(decoder, tiny_run):
    model = tdiff.load_model(str(tiny_run.path))
    settings = DecodeSettings(decoder=decoder, seed=1)
    steps = list(tdiff.denoise(model.network, canvas(model, ["the ", "and "]), settings=settings))
    player = tdiff.show(iter(steps), model, row=1)
    last = player.recording.canvas(player.recording.steps)
    assert "".join(last.texts) == model.tokenizer.decode(steps[-1].tokens[1])
    assert last.left == 0 and player.recording.steps == sum(
        bool(step.committed[1].any() or step.remasked[1].any()) for step in steps
    )
    [page] = re.findall(r'srcdoc="([^"]*)"', player._repr_html_())
    data = json.loads(re.search(r'id="data">(.*?)</script>', html.unescape(page), re.DOTALL)[1])
    assert [text for _, text in data["recordings"][0]["given"]] == list("and ")


def test_no_steps_are_refused(tiny_run):
    with pytest.raises(TdiffError, match="no steps to show"):
        tdiff.show(iter(()), tdiff.load_model(str(tiny_run.path)))


def test_steps_alone_are_enough_and_the_footer_names_model_decoder_and_seed(tiny_run):
    model = tdiff.load_model(str(tiny_run.path))
    settings = DecodeSettings(decoder="topk", k=3, seed=5)
    start = canvas(model, ["the "])
    steps = list(tdiff.denoise(model.network, start, settings=settings))
    player = tdiff.show(steps)
    assert "".join(player.recording.canvas(player.recording.steps).texts) == model.tokenizer.decode(steps[-1].tokens[0])
    footer = re.search(r'class="footer">(.*?)</p>', player.html())[1]
    assert model.name in footer and "top 3" in footer and "seed 5" in footer
    blocks = tdiff.denoise(model.network, start, settings=DecodeSettings(decoder="confidence"))
    assert "conf" in tdiff.show(blocks).html()
    other = [dataclasses.replace(step, made_by=None) for step in steps]
    with pytest.raises(TdiffError, match=r"show\(steps, model\)"):
        tdiff.show(other)
    assert tdiff.show(other, model).recording.steps == player.recording.steps
