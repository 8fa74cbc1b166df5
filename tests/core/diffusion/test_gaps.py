"""A gap after a space, and a prompt that ends in one, are what a tokenizer would have made of the whole text."""

import pytest
import torch

from tdiff.commands.generate_request import Request, requested_template
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import canvas, generate, prompt_ids, template_canvas
from tdiff.core.models import tokenizers
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.hf.masked import MaskedLM
from tdiff.core.models.load import load_model
from tdiff.core.models.origin import origin_unknown
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.protocol.template import between
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.support.hub_zoo import KINDS, make
from tests.support.runs import words

LANGUAGE = ("the hare runs over the hill", "the crow sings over the lake", "the wolf sleeps over the hill")
"""Who it is says what it does."""


def ours(kind: str) -> LoadedModel:
    """A small model of our own with a tokenizer of that kind, not trained."""
    text = words(2000).lower()
    tokenizer = tokenizers.learn(kind, text, text)
    size = len(tokenizer)
    shape = Shape(
        vocab_size=size,
        mask_id=tokenizer.mask_id,
        suppressed=tokenizer.suppressed,
        layers=2,
        heads=2,
        width=32,
        window=32,
    )
    network = Transformer(shape)
    network.initialise(torch.Generator().manual_seed(0))
    return LoadedModel(kind, None, network, tokenizer, origin_unknown(16))


def taught(model: LoadedModel) -> LoadedModel:
    """The model after it has learnt by heart what is done, and what comes after who it is."""
    network, tokenizer = model.network, model.tokenizer
    if isinstance(network, MaskedLM):
        network.train_with(0.0, checkpointing=False)
    rows = [tokenizer.encode(text) for text in LANGUAGE]
    longest = max(map(len, rows))
    real = torch.arange(longest) < torch.tensor([[len(row)] for row in rows])
    tokens = torch.full(real.shape, network.spec.mask_id).masked_scatter(real, torch.cat(rows))
    position = torch.arange(longest)
    starts, ends = (
        torch.tensor([[len(tokenizer.encode(" ".join(text.split()[:n]))) for text in LANGUAGE]]).T for n in (2, 3)
    )
    if not tokenizer.carries_spaces:
        starts = starts + 1
    masked = torch.cat(((position >= starts) & (position < ends), (position >= starts) & real))
    tokens, real = tokens.repeat(2, 1), real.repeat(2, 1)
    share, optimizer = masked.sum(1) / real.sum(1), torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(400):
        logits = network(tokens.masked_fill(masked, network.spec.mask_id), share, masked, attention=real)
        loss = torch.nn.functional.cross_entropy(logits, tokens[masked])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.02:
            break
    network.requires_grad_(False).eval()
    return model


@pytest.mark.parametrize("kind", ["char", "bpe:60", "bert", "roberta", "albert"])
def test_a_model_fills_a_gap_after_a_space_with_the_one_right_word(kind, tmp_path):
    model = taught(ours(kind) if kind.startswith(("char", "bpe")) else load_model(str(make(kind, tmp_path / kind))))
    greedy = DecodeSettings(decoder="schedule", steps=1, temperature=0.0)
    for text in LANGUAGE:
        who, does = text.split()[1:3]
        before, after = f"the {who} ", text.split(does)[1]
        size = len(model.tokenizer.encode(text)) - template_canvas(model, between(before, 1, after)).size(1) + 1
        *_, last = generate(model, [""], greedy, template=between(before, size, after))
        assert model.tokenizer.decode(last.tokens[0]) == text
        rest = len(model.tokenizer.encode(text)) - len(prompt_ids(model, before))
        *_, last = generate(model, [before], greedy, length=rest)
        assert model.tokenizer.decode(last.tokens[0]) == text


@pytest.mark.parametrize("kind", [*KINDS, "gpt2", "char", "bpe:60"])
def test_text_around_a_gap_has_the_tokens_of_the_whole_text(kind, loaded, tmp_path):
    if kind == "gpt2":
        model = load_model(str(make_causal(tmp_path / kind, bos=True)))
    else:
        model = loaded[kind] if kind in loaded else ours(kind)
    text = "the hare runs over, the lake"
    whole, mask_id = (
        model.tokenizer.encode(text.replace(",", "") if kind in ("char", "bpe:60") else text),
        model.network.spec.mask_id,
    )
    spaces = kind != "char"  # which has the space for a token of its own
    for before, after in (("the hare ", " over, the lake"), ("the hare runs over", ", the lake")):
        after = after.replace(",", "") if kind in ("char", "bpe:60") else after
        ids = template_canvas(model, between(before, 1, after))[0] if kind != "gpt2" else canvas(model, [before], 1)[0]
        position = int((ids == mask_id).nonzero())
        ends = ids[:position], ids[position + 1 :]
        assert ends[0].tolist() == whole[:position].tolist()
        assert ends[1].tolist() == whole[len(whole) - len(ends[1]) :].tolist()
        assert model.tokenizer.decode(ends[0]) == (before.rstrip() if spaces else before)


def test_two_spaces_leave_one_and_other_blanks_stay(loaded):
    roberta = loaded["roberta"]
    assert roberta.tokenizer.decode(prompt_ids(roberta, "the hare  ")) == "the hare "
    assert roberta.tokenizer.decode(prompt_ids(roberta, "the hare\n")) == "the hare\n"


def test_the_window_is_full_where_a_prefix_ends_in_a_space(loaded):
    model = loaded["roberta"]
    asked = Request(
        prompt=None, model="", device="cpu", samples=1, length=0, seed=0, options={}, prefix="the ", suffix=" hill"
    )
    assert template_canvas(model, requested_template(model, asked)).size(1) == model.spec.context
