"""Settings of data, model, objective, training and decoding: defaults, presets, layers and validation. No torch."""
