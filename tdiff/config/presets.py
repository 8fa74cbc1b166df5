"""Training presets: name -> layer of settings."""

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
            "eval_every": 250,  # steps on a GPU are so short that evaluating more often would slow training down
            "sample_every": 500,
        },
    },
    # For a pretrained model, which has its own sizes: the usual fine-tuning settings of BERT and its relatives.
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
