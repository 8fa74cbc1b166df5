"""The table of decoding presets."""

import pytest

from tdiff.config.decoding import DecodeSettings, laid_over, presets_of
from tdiff.config.decoding_presets import DECODING_PRESETS, KINDS, preset_help, preset_text
from tdiff.errors import TdiffError


def test_every_preset_of_every_kind_is_valid_and_names_a_decoder():
    for kind in KINDS:
        for name, settings in presets_of(kind).items():
            assert "decoder" in settings, (kind, name)
            DecodeSettings(preset=name, **settings)


def test_the_help_shows_the_settings_of_each_kind():
    for name, preset in DECODING_PRESETS.items():
        assert all(text in preset_help(name) for text in preset.settings.values())


def test_fast_takes_at_most_a_quarter_of_a_call_a_token():
    for kind in DECODING_PRESETS["fast"].settings:
        settings = DecodeSettings(**presets_of(kind)["fast"])
        at_once = {"topk": settings.k, "fronts": settings.parts}[settings.decoder]
        assert at_once >= 4 and settings.block % 4 == 0


def test_an_autoregressive_model_has_no_fast_preset():
    with pytest.raises(TdiffError, match="--fast has no settings for an autoregressive model"):
        preset_text("fast", "causal")
    with pytest.raises(TdiffError, match="unknown preset 'fest'; did you mean fast"):
        DecodeSettings(preset="fest")


def test_options_win_over_a_preset_and_a_preset_over_the_models_settings():
    presets = {"fast": {"decoder": "topk", "k": 4, "temperature": 0.5}}
    model = {"decoder": "remdm", "eta": 0.1, "no_repeat": 8}
    assert laid_over(model, {"preset": "fast", "temperature": 0.9}, presets) == {
        "no_repeat": 8,
        "decoder": "topk",
        "k": 4,
        "temperature": 0.9,
        "preset": "fast",
    }
    assert laid_over(model, {"preset": "fast", "decoder": "klass"}, presets) == {"no_repeat": 8, "decoder": "klass"}
