"""A captured trunk and compiled noise: the same texts, and one compilation however many rows are still unfinished."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.capture import capture
from tdiff.core.diffusion.denoise import denoise
from tests.core.models.test_transformer import network
from tests.support.models import StubModel


@pytest.fixture(autouse=True)
def nothing_stays_compiled():
    yield
    noise.compile_uniform(None)
    torch._dynamo.reset()


def text_of(model, **settings) -> torch.Tensor:
    canvas = torch.full((3, model.spec.context), model.spec.mask_id)
    for row in (1, 2):  # rows that are finished one after another
        canvas[row, : 3 * row] = (model.spec.mask_id + row) % model.spec.vocab_size
    [*_, last] = denoise(model, canvas, settings=DecodeSettings(seed=3, **settings))
    return last.tokens


@pytest.mark.parametrize("how", [{"decoder": "topk", "k": 2}, {"decoder": "first-hitting", "steps": 6}])
def test_texts_are_the_same_and_the_trunk_is_compiled_once_though_rows_are_finished(how):
    expected = text_of(network(), **how)
    counters: list[CompileCounter] = []

    def compiler(function):
        counters.append(CompileCounter())
        return torch.compile(function, backend=counters[-1], dynamic=False)

    model = network()
    assert capture(model, "cpu", compiler)
    assert torch.equal(text_of(model, **how), expected)
    trunk, _ = counters
    assert trunk.frame_count == 1


@pytest.mark.slow
def test_noise_that_inductor_compiles_is_the_same_to_the_bit():
    rows, positions = torch.arange(5)[:, None], torch.arange(300)
    plain = [noise.uniform(7, step, noise.PROPOSAL, rows, positions) for step in range(4)]
    noise.compile_uniform(lambda function: torch.compile(function, dynamic=True))
    compiled = [noise.uniform(7, step, noise.PROPOSAL, rows, positions) for step in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(plain, compiled, strict=True))


def test_noise_is_compiled_once_for_all_steps():
    counter = CompileCounter()
    noise.compile_uniform(lambda function: torch.compile(function, backend=counter, dynamic=True))
    for step in range(5):
        noise.uniform(7, step, noise.PROPOSAL, torch.arange(3)[:, None], torch.arange(30))
    assert counter.frame_count == 1


def test_capture_has_no_effect_on_a_cpu_or_for_other_families():
    model = network()
    assert not capture(model, "cpu")
    assert not capture(StubModel(), "cuda")
    assert "trunk" not in vars(model)


@pytest.mark.slow
def test_generate_says_where_compile_has_no_effect(cli, tiny_run):
    plain, compiled = (
        cli("generate", "--model", str(tiny_run.path), "--length=5", "--seed=1", *more) for more in ([], ["--compile"])
    )
    assert compiled.stdout == plain.stdout
    assert "--compile has no effect here" in compiled.stderr
