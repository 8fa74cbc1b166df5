"""A causal model as a judge: `tdiff compare --judge`."""

import json
import math

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tdiff.core.evaluation.causal_judge import CausalJudge
from tdiff.errors import TdiffError
from tests.support.runs import words

TEXT = words(300) + "naïve café\n"


def make(folder, *, bos: bool, positions: int = 64):
    """A random GPT-2 with a byte-level BPE of 300 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    special = {"bos_token": "<|endoftext|>"} if bos else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer.get_vocab()), n_positions=positions, n_embd=32, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "none"])
def judge(request, tmp_path_factory):
    return CausalJudge(str(make(tmp_path_factory.mktemp("causal") / "gpt", bos=request.param)))


def by_hand(judge: CausalJudge, prompt: str, text: str) -> float:
    """Token after token, each by a separate call."""
    tokenizer, model = judge._tokenizer, judge._model
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    total = 0.0
    for n, (token, (_, end)) in enumerate(zip(ids, offsets, strict=True)):
        before = start + ids[:n]
        if end > len(prompt) and before:
            total -= float(model(torch.tensor([before])).logits[0, -1].log_softmax(-1)[token])
    return total / (len(text) - len(prompt))


@pytest.mark.parametrize("prompt", ["", "the ", "the ha"])
@pytest.mark.parametrize("rest", ["hare runs over the hill", "naïve café\nthe"])
def test_nats_equal_the_sum_over_single_tokens(judge, prompt, rest):
    text = prompt + rest
    assert judge.nats(prompt, text) == pytest.approx(by_hand(judge, prompt, text), rel=1e-4)
    assert judge.nats(text, text) == 0.0


def test_a_text_beyond_the_context_length_is_scored_in_windows(judge):
    text = "the hare runs over the hill " * 12
    tokenizer, model = judge._tokenizer, judge._model
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = start + tokenizer(text)["input_ids"]
    assert len(ids) > 64
    total, seen = 0.0, 64
    for n in range(1, len(ids)):
        # A token is scored in the first window of 64 that reaches it; windows begin at 0, 32, 64 ...
        begin = 0 if n < seen else 32 * ((n - 64) // 32 + 1)
        before = torch.tensor([ids[begin:n]])
        total -= float(model(before).logits[0, -1].log_softmax(-1)[ids[n]])
    assert judge.nats("", text) == pytest.approx(total / len(text), rel=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_a_bidirectional_model_is_refused_as_judge(zoo, kind):
    with pytest.raises(TdiffError, match="is not autoregressive"):
        CausalJudge(str(zoo[kind]))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert_x"}'), "requires a causal model"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": 3}'), "requires a causal model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "do not exist"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "are damaged or not safetensors"),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "does not exist"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "is damaged"),
    ],
)
def test_an_unusable_judge_is_refused_in_one_line(tmp_path, spoil, says):
    folder = make(tmp_path / "gpt", bos=True)
    spoil(folder)
    with pytest.raises(TdiffError, match=says) as error:
        CausalJudge(str(folder))
    assert "\n" not in str(error.value)


def test_compare_shows_the_second_judge(cli_fast, tiny_run, corpus_file, tmp_path):
    folder = make(tmp_path / "gpt", bos=True, positions=300)
    asked = ("compare", str(tiny_run.path), "--decoders", "topk", "--prompts", "3", "--judge", str(folder))
    done = cli_fast(*asked)
    assert done.returncode == 0 and "judge nats" in done.stdout
    result = json.loads(cli_fast(*asked, "--json").stdout)
    [outcome] = result["outcomes"]
    judge = CausalJudge(str(folder))
    nats = [judge.nats(p, t) for p, t in zip(result["prompts"], outcome["texts"], strict=True)]
    assert outcome["second"] == pytest.approx(sum(nats) / 3, abs=1e-5)
    assert math.isfinite(result["real"]["second"]) and outcome["second_half_95"] > 0
