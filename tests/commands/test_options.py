"""Options declared once: help in groups, choices with the nearest answer, decoders spelled with their options."""

import re

import pytest

from tdiff.cli import COMMANDS, load
from tdiff.commands import generate_request
from tdiff.commands.options import build
from tdiff.config.decoding import DECODERS, FIELDS, DecodeSettings
from tdiff.runs.lookup import DEFAULT_MODEL
from tests.support.ptys import Pty
from tests.support.runs import COMMAND, environment

FLAGS = {"decoder", "threshold", "k", "steps", "block", "schedule", "temperature", "top_p", "top_k", "no_repeat"}


def sections(text: str) -> list[str]:
    return re.findall(r"^(\w[\w ]*):$", text, re.M)


def test_help_has_sections_defaults_choices_and_examples(cli_fast):
    text = cli_fast("generate", "--help").stdout
    assert sections(text) == ["Arguments", "Input", "Decoding", "Sampling", "Output", "Advanced", "Options", "Examples"]
    assert "[linear|cosine|cosine-seed|exponential|polynomial]" in text
    assert re.search(
        r"--threshold NUMBER\s+confidence, klass: .*\[default:\s+confidence\s+0.7,\s+klass\s+0.9\]", text, re.S
    )
    assert all(name in text for name in DECODERS)
    assert "  tdiff generate --input prompts.jsonl --output texts.jsonl\n" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_plain_where_it_is_piped(command, cli_fast):
    done = cli_fast(command, "--help")
    assert done.returncode == 0
    assert not re.search("[\x1b╭│]", done.stdout)


def test_help_on_a_terminal_has_panels_and_its_brackets():
    child = Pty([*COMMAND, "generate", "--help"], columns=120, **environment())
    assert child.end(120) == 0
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", child.written.decode())
    assert re.search("╭─ Decoding ─", text) and re.search("╭─ Sampling ─", text)
    assert f"[default: {DEFAULT_MODEL}]" in text
    assert "tdiff generate --input prompts.jsonl --output texts.jsonl" in text


def test_ten_decoding_options_are_listed_and_all_work(cli_fast):
    listed = set(re.findall(r"^  --([\w-]+)", cli_fast("generate", "--help").stdout, re.M))
    names = {f.name for f in FIELDS}
    assert {name for name in names if name.replace("_", "-") in listed} == FLAGS
    values = {"rank": "margin", "remask": "loop", "k": "3", "parts": "2", "history": "3", "repetition_span": "2"}
    for name in names - FLAGS:
        asked = requested(f"--{name.replace('_', '-')}={values.get(name, '0.3' if name != 't_on' else '0.6')}")
        assert list(asked.options) == [name], name


def requested(*arguments: str) -> generate_request.Request:
    """The request that a command line makes."""
    requests = []
    command = build("generate", generate_request.Request, requests.append, "", (), coloured=False)
    command.main(args=list(arguments), standalone_mode=False)
    return requests[0]


def test_a_decoder_with_options_in_its_spelling_is_the_same_as_flags():
    spelled = requested("--decoder=remdm remask=loop eta=0.02", "--steps=64").options
    assert spelled == requested("--decoder=remdm", "--remask=loop", "--eta=0.02", "--steps=64").options
    assert DecodeSettings(**spelled) == DecodeSettings(decoder="remdm", remask="loop", eta=0.02, steps=64)


def test_an_option_that_is_set_twice_differently_is_refused(cli_fast):
    line = cli_fast("generate", "--decoder=topk k=4", "--k=5").refused()
    assert line == "--decoder sets k to 4 and --k to 5: set it once"
    assert requested("--decoder=topk k=4", "--k=4").options == {"decoder": "topk", "k": 4}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "--decoder=confidense eta=1"], "unknown decoder 'confidense'; did you mean confidence?"),
        (["generate", "--decoder=remdm etta=1"], "unknown setting 'etta'; did you mean eta?"),
        (["generate", "--precision=float23"], "unknown precision 'float23'; did you mean float32?"),
        (["classify", "x", "--method=cloz"], "unknown method 'cloz'; did you mean cloze?"),
        (["watch", "--device=gpu"], "unknown device 'gpu'"),
        (["train", "--preset=char-2m"], "unknown preset 'char-2m'; did you mean char-1m?"),
    ],
)
def test_a_value_outside_the_choices_names_the_nearest(arguments, says, cli_fast):
    assert says in cli_fast(*arguments).refused()


def test_every_command_is_built_with_unique_options():
    for name in COMMANDS:
        options = [option for parameter in load(name).params for option in parameter.opts if option.startswith("--")]
        assert len(options) == len(set(options)), name
