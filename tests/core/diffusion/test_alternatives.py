"""The likeliest tokens of masked positions: computed on request, right, and without effect on the text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.alternatives import UNKNOWN, WIDTH, likeliest
from tdiff.core.diffusion.blocks import slide
from tdiff.core.diffusion.denoise import denoise
from tdiff.protocol.detail import TOP
from tests.support.decoding import EVERY
from tests.support.oracles import TableDenoiser

torch.set_num_threads(1)


@pytest.mark.parametrize("vocabulary", [3, 8, 40])
def test_the_likeliest_tokens_their_probabilities_and_the_entropy_are_those_of_the_logits(vocabulary):
    masked = torch.tensor([[True, False, True], [False, False, True]])
    logits = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, 0] = -torch.inf
    rows = likeliest(logits, masked)
    assert rows.shape == (2, 3, WIDTH) and bool((rows[~masked] == UNKNOWN).all())
    p = logits.double().softmax(-1)
    for found, true in zip(rows[masked], p, strict=True):
        expected = sorted(true.tolist(), reverse=True)[:TOP]
        count = min(vocabulary, TOP)
        assert found[TOP : TOP + count].tolist() == pytest.approx(expected, abs=1e-6)
        assert found[TOP + count : -1].tolist() == [0.0] * (TOP - count)
        assert [float(true[int(i)]) for i in found[:count]] == pytest.approx(expected, abs=1e-6)
        entropy = -(true[1:] * true[1:].log()).sum()
        assert float(found[-1]) == pytest.approx(float(entropy), abs=1e-5)


@EVERY
def test_details_change_no_step_and_cover_exactly_the_positions_that_were_predicted(name):
    denoiser = TableDenoiser(5, 12, 0, seed=3)
    canvas = torch.zeros(2, 12, dtype=torch.int64)
    canvas[1, :4] = 1
    settings = DecodeSettings(decoder=name, steps=4, seed=2)
    for run in (
        lambda detail: denoise(denoiser, canvas, settings=settings, detail=detail),
        lambda detail: slide(denoiser, canvas, 7, 2, replace(settings, block=4), detail=detail),
    ):
        masked = canvas == 0
        for plain, step in zip(run(False), run(True), strict=True):
            assert plain.likeliest is None and step.likeliest is not None
            assert torch.equal(plain.tokens, step.tokens) and torch.equal(plain.confidence, step.confidence)
            predicted = step.likeliest[..., -1] != UNKNOWN
            assert bool((predicted <= masked).all()) and bool((step.committed <= predicted).all())
            assert bool((step.likeliest[predicted][:, TOP : 2 * TOP].sum(-1) <= 1 + 1e-6).all())
            assert bool((step.likeliest[predicted][:, -1] >= 0).all())
            masked = step.masked
