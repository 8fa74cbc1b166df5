"""`tdiff generate --until`, `--fast` and `--best`."""

import json

import pytest


@pytest.fixture
def ask(cli_fast):
    """`tdiff generate --json` with the model of characters, whose paragraphs are short; its records."""

    def run(*arguments: str):
        done = cli_fast("generate", "--model=shakespeare", "--device=cpu", "--json", *arguments)
        assert done.returncode == 0, done
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


SEED = ["--seed=3", "--decoder=topk", "--k=8", "--block=16", "--temperature=0.5"]


def test_until_cuts_the_text_in_fewer_calls_and_is_recorded(ask, tmp_path):
    [plain] = ask("ROMEO:", "--length=96", *SEED)
    [cut] = ask("ROMEO:", "--length=96", "--until=paragraph", *SEED)
    assert cut["text"] == plain["text"][: plain["text"].index("\n", len("ROMEO:\n"))]
    assert cut["model_calls"] < plain["model_calls"] and cut["tokens"] < plain["tokens"] == 96
    assert cut["settings"]["until"] == "paragraph" and cut["settings"]["length"] == 96
    assert "until" not in plain["settings"]
    trace = tmp_path / "trace.jsonl"
    [traced] = ask("ROMEO:", "--length=96", "--until=paragraph", f"--trace={trace}", *SEED)
    assert traced["text"] == cut["text"] and traced["model_calls"] == cut["model_calls"]
    lines = [json.loads(line) for line in trace.read_text("utf-8").splitlines()]
    assert lines[0]["settings"]["until"] == "paragraph" and lines[-1]["text"] == cut["text"]


def test_until_ends_each_line_of_an_input_and_each_sample(ask, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('"ROMEO:"\n{"prompt": "JULIET:", "length": 60}\n', "utf-8")
    texts = ask(f"--input={prompts}", "--length=96", "--until=paragraph", *SEED)
    assert [text["settings"]["length"] for text in texts] == [96, 60]
    samples = ask("ROMEO:", "--length=96", "--until=paragraph", "--samples=2", *SEED)
    for text in [*texts, *samples]:
        assert text["text"].count("\n") == 1 and text["tokens"] < text["settings"]["length"]
    for text, tokens in [(text, text["tokens"]) for text in texts] + [(samples[0], sum(s["tokens"] for s in samples))]:
        assert text["tokens_per_second"] == pytest.approx(tokens / text["seconds"], rel=0.02)
    assert texts[0]["text"] == samples[0]["text"] and len({text["text"] for text in samples}) == 2


def test_until_refuses_a_text_whose_end_is_given(cli_fast):
    def refused(*arguments):
        return cli_fast("generate", "--device=cpu", *arguments).refused()

    assert "ends in text that is given" in refused("--template=The {8} end", "--until=story")
    assert "did you mean paragraph?" in refused("The", "--until=paragraf")


def test_a_preset_is_recorded_and_other_options_win(ask):
    [fast] = ask("ROMEO:", "--fast", "--length=40", "--seed=1")
    assert fast["settings"]["preset"] == "fast" and fast["decoder"] == "topk"
    assert fast["model_calls"] <= 10  # a quarter of a call a token
    [other] = ask("ROMEO:", "--fast", "--k=10", "--length=40", "--seed=1")
    assert other["settings"]["k"] == 10 and other["settings"]["preset"] == "fast" and other["model_calls"] == 4
    [best] = ask("ROMEO:", "--best", "--length=24", "--seed=1", "--steps=4")
    assert best["settings"]["preset"] == "best" and best["settings"]["steps"] == 4
    [none] = ask("ROMEO:", "--length=8", "--seed=1")
    assert none["settings"]["preset"] == ""


def test_two_presets_and_a_preset_with_a_decoder_are_refused(cli_fast):
    assert cli_fast("generate", "--fast", "--best").refused().startswith("--fast and --best exclude each other")
    message = "--best selects a decoder too: leave out --best or --decoder klass"
    assert cli_fast("generate", "--best", "--decoder=klass").refused() == message
    assert cli_fast("watch", "--best", "--decoder=klass", "--once").refused() == message
