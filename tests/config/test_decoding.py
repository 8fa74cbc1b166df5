"""The table of decoders: one declaration, from which help, notes, labels, defaults and the guide's table come."""

import dataclasses
import re

import pytest

from tdiff import guide
from tdiff.config import decoding
from tdiff.config.decoding import (
    DECODERS,
    FIELDS,
    SAMPLING,
    By,
    DecodeSettings,
    label,
    no_effect,
    parse_decoder,
    readers,
)
from tdiff.core.diffusion import decoders
from tdiff.errors import TdiffError
from tests.support.paths import ROOT


def test_each_decoder_has_one_policy_and_one_spec():
    assert sorted(decoders.DECODERS) == sorted(DECODERS)


def test_specs_name_fields_of_the_settings_and_their_defaults_are_those_of_the_settings():
    names = {f.name for f in FIELDS}
    for name, spec in DECODERS.items():
        assert set(spec.options) <= names and set(spec.defaults) <= set(spec.options)
        for option, default in spec.defaults.items():
            values = default.values if isinstance(default, By) else {"": default}
            for value, number in values.items():
                chosen = {default.option: value} if isinstance(default, By) else {}
                assert getattr(DecodeSettings(decoder=name, **chosen), option) == number


def test_no_setting_is_left_without_a_value():
    for name in DECODERS:
        assert None not in dataclasses.asdict(DecodeSettings(decoder=name)).values()


def test_exactly_one_decoder_is_causal_and_its_block_is_one_position():
    assert [name for name, spec in DECODERS.items() if spec.causal] == [decoding.LEFT_TO_RIGHT]
    assert DecodeSettings(decoder=decoding.LEFT_TO_RIGHT).block == 1


def test_readers_of_an_option_are_the_decoders_that_list_it_and_all_read_the_sampling_options():
    assert readers("threshold") == ("confidence", "klass")
    assert all(readers(name) == tuple(DECODERS) for name in (*SAMPLING, "steps", "block"))
    assert SAMPLING == ("temperature", "top_k", "top_p", "repetition_penalty", "repetition_span", "no_repeat")


def test_options_that_a_decoder_does_not_read_are_noted():
    assert no_effect("topk", {"k": 4, "steps": 3, "temperature": 1.0}) == []
    [note] = no_effect("topk", {"threshold": 0.5})
    assert note == "--threshold has no effect with --decoder topk (used by confidence, klass)"


@pytest.mark.parametrize(
    ("decoder", "settings", "text"),
    [
        ("confidence", {}, "conf ≥ 0.7"),
        ("confidence", {"threshold": 0.0}, "conf ≥ 0"),
        ("klass", {}, "klass > 0.9"),
        ("topk", {}, "topk"),
        ("topk", {"k": 4}, "top 4"),
        ("ancestral", {}, "ancestral"),
    ],
)
def test_the_label_has_the_most_important_setting(decoder, settings, text):
    assert label(decoder, dataclasses.asdict(DecodeSettings(decoder=decoder, **settings))) == text


@pytest.mark.parametrize("settings", [{}, {"threshold": "high"}, {"threshold": None}])
def test_the_label_of_unknown_settings_is_the_name(settings):
    assert label("confidence", settings) == "confidence"
    assert label("of-another-version", settings) == "of-another-version"


def test_a_decoder_is_spelled_with_its_options():
    assert parse_decoder("remdm remask=loop eta=0.02") == {"decoder": "remdm", "remask": "loop", "eta": 0.02}
    assert parse_decoder("decoder=topk k=4") == {"decoder": "topk", "k": 4}
    assert parse_decoder("top-k=4") == {"top_k": 4}
    assert decoding.decoding(["remdm remask=loop", "eta=0.02"]) == parse_decoder("remdm remask=loop eta=0.02")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("confidense", "unknown decoder 'confidense'; did you mean confidence?"),
        ("remdm loop", "--decoder takes NAME=VALUE, such as steps=64; got 'loop'"),
        ("remdm eta=", "got 'eta='"),
        ("remdm etta=1", "unknown setting 'etta'; did you mean eta?"),
        ("remdm eta=fast", "takes a number; got 'fast'"),
        ("remdm eta=2", "eta must lie between 0 and 1; got 2.0"),
        ("remdm seed=1", "unknown setting 'seed'"),
    ],
)
def test_a_decoder_that_is_spelled_wrongly_is_refused_in_one_line(text, says):
    with pytest.raises(TdiffError) as error:
        parse_decoder(text)
    assert says in str(error.value) and "\n" not in str(error.value)


def table() -> list[str]:
    """The guide's table of decoders, from their specs."""
    rows = ["| decoder | what it does | options |", "|---|---|---|"]
    for name, spec in DECODERS.items():
        options = []
        for option in spec.options:
            default = spec.defaults.get(option, getattr(DecodeSettings(decoder=name), option))
            if isinstance(default, By):
                shown = ", ".join(f"{value} {number:g}" for value, number in default.values.items())
            else:
                shown = f"{default:g}" if isinstance(default, float) else str(default or "by length")
            options.append(f"`{option.replace('_', '-')}` {shown}")
        rows.append(f"| `{name}` | {spec.summary} | {'; '.join(options)} |")
    return rows


def test_the_readme_names_every_decoder_once():
    readme = (ROOT / "README.md").read_text("utf-8")
    [listed] = re.findall(r"^Decoders: (.*?), each also in blocks", readme, re.M | re.S)
    assert sorted(re.findall(r"`([^`]+)`", listed)) == sorted(DECODERS)


def test_the_table_of_the_guide_is_that_of_the_specs():
    page = guide.pages()["decoders"]
    [found] = re.findall(r"^\| decoder \|.*?(?=\n\n)", page, re.M | re.S)
    assert found.splitlines() == table()
