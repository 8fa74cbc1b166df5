"""Proposed tokens: temperature, truncation, the repetition penalty, and c."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.decoders import propose
from tdiff.core.diffusion.repetition import penalised, repeated
from tests.support import oracles
from tests.support.decoding import CHI_SQUARE, every_place_alike, texts

torch.set_num_threads(1)


def tables(count: int, vocab: int, seed: int) -> torch.Tensor:
    draw = random.Random(seed)
    return torch.tensor([[draw.gauss(0, 2) for _ in range(vocab)] for _ in range(count)])


def draws(count: int, seed: int) -> torch.Tensor:
    return noise.uniform(seed, 1, 0, torch.tensor([0]), torch.arange(count))


@pytest.mark.parametrize("top_k", [0, 1, 3, 50])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.4, 0.0])
@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0, 3.0])
def test_propose_agrees_with_its_oracle(top_k, top_p, temperature):
    logits, u = tables(300, 7, seed=5), draws(300, seed=6)
    logits[::3, 2] = -math.inf
    settings = DecodeSettings(temperature=temperature, top_k=top_k, top_p=top_p)
    token, c = propose(logits, settings, u if temperature else None)
    for n in range(300):
        expected, p = oracles.propose(logits[n].tolist(), temperature, top_k, top_p, u[n].item())
        assert token[n].item() == expected
        assert c[n].item() == pytest.approx(p, rel=1e-4, abs=1e-7)


def test_greedy_proposes_the_likeliest_token_and_its_probability_and_the_first_of_equals():
    logits = torch.tensor([[0.0, 2.0, 1.0], [1.0, 3.0, 3.0], [-math.inf, 0.0, -math.inf]])
    token, c = propose(logits, DecodeSettings(), None)
    assert token.tolist() == [1, 1, 1]
    assert c.tolist() == pytest.approx(
        [math.e**2 / (1 + math.e + math.e**2), math.e**3 / (math.e + 2 * math.e**3), 1.0]
    )


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 5e-324])
def test_a_temperature_next_to_0_is_greedy(temperature):
    logits = tables(500, 9, seed=7)
    token, c = propose(logits, DecodeSettings(temperature=temperature), draws(500, seed=8))
    greedy, p1 = propose(logits, DecodeSettings(), None)
    assert token.tolist() == greedy.tolist()
    torch.testing.assert_close(c, p1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_tokens_have_the_frequencies_of_the_model_at_that_temperature(temperature):
    count, logits = 20_000, [0.3, -math.inf, 1.2, -0.7, 0.0, -1.5]
    token, _ = propose(
        torch.tensor(logits).expand(count, -1),
        DecodeSettings(temperature=temperature),
        draws(count, seed=int(10 * temperature)),
    )
    expected = [count * p for p in oracles.softmax([x / temperature for x in logits])]
    counts = torch.bincount(token, minlength=6).tolist()
    assert counts[1] == 0
    assert sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True) if e) < CHI_SQUARE[4]


def test_c_is_the_probability_of_the_proposed_token_before_temperature_and_truncation():
    logits = tables(400, 6, seed=9)
    token, c = propose(logits, DecodeSettings(temperature=2.0, top_k=3, top_p=0.8), draws(400, seed=10))
    p = logits.double().softmax(-1)
    torch.testing.assert_close(c.double(), p.gather(-1, token[:, None]).squeeze(-1), rtol=1e-5, atol=1e-7)
    # Otherwise it would prove nothing: often the drawn token is not the likeliest.
    assert (token != logits.argmax(-1)).sum() > 50


def test_top_k_samples_exactly_the_k_likeliest_tokens():
    logits = torch.tensor([0.5, 2.0, 1.0, 0.0, 1.5]).expand(2000, -1)
    token, _ = propose(logits, DecodeSettings(temperature=2.0, top_k=3), draws(2000, seed=11))
    assert set(token.tolist()) == {1, 2, 4}


@pytest.mark.parametrize(
    "top_p, kept", [(0.0, {2}), (0.45, {2}), (0.55, {2, 0}), (0.85, {2, 0, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_samples_exactly_the_likeliest_tokens_that_reach_p(top_p, kept):
    logits = torch.tensor([0.3, 0.05, 0.5, 0.15]).log().expand(2000, -1)
    token, _ = propose(logits, DecodeSettings(top_p=top_p), draws(2000, seed=12))
    assert set(token.tolist()) == kept


def test_top_p_is_applied_after_temperature():
    # The likeliest has 0.5, but 0.9 once sharpened by temperature 1/4: alone it reaches 0.8 there.
    logits = torch.tensor([0.5, 0.28, 0.22]).log().expand(500, -1)
    sharp, _ = propose(logits, DecodeSettings(temperature=0.25, top_p=0.8), draws(500, seed=13))
    plain, _ = propose(logits, DecodeSettings(top_p=0.8), draws(500, seed=13))
    assert set(sharp.tolist()) == {0}
    assert set(plain.tolist()) == {0, 1, 2}


def test_sampling_reaches_tail_tokens_below_float32_resolution():
    # Token 1 has 1e-10. Both numbers are 1 in float32, but only one of them is that close to 1.
    logits = torch.tensor([[0.0, math.log(1e-10)]] * 2)
    token, c = propose(logits, DecodeSettings(), torch.tensor([1 - 2.0**-40, 1 - 2.0**-30], dtype=torch.float64))
    assert token.tolist() == [1, 0]
    assert c[0].item() == pytest.approx(1e-10, rel=1e-3)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53], ids=["smallest", "largest"])
def test_extreme_random_numbers_propose_a_possible_token(u):
    logits = tables(2000, 12, seed=14)
    logits[:, [0, 11]] = -math.inf
    token, _ = propose(logits, DecodeSettings(), torch.full((2000,), u, dtype=torch.float64))
    assert ((token > 0) & (token < 11)).all()


def test_repetition_penalty_by_hand():
    # Text 1 2 _ _ 1 _: what would repeat a span of two? A position after a mask has no span; after 1 it is 2.
    tokens = torch.tensor([[1, 2, 0, 0, 1, 0]])
    masked = tokens == 0
    after = repeated(tokens, masked, masked, 2, 4)
    assert after.tolist() == [[False] * 4, [False] * 4, [False, False, True, False]]
    assert not repeated(tokens, masked, masked, 7, 4).any() and repeated(tokens, masked, masked, 7, 4).shape == (3, 4)
    anywhere = repeated(tokens, masked, masked, 1, 4)
    assert anywhere.tolist() == [[False, True, True, False]] * 3
    p = torch.tensor([[0.0, 0.5, 0.3, 0.2]])
    logits = penalised(p.log() + 7, torch.tensor([[False, True, False, False]]), 2.0)
    torch.testing.assert_close(logits.exp(), torch.tensor([[0.0, 0.25, 0.3, 0.2]]))
    token, c = propose(
        p.log(), DecodeSettings(repetition_penalty=2.0), None, torch.tensor([[False, True, False, False]])
    )
    assert token.tolist() == [2] and c.tolist() == pytest.approx([0.3])  # c is the model's own


def test_a_repetition_penalty_breaks_a_loop():
    denoiser = every_place_alike(24, *(-0.1 * n for n in range(30)))
    greedy = DecodeSettings(decoder="topk", k=1, temperature=0.0)
    assert len(set(texts(denoiser, greedy, 1, 24)[0])) == 1
    [text] = texts(denoiser, replace(greedy, repetition_penalty=1000.0, repetition_span=2), 1, 24)
    pairs = Counter(itertools.pairwise(text))
    # Places are filled from the left: each pair but the last, whose end may be given by chance, is new.
    assert max(pairs.values()) == 1 and len(pairs) == 23
