"""The transformer against a plain rewriting of tiny-diffusion's, and the parts it is made of."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings
from tdiff.core.models.base import Inputs
from tdiff.core.models.conditioning import TimeEmbedding
from tdiff.core.models.transformer import Attention, Neighbours, Shape, Transformer, norm, rotary
from tdiff.core.training.optim import Muon, orthogonal

torch.set_num_threads(1)


def shape(**more) -> Shape:
    usual = {
        "vocab_size": 12,
        "mask_id": 10,
        "suppressed": (10, 11),
        "layers": 2,
        "heads": 2,
        "width": 16,
        "window": 24,
    }
    return Shape(**(usual | more))


def network(seed: int = 0, **more) -> Transformer:
    """A model with no weight at zero, so that nothing is left out of what is tested."""
    model = Transformer(shape(**more)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.requires_grad_(False)


def tokens_of(model: Transformer, rows: int, seed: int = 1) -> Tensor:
    size = (rows, model.shape.window)
    return torch.randint(0, model.shape.vocab_size, size, generator=torch.Generator().manual_seed(seed))


def everywhere(tokens: Tensor) -> Tensor:
    return torch.ones_like(tokens, dtype=torch.bool)


def dense(model: Transformer, tokens: Tensor, share: Tensor | None = None, **more) -> Tensor:
    """(B, L, V) logits at every position."""
    share = torch.full((len(tokens),), 0.5) if share is None else share
    return model(tokens, share, everywhere(tokens), **more).unflatten(0, tokens.shape)


def tiny_diffusion(weights: dict[str, Tensor], tokens: Tensor, t: Tensor, layers: int, heads: int) -> Tensor:
    """Logits (B, L, V) of tiny-diffusion's model, head by head and position by position, in float64."""
    w = {name: tensor.double() for name, tensor in weights.items()}

    def rms(x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)

    def turn(x: Tensor) -> Tensor:  # (L, D), rotary on halves
        half = x.size(1) // 2
        out = torch.empty_like(x)
        for position in range(x.size(0)):
            for j in range(half):
                angle = position / 10_000 ** (j / half)
                x1, x2 = x[position, j], x[position, half + j]
                out[position, j] = x1 * math.cos(angle) + x2 * math.sin(angle)
                out[position, half + j] = -x1 * math.sin(angle) + x2 * math.cos(angle)
        return out

    rows = []
    for row in range(len(tokens)):
        x = rms(w["token_emb.weight"][tokens[row]] + w["time_emb.weight"][t[row]])
        for n in range(layers):
            at = {key: w[f"blocks.{n}.attn.{key}.weight"] for key in ("c_q", "c_k", "c_v", "c_proj")}
            normed, heard = rms(x), []
            size = x.size(1) // heads
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                q = rms(turn((normed @ at["c_q"].T)[:, part]))
                k = rms(turn((normed @ at["c_k"].T)[:, part]))
                scores = (q @ k.T / math.sqrt(size)).softmax(-1)
                heard.append(scores @ (normed @ at["c_v"].T)[:, part])
            x = x + torch.cat(heard, -1) @ at["c_proj"].T
            hidden = (rms(x) @ w[f"blocks.{n}.mlp.c_fc.weight"].T).clamp(min=0)
            x = x + (hidden * hidden) @ w[f"blocks.{n}.mlp.c_proj.weight"].T
        rows.append(rms(x) @ w["output_head.weight"].T)
    return torch.stack(rows)


def test_tiny_diffusions_model_is_one_configuration_with_the_same_names_of_weights():
    model = network(
        vocab_size=128, mask_id=0, suppressed=(0,), layers=3, heads=3, width=24, time_conditioning=True, timesteps=128
    )
    weights = model.state_dict()
    assert set(weights) == {
        "token_emb.weight",
        "time_emb.weight",
        "output_head.weight",
        *(f"blocks.{n}.attn.{key}.weight" for n in range(3) for key in ("c_q", "c_k", "c_v", "c_proj")),
        *(f"blocks.{n}.mlp.{key}.weight" for n in range(3) for key in ("c_fc", "c_proj")),
    }
    assert weights["time_emb.weight"].shape == (128, 24)
    tokens, t = tokens_of(model, 4), torch.tensor([0, 41, 100, 127])
    expected = tiny_diffusion(weights, tokens, t, layers=3, heads=3)
    found = dense(model, tokens, (t + 1) / 128)
    assert float(expected.std()) > 0.3
    torch.testing.assert_close(found[..., 1:].double(), expected[..., 1:], rtol=1e-4, atol=1e-4)
    assert bool((found[..., 0] == -torch.inf).all())


def parameters(preset: str, vocab: int, **more) -> int:
    model = Settings.of([PRESETS[preset]]).model
    with torch.device("meta"):
        built = Transformer(
            Shape(
                vocab_size=vocab,
                mask_id=0,
                suppressed=(0,),
                layers=model.layers,
                heads=model.heads,
                width=model.width,
                window=model.window,
                **more,
            )
        )
    return sum(p.numel() for p in built.parameters())


def test_char_10m_with_a_table_of_times_has_tiny_diffusions_10_8_million_parameters():
    assert parameters("char-10m", 128, time_conditioning=True, timesteps=128) == 10_764_288


def test_char_1m_has_0_8_million_parameters():
    assert parameters("char-1m", 66) == 803_328


@pytest.mark.parametrize("conv", [0, 5])
def test_the_logits_of_a_row_do_not_depend_on_its_batch(conv):
    model = network(conv=conv, time_conditioning=True, timesteps=8)
    tokens, share = tokens_of(model, 7), torch.linspace(0.1, 1, 7)
    together = dense(model, tokens, share)
    for row in range(7):
        alone = dense(model, tokens[row : row + 1], share[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)


def test_padding_is_not_attended():
    model, attention = network(), torch.ones(3, 24, dtype=torch.bool)
    attention[0, 20:] = False
    attention[1, :5] = False
    tokens = tokens_of(model, 3)
    other = tokens.where(attention, (tokens + 3) % 12)
    assert not torch.equal(tokens, other)
    before, after = dense(model, tokens, attention=attention), dense(model, other, attention=attention)
    torch.testing.assert_close(before[attention], after[attention], rtol=0, atol=1e-6)
    unmarked = dense(model, tokens) - dense(model, other)
    assert float(unmarked[0, :20, :10].abs().max()) > 1e-3  # and it would have been


def test_a_padded_row_has_the_logits_of_the_row_without_its_padding():
    model = network()
    tokens = tokens_of(model, 2)
    attention = torch.arange(24)[None] < torch.tensor([[17], [24]])
    padded = dense(model, tokens, attention=attention)
    torch.testing.assert_close(padded[:1, :17], dense(model, tokens[:1, :17]), rtol=0, atol=1e-5)


def test_an_all_true_attention_is_no_attention_mask():
    model = network()
    tokens = tokens_of(model, 2)
    torch.testing.assert_close(
        dense(model, tokens), dense(model, tokens, attention=everywhere(tokens)), rtol=0, atol=1e-5
    )


def test_every_position_attends_to_every_other_and_knows_its_position():
    model = network()
    tokens = tokens_of(model, 1)
    before = dense(model, tokens)[..., :10]
    for position in (0, 11, 23):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % 10
        assert bool(((dense(model, changed)[..., :10] - before).abs().amax(-1) > 1e-6).all())
    same = dense(model, torch.full((1, 24), 4))[0, :, :10]
    # All tokens alike give all positions alike; with one stranger, positions differ by their distance from it.
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-4)
    stranger = torch.full((1, 24), 4)
    stranger[0, 0] = 7
    assert float((dense(model, stranger)[0, 3, :10] - dense(model, stranger)[0, 15, :10]).abs().max()) > 1e-4


def test_logits_of_suppressed_tokens_are_minus_infinity_and_all_others_finite_float32():
    model = network()
    logits = dense(model, tokens_of(model, 2))
    assert logits.dtype == torch.float32
    assert bool((logits[..., [10, 11]] == -torch.inf).all())
    assert bool(logits[..., :10].isfinite().all())


@pytest.mark.parametrize("conv", [0, 5])
def test_a_fresh_model_is_uniform_over_the_real_tokens(conv):
    model = Transformer(shape(conv=conv, time_conditioning=True))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        p = dense(model, tokens_of(model, 2)).softmax(-1)
    torch.testing.assert_close(p[..., :10], torch.full_like(p[..., :10], 0.1))
    assert float(model.token_emb.weight.detach().std()) == pytest.approx(1, abs=0.2)


def test_initialise_repeats_from_its_seed():
    first, again, other = (Transformer(shape(conv=3)) for _ in range(3))
    for model, seed in ((first, 3), (again, 3), (other, 4)):
        model.initialise(torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.token_emb.weight, other.token_emb.weight)
    assert not torch.equal(first.blocks[0].attn.c_q.weight, other.blocks[0].attn.c_q.weight)


@pytest.mark.parametrize(("length", "steps"), [(240, 128), (240, 10), (250, 100), (256, 1000)])
def test_the_row_of_the_table_of_times_is_the_share_in_steps_rounded_up_for_every_count(length, steps):
    time = TimeEmbedding(1, steps)
    with torch.no_grad():
        time.weight.copy_(torch.arange(steps)[:, None])
        share = torch.arange(1, length + 1) / torch.tensor(length)
        assert share.dtype == torch.float32
        rows = time(share).flatten().long().tolist()
    assert rows == [-(-steps * count // length) - 1 for count in range(1, length + 1)]
    assert len(set(rows)) == min(length, steps)


def test_a_table_of_times_answers_for_no_mask_as_for_the_fewest():
    time = TimeEmbedding(3, 10)
    nn.init.normal_(time.weight)
    with torch.no_grad():
        assert torch.equal(time(torch.tensor([0.0])), time(torch.tensor([0.1])))


def test_continuous_time_distinguishes_mask_ratios_smoothly():
    time = TimeEmbedding(4, 0)
    nn.init.normal_(time.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        line = time(torch.linspace(0, 1, 1001))[:, 0]
    assert line.shape == (1001, 4)
    assert float(line.diff(dim=0).abs().max()) < 1.5
    assert float(torch.cdist(line[::100], line[::100]).fill_diagonal_(9).min()) > 0.1


def test_a_model_without_time_conditioning_does_not_read_the_share():
    model = network()
    tokens = tokens_of(model, 2)
    assert torch.equal(dense(model, tokens, torch.tensor([0.1, 0.9])), dense(model, tokens, torch.tensor([0.5, 0.2])))


@pytest.mark.parametrize("conv", [0, 3])
def test_logits_at_some_positions_equal_the_dense_logits_in_row_order(conv):
    model = network(conv=conv)
    tokens = tokens_of(model, 5)
    where = torch.rand(5, 24, generator=torch.Generator().manual_seed(3)) < 0.3
    where[2] = False
    found = model(tokens, torch.full((5,), 0.5), where)
    assert found.shape == (int(where.sum()), 12)
    torch.testing.assert_close(found, dense(model, tokens)[where], rtol=0, atol=1e-5)


def test_logits_at_no_position_are_empty():
    model = network()
    tokens = tokens_of(model, 2)
    assert model(tokens, torch.ones(2), torch.zeros_like(tokens, dtype=torch.bool)).shape == (0, 12)


def test_short_rows_start_at_the_first_position():
    model = network()
    tokens = tokens_of(model, 1)[:, :9]
    assert dense(model, tokens).shape == (1, 9, 12)


@pytest.mark.parametrize("reach", [1, 3, 5, 9])
def test_neighbours_add_a_depthwise_convolution(reach):
    near = Neighbours(6, reach)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, 6, generator=generator)
    with torch.no_grad():
        assert torch.equal(near(x), x)  # zero at the start
        near.weight.copy_(torch.randn(reach, 6, generator=generator))
        direct = F.conv1d(x.mT, near.weight.T[:, None], padding=reach // 2, groups=6).mT
        torch.testing.assert_close(near(x), x + direct)


def test_rotary_keeps_lengths_and_products_depend_on_distance_only():
    generator = torch.Generator().manual_seed(0)
    model = network()
    q, k = (torch.randn(8, generator=generator).expand(1, 1, 24, 8) for _ in range(2))
    turned_q, turned_k = rotary(q, model.cos, model.sin)[0, 0], rotary(k, model.cos, model.sin)[0, 0]
    torch.testing.assert_close(turned_q.norm(dim=-1), q[0, 0].norm(dim=-1))
    products = turned_q @ turned_k.T
    for distance in (-5, 0, 1, 7):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-4)
    assert float(products[0].std()) > 0.1


def test_attention_is_indifferent_to_the_size_of_queries_and_keys():
    attention = Attention(16, 2)
    model, x = network(), torch.randn(1, 24, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = attention(x, (model.cos, model.sin), None)
        attention.c_q.weight *= 50
        attention.c_k.weight *= 0.5
        torch.testing.assert_close(attention(x, (model.cos, model.sin), None), before, rtol=1e-3, atol=1e-4)
    assert float(before.std()) > 0.01


def test_norm_gives_a_root_mean_square_of_one():
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0)) * 40
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(3, 5), rtol=0, atol=1e-4)
    torch.testing.assert_close(norm(x) * x.square().mean(-1, keepdim=True).sqrt(), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 32), (32, 8), (16, 24)])
def test_orthogonal_brings_singular_values_near_one_and_keeps_their_directions(size):
    matrices = (
        torch.randn(4, *size, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-4, 1, 10, 1e4])[:, None, None]
    )
    found = orthogonal(matrices)
    assert found.shape == matrices.shape and found.dtype == matrices.dtype
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ found @ vt.mT
    off = inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))
    assert float(off.abs().max()) < 1e-3


def test_orthogonal_of_zero_is_zero():
    assert torch.equal(orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_an_update_of_muon_has_the_size_of_its_rate_whatever_the_gradient():
    for scale in (1e-6, 1.0, 1e6):
        tall = nn.Parameter(torch.zeros(32, 8))
        tall.grad = torch.randn(32, 8, generator=torch.Generator().manual_seed(0)) * scale
        Muon([tall], lr=0.1).step()
        values = torch.linalg.svdvals(tall.detach()) / (0.1 * math.sqrt(32 / 8))
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3
        assert float((tall.detach() * tall.grad).sum()) < 0


def test_muon_lowers_a_loss_and_skips_weights_without_gradient():
    generator = torch.Generator().manual_seed(0)
    x, truth = torch.randn(200, 8, generator=generator), torch.randn(8, 12, generator=generator)
    first, second, idle = (
        nn.Parameter(torch.zeros(8, 12)),
        nn.Parameter(torch.zeros(8, 12)),
        nn.Parameter(x[:2].clone()),
    )
    optimizer = Muon([first, second, idle], lr=0.1)
    losses = []
    for step in range(100):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 100)
        loss = F.mse_loss(x @ (first + second), x @ truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]
    assert torch.equal(idle.detach(), x[:2]) and torch.equal(first, second)


def test_weight_decay_of_muon_shrinks_weights_apart_from_the_gradient():
    p = nn.Parameter(torch.ones(4, 4))
    p.grad = torch.zeros(4, 4)
    Muon([p], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((4, 4), 0.95))


def test_muon_continues_from_its_saved_state():
    def fresh() -> tuple[nn.Parameter, Muon]:
        p = nn.Parameter(torch.eye(4))
        return p, Muon([p], lr=0.1)

    def steps(p: nn.Parameter, optimizer: Muon, seeds: range) -> None:
        for seed in seeds:
            p.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    whole, optimizer = fresh()
    steps(whole, optimizer, range(6))
    half, first = fresh()
    steps(half, first, range(3))
    _, second = fresh()
    rest = nn.Parameter(half.detach().clone())
    second.param_groups[0]["params"] = [rest]
    second.load_state_dict(first.state_dict())
    steps(rest, second, range(3, 6))
    assert torch.equal(rest, whole)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5) * weight + bias


def test_classic_blocks_are_learned_positions_layer_norm_and_gelu_written_plainly():
    model = network(classic=True, hidden=40)
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}
    tokens = tokens_of(model, 2)
    x = w["token_emb.weight"][tokens] + w["place_emb.weight"]
    x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)
    for n in range(2):
        block = f"blocks.{n}."
        y = layer_norm(x, w[block + "norm_attn.weight"], w[block + "norm_attn.bias"])
        q, k, v = ((y @ w[f"{block}attn.{c}.weight"].T).unflatten(-1, (2, 8)) for c in ("c_q", "c_k", "c_v"))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(8)
        mixed = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).flatten(-2)
        x = x + mixed @ w[block + "attn.c_proj.weight"].T
        y = layer_norm(x, w[block + "norm_mlp.weight"], w[block + "norm_mlp.bias"]) @ w[block + "mlp.c_fc.weight"].T
        assert y.size(-1) == 40
        x = x + (y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))) @ w[block + "mlp.c_proj.weight"].T
    expected = layer_norm(x, w["norm_out.weight"], w["norm_out.bias"]) @ w["output_head.weight"].T
    torch.testing.assert_close(dense(model, tokens)[..., :10].double(), expected[..., :10], rtol=1e-3, atol=1e-4)


def test_a_tied_head_is_the_embedding_and_no_second_matrix():
    model, plain = network(tied=True), network()
    assert "output_head.weight" not in model.state_dict() and model.state_dict()["output_head.gain"].shape == (1,)
    tokens = tokens_of(model, 2)
    features = model.trunk(tokens, torch.full((2,), 0.5))
    expected = features @ model.token_emb.weight.T * model.output_head.gain / math.sqrt(16)
    torch.testing.assert_close(dense(model, tokens)[..., :10], expected[..., :10])
    assert sum(p.numel() for p in plain.parameters()) - sum(p.numel() for p in model.parameters()) == 12 * 16 - 1
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.token_emb.weight.zero_()
    assert float(dense(again, tokens)[..., :10].abs().max()) == 0 < float(dense(model, tokens)[..., :10].abs().max())


def test_self_conditioning_adds_a_second_pass_with_the_first_proposals():
    model = network(self_conditioning=True)
    tokens, share = tokens_of(model, 2), torch.full((2,), 0.5)
    where = tokens == model.spec.mask_id
    first = model.output_head(model.trunk(tokens, share))[where] + model.suppress
    guess = torch.zeros(2, 24, 16)
    guess[where] = first.softmax(-1) @ model.feedback.weight.T
    expected = model.output_head(model.trunk(tokens, share, guess=guess))[where] + model.suppress
    torch.testing.assert_close(model(tokens, share, where), expected)
    assert not torch.allclose(first[:, :10], expected[:, :10])


def test_self_conditioning_in_training_sees_its_guess_half_of_the_time_and_learns_to_use_it():
    model = network(self_conditioning=True).train().requires_grad_(True)
    tokens, share = tokens_of(model, 2), torch.full((2,), 0.5)
    where = tokens == model.spec.mask_id
    seen = 0
    for seed in range(40):
        torch.manual_seed(seed)
        model.zero_grad()
        model(tokens, share, where)[:, :10].square().sum().backward()
        seen += model.feedback.weight.grad is not None and bool(model.feedback.weight.grad.abs().sum() > 0)
    assert 10 <= seen <= 30


@pytest.mark.parametrize("more", [{"classic": True}, {"tied": True}, {"self_conditioning": True}, {"hidden": 20}])
def test_a_fresh_model_of_any_kind_is_uniform(more):
    model = Transformer(shape(**more))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        p = dense(model.eval(), tokens_of(model, 2)).softmax(-1)
    torch.testing.assert_close(p[..., :10], torch.full_like(p[..., :10], 0.1))


def test_dropout_is_for_training_only_and_leaves_out_its_share():
    model = Transformer(shape(), dropout=0.25)
    model.load_state_dict(network().state_dict())
    tokens = tokens_of(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(dense(model.eval(), tokens), dense(network(), tokens))
        model.train()
        before = [block._thinned(torch.ones(100, 100)) for block in model.blocks]
        assert all(abs(float((x == 0).float().mean()) - 0.25) < 0.02 for x in before)
        assert all(float(x.max()) == pytest.approx(1 / 0.75) for x in before)
        torch.manual_seed(1)
        one = dense(model, tokens)
        torch.manual_seed(1)
        assert torch.equal(one, dense(model, tokens))
        assert not torch.allclose(one[..., :10], dense(model, tokens)[..., :10])


def test_given_positions_replace_the_order_of_tokens():
    model = network()
    tokens = tokens_of(model, 2)
    where, ratio = everywhere(tokens), torch.ones(2)
    order = torch.randperm(tokens.size(1), generator=torch.Generator().manual_seed(1))
    positions = order.expand_as(tokens)
    with torch.no_grad():
        expected = model.logits(Inputs(tokens, ratio, where)).unflatten(0, tokens.shape)
        shuffled = model.logits(Inputs(tokens[:, order], ratio, where, positions)).unflatten(0, tokens.shape)
    torch.testing.assert_close(shuffled, expected[:, order], rtol=1e-4, atol=1e-4)
