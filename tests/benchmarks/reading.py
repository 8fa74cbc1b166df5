"""How well a model's text reads: `python -m tests.benchmarks.reading judge FOLDER`.

FOLDER holds train.txt and tuning.txt (`python -m tests.benchmarks.tales prepare FOLDER`). Texts of `--words` words
continue the same prompts, which begin paragraphs of the tuning part:

    judge   measures each rule's texts beside real text, a word-trigram sampler and shuffled real text
    pairs   writes pairs of texts of two writers, their order hidden, for readers who do not know which is which
    count   counts the readers' votes, one file for each reader

    baselines   the nats a character of n-gram models of the training part on a file, which a model's bound is beside

A rule is a decoder with options, such as "confidence threshold=0.7", a preset (`fast`, `best`), or `default`, the
model's own settings. Passages and seeds are fixed by `--seed` before a text exists; no text is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from tdiff.core.evaluation.ngrams import CharacterNGrams, WordNGrams
from tdiff.core.evaluation.quality import words
from tests.benchmarks.blind import QUESTIONS, described, hidden_order, outcome, votes_of
from tests.benchmarks.measures import TITLE, Measure, row
from tests.benchmarks.writers import PROMPT, Writers, passages

ANCHORS = ("real", "trigram", "shuffled")
"""Writers beside which a model's texts are measured."""


def judge(options: argparse.Namespace) -> None:
    """Measure the texts of each writer and print a table."""
    writers = Writers(options.folder, options.words, options.seed)
    chosen = passages(writers.tuning, options.texts, options.words, options.seed)
    measure, rows = Measure(writers), {}
    print(f"{len(chosen)} texts of {options.words} words after {PROMPT} words of prompt, seed {options.seed}")
    print(TITLE, flush=True)
    for name in [*ANCHORS[: options.anchors], *(f"{options.model}:{rule}" for rule in options.rule or ["default"])]:
        texts = writers.write(name, chosen)
        rows[name] = measure(texts, writers.costs.get(name))
        print(row(name.removeprefix(f"{options.model}:"), rows[name]), flush=True)
        if options.show:
            print("\n".join(f"    {text.text!r}" for text in texts[: options.show]), flush=True)
    if options.json:
        table = {name: dataclasses.asdict(measures) for name, measures in rows.items()}
        details = {name: getattr(options, name) for name in ("model", "texts", "words", "seed")}
        options.json.write_text(json.dumps(details | {"rows": table}, indent=2) + "\n", encoding="utf-8")


def pairs(options: argparse.Namespace) -> None:
    """Write OUT/pairs.jsonl, which readers see, and the key, which they do not."""
    writers = Writers(options.folder, options.words, options.seed)
    chosen = passages(writers.tuning, options.texts, options.words, options.seed)
    first, second = (writers.write(name, chosen) for name in (options.a, options.b))
    swapped = hidden_order(len(chosen), options.seed)
    shown = []
    for n, (a, b) in enumerate(zip(first, second, strict=True)):
        assert len(words(a.text)) == len(words(b.text)) == options.words, "a writer writes texts of one length"
        # Line breaks would tell writers apart that have learned another layout.
        both = [" ".join(text.text.split()) for text in ((b, a) if swapped[n] else (a, b))]
        shown.append({"pair": n, "first": both[0], "second": both[1]})
    options.out.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(pair) + "\n" for pair in shown)
    (options.out / "pairs.jsonl").write_text(lines, encoding="utf-8")
    details = {name: getattr(options, name) for name in ("a", "b", "texts", "words", "seed")}
    options.key.write_text(json.dumps(details | {"b_first": swapped}) + "\n", encoding="utf-8")
    print(
        f"{options.out / 'pairs.jsonl'}: {len(shown)} pairs, whose key is {options.key}; a reader writes a line a pair:"
    )
    print('{"pair": 0, "grammar": "first", "sense": "equal"}')


def count(options: argparse.Namespace) -> None:
    """Count the votes of one or more readers, and print the outcome of each question."""
    key = json.loads(options.key.read_text("utf-8"))
    readers = [votes_of(file.read_text("utf-8").splitlines(), len(key["b_first"]), str(file)) for file in options.votes]
    print(f"a: {key['a']}  b: {key['b']}  {key['texts']} pairs of {key['words']} words, {len(readers)} readers")
    results = {question: outcome(readers, key["b_first"], question) for question in QUESTIONS}
    for question, result in results.items():
        print(described(question, result, "a"))
    if options.json:
        table = {
            q: dataclasses.asdict(r) | {"preferred": r.preferred, "interval": r.interval} for q, r in results.items()
        }
        del key["b_first"]
        options.json.write_text(json.dumps(key | {"readers": len(readers)} | table, indent=2) + "\n", encoding="utf-8")


def baselines(options: argparse.Namespace) -> None:
    """Print the nats a character of a character 5-gram and a word-trigram model, both of Witten-Bell's kind."""
    training, text = ((options.folder / name).read_text("utf-8") for name in ("train.txt", options.on))
    print(f"{options.on}: {len(text):,} characters, {len(text.encode()):,} bytes")
    for name, model in (("character 5-gram", CharacterNGrams), ("word trigram", WordNGrams)):
        order = 5 if model is CharacterNGrams else 3
        print(f"{name:<17} {model(training, order).nats(text):.4f} nats a character", flush=True)


def main() -> None:
    """Run the selected command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in {"judge": judge, "pairs": pairs, "count": count}.items():
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name != "count":
            command.add_argument("folder", type=Path)
            command.add_argument("--texts", type=int, default=40)
            command.add_argument("--words", type=int, default=60)
            command.add_argument("--seed", type=int, default=1)
        if name == "judge":
            command.add_argument("--model", default="tales")
            command.add_argument("--rule", action="append", help="a decoder with options; repeat for several")
            command.add_argument("--show", type=int, default=0, help="texts to print")
            command.add_argument("--anchors", type=int, default=len(ANCHORS), help=f"how many of {', '.join(ANCHORS)}")
        else:
            command.add_argument("--key", type=Path, required=True, help="file of the hidden order, outside of --out")
        if name == "pairs":
            command.add_argument("--out", type=Path, required=True, help="folder for the readers")
            command.add_argument("--a", required=True, help="real, trigram, shuffled or MODEL:RULE")
            command.add_argument("--b", required=True)
        if name == "count":
            command.add_argument("votes", type=Path, nargs="+", help="one file for each reader")
        if name != "pairs":
            command.add_argument("--json", type=Path, help="file for the results")
    command = commands.add_parser("baselines")
    command.set_defaults(run=baselines)
    command.add_argument("folder", type=Path)
    command.add_argument("--on", default="tuning.txt", help="a file of the folder")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
