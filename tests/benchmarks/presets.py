"""Decoding presets: `python -m tests.benchmarks.presets FOLDER --model NAME`.

FOLDER holds train.txt and tuning.txt (`python -m tests.benchmarks.tales prepare FOLDER`). Each candidate writes texts
of `--words` words after the same prompts of the tuning part; the table shows how they read beside real text, and what
they cost. `--rule` replaces the candidates; `--json FILE` saves the table. What wins is written into
`tdiff/config/decoding_presets.py`: `best` without a limit, `fast` among those with at most 0.25 calls a token.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks import reading

CANDIDATES = (
    "fast",
    "best",
    "confidence threshold=0.7",
    "confidence threshold=0.7 temperature=0.5",
    "topk k=4 temperature=0.5",
    "topk k=4 block=16 temperature=0.5",
    "topk k=2 temperature=0.5",
    "schedule steps=64 temperature=0.5",
    "remdm remask=loop steps=40 temperature=0.6",
    "ancestral steps=40 temperature=0.6 top-p=0.9",
    "first-hitting temperature=0.6 top-p=0.9",
    "entropy steps=128 temperature=0.5",
    "factor factor=1 temperature=0.5",
    "fronts parts=2 temperature=0.7 top-p=0.9",
    "fronts parts=3 temperature=0.7 top-p=0.9",
    "entropy-bounded gamma=0.5 temperature=0.5",
    "topk k=1 block=8 temperature=0.5",
    "autoregressive temperature=0.5 top-p=0.9",
    "autoregressive temperature=0.7 top-p=0.9",
)
"""What is compared by default. Where the model has a `no_repeat`, it holds for all of them."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tales")
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rule", action="append", help="a decoder with options, instead of the usual candidates")
    parser.add_argument("--show", type=int, default=0, help="texts of each candidate to print")
    parser.add_argument("--anchors", type=int, default=2, help=f"how many of {', '.join(reading.ANCHORS)}")
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args()
    options.rule = options.rule or CANDIDATES
    reading.judge(options)


if __name__ == "__main__":
    main()
