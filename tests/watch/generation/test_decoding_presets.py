"""A decoding preset in a live generation: the view shows the settings that the model's process will use."""

from tdiff.protocol.messages import Ready
from tdiff.watch.generation.decoding_options import DecodingOptions

READY = Ready(
    model="m",
    window=8,
    device="cpu",
    threads=1,
    vocabulary=9,
    step=1,
    weights=0.0,
    decoders=["topk", "remdm"],
    decoding={"decoder": "remdm", "no_repeat": 8},
    presets={"fast": {"decoder": "topk", "k": 4, "temperature": 0.5}},
)


def test_a_preset_is_expanded_as_soon_as_the_model_is_known():
    options = DecodingOptions({"preset": "fast", "temperature": 0.9})
    options.use_model(READY)
    chosen = options.settings
    assert (chosen.decoder, chosen.k, chosen.temperature, chosen.preset) == ("topk", 4, 0.9, "fast")
    assert chosen.no_repeat == 8


def test_a_decoder_that_is_selected_later_replaces_the_preset():
    options = DecodingOptions({"preset": "fast"})
    options.use_model(READY)
    options.set("decoder", "remdm")
    assert (options.settings.decoder, options.settings.k, options.settings.preset) == ("remdm", 0, "")


def test_a_preset_that_the_model_has_not_leaves_its_own_settings():
    options = DecodingOptions({"preset": "best"})
    options.use_model(READY)
    assert options.settings.decoder == "remdm"
