"""Decoding presets: `python -m tests.benchmarks.presets FOLDER --model NAME`.

FOLDER holds train.txt and tuning.txt (`python -m tests.benchmarks.tales prepare FOLDER`). Each candidate writes texts
of `--words` words after the same prompts of the tuning part; the table shows how they read beside real text, and what
they cost. `--rule` replaces the candidates; `--json FILE` saves the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from tests.benchmarks.measures import TITLE, Measure, row
from tests.benchmarks.writers import Writers, passages

CANDIDATES = (
    "confidence threshold=0.7",
    "confidence threshold=0.7 no-repeat=8",
    "topk k=4 temperature=0.5 no-repeat=8",
    "topk k=4 block=16 temperature=0.5 no-repeat=8",
    "topk k=2 block=16 temperature=0.5 no-repeat=8",
    "topk k=1 block=8 temperature=0.5 no-repeat=8",
    "entropy-bounded gamma=0.5 block=16 temperature=0.5 no-repeat=8",
    "factor factor=1 block=16 temperature=0.5 no-repeat=8",
    "autoregressive temperature=0.5 no-repeat=8",
)
"""What is compared by default."""


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
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args()
    writers = Writers(options.folder, options.words, options.seed)
    chosen = passages(writers.tuning, options.texts, options.words, options.seed)
    measure, rows = Measure(writers), {}
    print(f"{options.model}: {len(chosen)} texts of {options.words} words after the same prompts, seed {options.seed}")
    print(TITLE)
    for name in ["real", "trigram", *(f"{options.model}:{rule}" for rule in options.rule or CANDIDATES)]:
        texts = writers.write(name, chosen)
        rows[name] = measure(texts, writers.costs.get(name))
        print(row(name.removeprefix(f"{options.model}:"), rows[name]), flush=True)
        if options.show:
            print("\n".join(f"    {text.text!r}" for text in texts[: options.show]), flush=True)
    if options.json:
        table = {name: dataclasses.asdict(measures) for name, measures in rows.items()}
        details = {"model": options.model, "texts": options.texts, "words": options.words, "seed": options.seed}
        options.json.write_text(json.dumps(details | {"rows": table}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
