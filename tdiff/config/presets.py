"""Presets of training: the layer of settings that a name stands for."""

from tdiff.schema import Layer

PRESETS: dict[str, Layer] = {
    "char-1m": {
        "model": {"layers": 4, "heads": 4, "width": 128, "window": 256},
        "train": {"batch_size": 16, "minutes": 10.0},
    },
    "char-10m": {
        "model": {"layers": 6, "heads": 6, "width": 384, "window": 256},
        "train": {
            "batch_size": 64,
            "steps": 10_000,
            "lr": 1e-3,
            "ema": 0.999,
            "eval_every": 250,  # a GPU's steps are so short that more would be felt
            "sample_every": 500,
        },
    },
    # A pretrained model, whose sizes it brings along: what BERT's kin are commonly fine-tuned with.
    "finetune": {
        "model": {"window": 128},
        "train": {
            "batch_size": 16,
            "minutes": 10.0,
            "lr": 5e-5,
            "beta2": 0.999,
            "warmup": 0.06,
            "decay": 0.94,
            "weight_decay": 0.01,
            "dropout": 0.1,
            "ema": 0.999,
        },
    },
}
