"""Texts with gaps: how they are written, and how they are filled."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import narrate, template_canvas
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tdiff.protocol.template import between, parse
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep

FEW = examples(derandomize=True, deadline=None, max_examples=200, database=None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("To be, or ____ to be: that is the {12}", ("To be, or ", 4, " to be: that is the ", 12)),
        ("____", (4,)),
        ("__{3}_", (6,)),
        (r"snake\_case \{x\} \\ _", (r"snake_case {x} \ ", 1)),
        ("{1}a\n", (1, "a\n")),
    ],
)
def test_gaps_are_underscores_or_lengths(text, parts):
    assert parse(text) == parts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no gap", "no gap"),
        ("", "no gap"),
        ("a {x} b __", "'{' at character 3"),
        ("a } __", "'}' at character 3"),
        ("{0}", "1 to"),
        ("{99999999999}", "got {99999999999}"),
        (r"all \_ escaped", "no gap"),
    ],
)
def test_an_invalid_template_is_an_error(text, says):
    with pytest.raises(TdiffError, match=says.replace("{", r"\{").replace("}", r"\}")):
        parse(text)


@FEW
@given(st.lists(st.one_of(st.text("ab_{}\\ \n", min_size=1, max_size=6), st.integers(1, 50)), max_size=6))
def test_escaped_text_round_trips(parts):
    escaped = (
        f"{{{part}}}" if isinstance(part, int) else "".join(f"\\{c}" if c in "_{}\\" else c for c in part)
        for part in parts
    )
    merged: list = []
    for part in parts:
        if merged and type(merged[-1]) is type(part):
            merged[-1] += part
        else:
            merged.append(part)
    if any(isinstance(part, int) for part in parts):
        assert parse("".join(escaped)) == tuple(merged)


def test_between_joins_a_gap_and_its_two_ends():
    assert between("a", 3, "b") == ("a", 3, "b") and between("", 3, "b") == (3, "b") and between("a", 3, "") == ("a", 3)


@pytest.mark.parametrize("decoder", ["confidence", "ancestral", "refill"])
@pytest.mark.parametrize(
    "template", ["the {5} over ____ lake", "{60} the hill", "the {9} {9} {9} {9} end", "a {40} d {3}"]
)
def test_generation_fills_every_gap_and_keeps_the_text(tiny_run, template, decoder):
    model, parts = load_model(str(tiny_run.path)), parse(template)
    start = template_canvas(model, parts)[0].tolist()
    header, *steps, end = narrate(model, template, DecodeSettings(decoder=decoder, steps=4, seed=3), template=parts)
    assert isinstance(header, TraceHeader) and isinstance(end, TraceEnd)
    assert header.cells == len(start) == len(end.text)
    given = {position: text for position, text, _ in header.given}
    assert all(end.text[position] == text for position, text in given.items())
    assert end.tokens == header.cells - len(given) == sum(part for part in parts if isinstance(part, int))
    assert "█" not in end.text
    touched = {cell[0] for step in steps if isinstance(step, TraceStep) for cell in step.cells}
    assert touched == set(range(header.cells)) - given.keys()


def test_the_command_fills_templates_and_gaps_between_two_ends(cli_fast, tiny_run):
    model = f"--model={tiny_run.path}"
    done = cli_fast("generate", model, "--template", "the {5} lake", "--seed=1", "--samples=2", "--json")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["text"].startswith("the ") and first["text"].endswith(" lake") and len(first["text"]) == 14
    assert first["text"] != second["text"] and first["tokens"] == 5 and first["prompt"] == "the {5} lake"
    alone = cli_fast("generate", model, "--template", "the _____ lake", "--seed=1")
    assert alone.stdout == first["text"] + "\n"
    between_ends = cli_fast("generate", model, "--prefix", "the ", "--suffix", " lake", "--length=5", "--seed=1")
    assert between_ends.stdout == alone.stdout
    whole = cli_fast("generate", model, "--suffix", " lake", "--seed=1").stdout
    assert whole.endswith(" lake\n") and len(whole) == 32 + 1  # as long as the window


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["the", "--template", "a __"], "a prompt and --template"),
        (["--template", "a __", "--prefix", "b"], "set only one of --template and --prefix and --suffix"),
        (["--template", "a __", "--length", "4"], "leave out --length 4"),
        (["--template", "none"], "no gap"),
        (["--template", "é __"], "'é'"),
        (["--prefix", "the hare " * 9], "set the number of tokens between them with --length"),
    ],
)
def test_invalid_input_is_a_one_line_error(cli_fast, tiny_run, arguments, says):
    assert says in cli_fast("generate", f"--model={tiny_run.path}", *arguments).refused()
