"""Causal models beside masked ones: generated with, evaluated, trained and saved, from left to right."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import generate, narrate, overlap
from tdiff.core.evaluation.causal_judge import CausalJudge
from tdiff.core.evaluation.likelihood import score
from tdiff.core.models.base import Inputs
from tdiff.core.models.hf.causal import CausalLM
from tdiff.core.models.load import load_model
from tdiff.corpus import corpus
from tdiff.errors import TdiffError
from tdiff.protocol.detail import DetailReader
from tdiff.protocol.trace import TraceEnd, TraceStep
from tdiff.runs import lookup
from tests.core.evaluation.test_causal_judge import TEXT, make
from tests.core.training.test_finetune import settings_from
from tests.support.runs import After, train_in


@pytest.fixture(scope="module")
def gpt(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("causal") / "gpt", bos=True)


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(TEXT * 10, "utf-8")
    return path


def reference(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def written(model, prompt: str, length: int, **settings) -> torch.Tensor:
    *_, last = generate(model, [prompt], DecodeSettings(decoder="autoregressive", **settings), length=length)
    return last.tokens[0]


def test_causal_model_uses_the_autoregressive_decoder_by_default(gpt):
    model = load_model(str(gpt))
    settings = model.decode_settings({}, 1)
    assert settings.decoder == "autoregressive"
    lines = list(narrate(model, "the ", settings, length=5, detail=True))
    reader, steps = DetailReader(lines[0].cells), [line for line in lines if isinstance(line, TraceStep)]
    for step in steps:  # it predicts only the next position
        [(position, guess)] = reader.unpack(step.detail or "")
        assert position == step.cells[0][0] and len(guess.alternatives) >= 1
    positions = [cell[0] for line in lines if isinstance(line, TraceStep) for cell in line.cells]
    assert positions == sorted(positions)
    end = lines[-1]
    assert isinstance(end, TraceEnd)
    assert (end.model_calls, end.tokens, end.forced) == (5, 5, 0)


def test_greedy_text_equals_that_of_transformers(gpt):
    model, hf_model = load_model(str(gpt)), reference(gpt)
    prompt = model.tokenizer.encode("the ha")
    ours = written(model, "the ha", 20, temperature=0.0)
    read = torch.cat((torch.tensor([model.tokenizer.first_id]), prompt))[None]
    out = hf_model.generate(
        read,
        attention_mask=torch.ones_like(read),
        max_new_tokens=20,
        do_sample=False,
        suppress_tokens=[i for i in model.tokenizer.suppressed if i < hf_model.config.vocab_size],
        pad_token_id=model.tokenizer.first_id,
        eos_token_id=None,
    )
    assert ours.tolist() == out[0, 1:].tolist()


def test_logits_with_a_cache_are_those_of_reading_all_tokens_anew(gpt):
    model, hf_model = load_model(str(gpt)), reference(gpt)
    network, cache = model.network, model.network.new_cache(3)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 250, (3, 9), generator=draw)
    for position in (2, 3, 5, 5, 1, 8):  # the next, two further, the same again, back, further
        canvas = tokens.clone()
        canvas[:, position:] = network.spec.mask_id
        where = torch.zeros_like(canvas, dtype=torch.bool)
        where[:, position] = True
        bos = torch.full((3, 1), model.tokenizer.first_id)
        with torch.no_grad():
            got = network.logits(Inputs(canvas, torch.ones(3), where), cache)
            expected = hf_model(torch.cat((bos, tokens[:, :position]), 1)).logits[:, -1]
        torch.testing.assert_close(got[:, :-1], expected + network.suppress[:-1], rtol=1e-4, atol=1e-4)
        assert bool(got[:, -1].isneginf().all())


def lengths_read(network: CausalLM) -> list[int]:
    """A list to which each call of the network adds the number of tokens of a row that it reads."""
    lengths: list[int] = []
    network.model.register_forward_pre_hook(
        lambda _module, _arguments, options: lengths.append(options["input_ids"].size(1)), with_kwargs=True
    )
    return lengths


def test_two_decoding_runs_that_take_turns_do_not_disturb_each_other(gpt):
    model = load_model(str(gpt))
    prompts = ["the ha", "over the hill"]
    settings = [DecodeSettings(decoder="autoregressive", seed=seed) for seed in (1, 2)]

    def runs_of():
        return [generate(model, [p, p], s, length=10) for p, s in zip(prompts, settings, strict=True)]

    alone = [list(steps)[-1].tokens for steps in runs_of()]
    lengths = lengths_read(model.network)
    turns = list(zip(*runs_of(), strict=True))
    for step, expected in zip(turns[-1], alone, strict=True):
        assert torch.equal(step.tokens, expected)
    # After its prompt each run reads one token a call, as it does alone.
    assert lengths == [1 + len(model.tokenizer.encode(p)) for p in prompts] + [1] * 18


def test_a_run_in_blocks_keeps_its_cache_from_block_to_block(gpt):
    model = load_model(str(gpt))
    lengths = lengths_read(model.network)
    written(model, "the ha", 12, block=4, seed=1)
    assert lengths == [1 + len(model.tokenizer.encode("the ha"))] + [1] * 11


def test_model_stores_nothing_between_calls(gpt):
    network = load_model(str(gpt)).network
    before = set(vars(network))
    canvas = torch.tensor([[5, network.spec.mask_id]])
    first, again = (network(canvas, torch.ones(1), canvas == network.spec.mask_id) for _ in range(2))
    assert torch.equal(first, again) and set(vars(network)) == before


def test_rows_may_be_at_different_positions(gpt):
    model = load_model(str(gpt))
    network = model.network
    tokens = torch.randint(1, 250, (2, 6), generator=torch.Generator().manual_seed(1))
    tokens[0, 2:], tokens[1, 4:] = network.spec.mask_id, network.spec.mask_id
    where = torch.zeros_like(tokens, dtype=torch.bool)
    where[0, 2] = where[1, 4] = True
    with torch.no_grad():
        both = network(tokens, torch.ones(2), where)
        alone = [network(tokens[n : n + 1], torch.ones(1), where[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["confidence", "ancestral", "topk"])
def test_another_decoder_is_refused(name, gpt, cli_fast):
    done = cli_fast("generate", "the", f"--model={gpt}", f"--decoder={name}", "--length=4")
    assert f"gpt is autoregressive and requires --decoder autoregressive; got {name}" in done.refused()


def test_gap_followed_by_text_is_refused(gpt, cli_fast):
    done = cli_fast("generate", f"--model={gpt}", "--template", "the ____ sings")
    assert "cannot see what follows a gap" in done.refused()


def test_model_without_begin_token_requires_a_prompt(tmp_path, cli_fast):
    folder = make(tmp_path / "gpt", bos=False)
    assert "give it a prompt" in cli_fast("generate", f"--model={folder}", "--length=4").refused()
    done = cli_fast("generate", "the", f"--model={folder}", "--length=4", "--seed=1")
    assert done.stdout.startswith("the")


def test_its_likelihood_is_exact(gpt, book, cli_fast):
    model, hf_model = load_model(str(gpt)), reference(gpt)
    ids = model.tokenizer.encode(TEXT)[:100]
    window = model.spec.context
    nats = 0.0
    for start in range(0, len(ids), window):
        for n, token in enumerate(ids[start : start + window]):
            before = torch.cat((torch.tensor([model.tokenizer.first_id]), ids[start : start + n]))
            with torch.no_grad():
                nats -= float(hf_model(before[None]).logits[0, -1].log_softmax(-1)[token])
    found = score(model.network, ids, model.tokenizer.lengths, draws=3)
    assert found.nats_per_token == pytest.approx(nats / len(ids), abs=1e-4)
    assert found.interval_95 == (found.nats_per_token, found.nats_per_token)
    evaluation = json.loads(cli_fast("eval", str(gpt), f"--data={book}", "--json", "--device=cpu").stdout)
    assert evaluation["interval_95"] == [evaluation["nats_per_token"]] * 2


def test_likelihood_equals_the_loss_of_transformers_including_special_tokens(gpt, tmp_path):
    folder = tmp_path / "ends"
    shutil.copytree(gpt, folder)
    hf_model = reference(folder)
    with torch.no_grad():
        hf_model.transformer.ln_f.bias.copy_(hf_model.transformer.wte.weight[0] * 10)  # it likes to end a text
    hf_model.save_pretrained(folder)
    model = load_model(str(folder))
    ids = model.tokenizer.encode(TEXT)[: model.spec.context]
    read = torch.cat((torch.tensor([model.tokenizer.first_id]), ids))[None]
    with torch.no_grad():
        loss = float(hf_model(read, labels=read).loss)
        ending = hf_model(read).logits[0, :-1].softmax(-1)[:, model.tokenizer.first_id]
    assert float(ending.mean()) > 0.1
    assert score(model.network, ids, model.tokenizer.lengths, draws=1).nats_per_token == pytest.approx(loss, abs=1e-5)


def test_trained_causal_model_is_loaded_by_transformers(gpt, book, tmp_path):
    settings = settings_from(gpt, book, {"train": {"steps": 40, "lr": 3e-3}})
    run, events = train_in(tmp_path, "mine", settings)
    assert events[-1].reason == "finished"
    model = load_model(str(run.path))
    assert isinstance(model.network, CausalLM)
    assert (model.name, model.origin.steps) == ("mine", 40)
    assert model.decode_settings({}, 1).decoder == "autoregressive"
    ids = model.tokenizer.encode(TEXT)[:120]
    before = load_model(str(gpt)).network
    before.set_context(model.spec.context)
    after = score(model.network, ids, model.tokenizer.lengths, draws=1).nats_per_token
    assert after < score(before, ids, model.tokenizer.lengths, draws=1).nats_per_token - 0.3
    hf_model = reference(run.model)
    read = torch.cat((torch.tensor([[model.tokenizer.first_id]]), ids[None, :12]), 1)
    with torch.no_grad():
        expected = hf_model(read).logits[0, :-1].log_softmax(-1)
        got = model.network.log_likelihood(ids[None, :12], torch.ones(1, 12, dtype=torch.bool))[0]
    torch.testing.assert_close(got, expected.gather(-1, ids[:12, None])[:, 0], rtol=1e-4, atol=1e-4)


def test_a_resumed_run_is_bit_for_bit_an_unbroken_one(gpt, book, tmp_path):
    settings = settings_from(gpt, book, {"train": {"steps": 6, "dropout": 0.1}})
    whole, _ = train_in(tmp_path, "whole", settings)
    train_in(tmp_path, "broken", settings, stop=After(3))
    broken, events = train_in(tmp_path, "broken", settings, resume=True)
    assert events[-1].reason == "finished"
    assert (whole.model / "model.safetensors").read_bytes() == (broken.model / "model.safetensors").read_bytes()


def test_samples_of_a_run_are_written_from_left_to_right_by_the_newest_weights(gpt, book, tmp_path):
    settings = settings_from(gpt, book, {"train": {"steps": 6, "sample_every": 3, "lr": 1e-2}})
    run, events = train_in(tmp_path, "run", settings)
    first, last = [event for event in events if event.kind == "sample"]
    header = json.loads((run.path / last.path).read_text().splitlines()[0])
    assert header["decoder"] == "autoregressive"
    decoding = {k: v for k, v in header["settings"].items() if k in ("temperature", "seed")}
    model = load_model(str(run.path))
    again = written(model, last.prompt, header["settings"]["length"], **decoding)
    assert model.tokenizer.decode(again) == last.text != first.text


def test_a_run_that_can_write_no_sample_continues_and_says_why(book, tmp_path):
    folder = make(tmp_path / "gpt", bos=False)
    settings = settings_from(folder, book, {"objective": {"context": 0}, "train": {"steps": 4, "sample_every": 2}})
    _, events = train_in(tmp_path, "run", settings)
    assert events[-1].reason == "finished"
    assert [e.doing for e in events if e.kind == "heartbeat" and "give it a prompt" in e.doing]


def test_padded_rows_are_trained_on_and_evaluated(gpt, book, tmp_path, cli_fast):
    settings = settings_from(gpt, book, {"data": {"rows": "padded"}, "train": {"steps": 30, "lr": 3e-3}})
    run, events = train_in(tmp_path, "run", settings)
    [evaluation] = [event for event in events if event.kind == "eval"]
    model, hf_model = load_model(str(run.path)), reference(run.model)
    _, texts = corpus.load((str(book),)).split_texts()
    nats = count = 0
    for text in texts:
        ids = model.tokenizer.encode(text)
        for start in range(0, len(ids), model.spec.context):
            row = torch.cat((torch.tensor([model.tokenizer.first_id]), ids[start : start + model.spec.context]))
            with torch.no_grad():
                log_p = hf_model(row[None]).logits[0, :-1].log_softmax(-1)
            nats, count = nats - float(log_p.gather(-1, row[1:, None]).sum()), count + len(row) - 1
    assert evaluation.tokens == count
    assert evaluation.nats_per_token == pytest.approx(nats / count, abs=1e-4)


def test_without_begin_token_the_first_position_is_not_scored(tmp_path):
    model = load_model(str(make(tmp_path / "gpt", bos=False)))
    hf_model = reference(tmp_path / "gpt")
    ids = model.tokenizer.encode(TEXT)[:9]
    with torch.no_grad():
        log_p = hf_model(ids[None]).logits[0, :-1].log_softmax(-1)
    found = score(model.network, ids, model.tokenizer.lengths, draws=1)
    assert found.tokens == 8
    assert found.nats_per_token == pytest.approx(-float(log_p.gather(-1, ids[1:, None]).mean()), abs=1e-4)
    with pytest.raises(TdiffError, match="no token that the model can score"):
        score(model.network, ids[:1], model.tokenizer.lengths, draws=1)


def another(tmp_path: Path, gpt: Path, kind: str, **more) -> Path:
    """A random causal model of another kind, with the tokenizer of `gpt`."""
    folder = Path(shutil.copytree(gpt, tmp_path / kind))
    size = json.loads((gpt / "config.json").read_text())["vocab_size"]
    torch.manual_seed(1)
    config = transformers.CONFIG_MAPPING[kind](vocab_size=size, **more)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def test_architecture_without_a_working_cache_generates_the_same_text(tmp_path, gpt):
    folder = another(tmp_path, gpt, "openai-gpt", n_positions=40, n_embd=16, n_layer=2, n_head=2)
    model, hf_model = load_model(str(folder)), reference(folder)
    ours = written(model, "the ha", 6, temperature=0.0)
    read = [model.tokenizer.first_id, *model.tokenizer.encode("the ha").tolist()]
    for _ in range(6):
        with torch.no_grad():
            read.append(int((hf_model(torch.tensor([read])).logits[0, -1] + model.network.suppress[:-1]).argmax()))
    assert ours.tolist() == read[1:]


def test_architecture_that_attends_to_later_tokens_is_refused(tmp_path, gpt, cli_fast):
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    folder = another(tmp_path, gpt, "bert-generation", max_position_embeddings=40, **size)
    asked = cli_fast("generate", "the", f"--model={folder}", "--length=3")
    assert "it looks at what comes after a token" in asked.refused()
    with pytest.raises(TdiffError, match="attends to later tokens"):
        CausalJudge(str(folder))


def test_a_model_of_text_and_pictures_is_refused_in_one_line(tmp_path, gpt, cli_fast):
    folder = Path(shutil.copytree(gpt, tmp_path / "gemma"))
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    assert "tdiff reads models of text only" in cli_fast("generate", "the", f"--model={folder}").refused()
    with pytest.raises(TdiffError, match="models of text only"):
        CausalJudge(str(folder))


def test_longer_texts_slide_by_half_a_window_before_and_after_training(gpt, book, tmp_path):
    before = load_model(str(gpt))
    assert overlap(before) == before.spec.context // 2
    run, _ = train_in(tmp_path, "run", settings_from(gpt, book))
    after = load_model(str(run.path))
    assert overlap(after) == after.spec.context // 2


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (
            {"train": {"decoding": ["decoder=confidence"]}},
            "is causal and takes decoder=autoregressive; got decoder=confidence",
        ),
        ({"train": {"optimizer": "muon"}}, "train.optimizer muon does not support gpt"),
    ],
)
def test_invalid_settings_for_a_causal_model_are_refused_before_training(layer, says, gpt, book, tmp_path):
    with pytest.raises(TdiffError) as error:
        train_in(tmp_path, "run", settings_from(gpt, book, layer))
    assert says in str(error.value)


def test_time_conditioning_of_a_causal_model_is_refused(gpt, book, tmp_path):
    settings = settings_from(gpt, book, {"model": {"time_conditioning": True}})
    with pytest.raises(TdiffError, match=r"model\.time_conditioning requires a masked model"):
        train_in(tmp_path, "run", settings)


def test_causal_and_masked_models_are_compared_on_the_same_prompts(gpt, zoo, tmp_path, cli_fast):
    (tmp_path / "long.txt").write_text(TEXT * 10, "utf-8")
    done = cli_fast(
        "compare", str(zoo["roberta"]), str(gpt), f"--data={tmp_path / 'long.txt'}", "--prompts=2", "--json",
        "--settings=decoder=schedule steps=4", "--device=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Without a progress bar each finished setting prints a line.
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["1/2", "2/2"]
    rows = json.loads(done.stdout)["outcomes"]
    assert [(row["model"], row["settings"]["decoder"]) for row in rows] == [
        ("roberta", "schedule"),
        ("gpt", "autoregressive"),
    ]
    assert all(math.isfinite(row["nats"]) for row in rows)


def test_the_command_trains_by_the_preset_for_pretrained_models(gpt, book, here, cli_fast):
    options = ["--steps=2", "--batch-size=2", "--context=4", "--eval-every=0", "--sample-every=0", "--device=cpu"]
    done = cli_fast("train", f"--init={gpt}", f"--data={book}", "--run=mine", *options)
    assert done.returncode == 0, done.stderr
    assert lookup.find_run("mine").settings().preset == "finetune"
    done = cli_fast("generate", "the", "--model=mine", "--length=3", "--seed=1", "--device=cpu")
    assert done.stdout.startswith("the")


def test_mask_settings_that_a_causal_model_does_not_read_are_reported(gpt, book, cli_fast):
    options = (f"--init={gpt}", f"--data={book}", "--steps=1", "--window=8", "--context=0", "--device=cpu")
    done = cli_fast("train", *options, "--timesteps=10", "--schedule=cosine", "--run=told")
    assert done.returncode == 0, done.stderr
    assert f"ignored for the autoregressive model {gpt}: objective.timesteps, objective.schedule" in done.stderr
    assert "not read" not in cli_fast("train", *options, "--run=plain").stderr
