"""How well a model's text reads: `python -m tests.benchmarks.reading judge FOLDER`.

FOLDER holds train.txt and tuning.txt (`python -m tests.benchmarks.tales prepare FOLDER`). Texts of `--words` words
continue the same prompts, which begin paragraphs of the tuning part:

    judge   measures each rule's texts beside real text, a word-trigram sampler and shuffled real text
    pairs   writes pairs of texts of two writers, their order hidden, for readers who do not know which is which
    count   counts the readers' votes

A rule is a decoder with options, such as "confidence threshold=0.7"; `default` is the model's own.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tdiff.config.decoding import parse_decoder
from tdiff.core.diffusion.generate import generate, opening
from tdiff.core.evaluation.ngrams import WordNGrams, pieces, sentence_lengths
from tdiff.core.evaluation.quality import Judge, words
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError

PROMPT = 4
"""Words of a prompt."""
_VOTES = ("first", "second", "equal")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text with its prompt."""

    prompt: str
    text: str
    """It begins with the prompt."""


def passages(text: str, count: int, length: int, seed: int) -> list[Passage]:
    """`count` passages of `length` words that begin paragraphs and go on over the paragraphs after them."""
    starts = [match.start() for match in re.finditer(r"(?<=\n)(?=[^\n])", text)]
    random.Random(seed).shuffle(starts)
    chosen = []
    for start in starts:
        part = pieces(text[start : start + 12 * length])
        prompt, passage = cut(part, PROMPT), cut(part, length)
        if "\n" not in prompt and len(words(passage)) == length:
            chosen.append(Passage(prompt, passage))
        if len(chosen) == count:
            break
    return chosen


def cut(parts: Sequence[str], count: int) -> str:
    """The first `count` words with the marks between them."""
    text, left = "", count
    for part in parts:
        is_word = bool(words(part))
        if is_word and not left:
            break
        left -= is_word
        text += part
    return text.rstrip()


class Writers:
    """The writers of texts, by name; each writes a text of `length` words after a passage's prompt."""

    def __init__(self, folder: Path, length: int, seed: int) -> None:
        self.training = (folder / "train.txt").read_text("utf-8")
        self.tuning = (folder / "tuning.txt").read_text("utf-8")
        self.judge = WordNGrams(self.training)
        self.length, self.seed = length, seed
        self.calls: dict[str, list[float]] = {}
        self._models: dict[str, LoadedModel] = {}

    def write(self, name: str, passages: Sequence[Passage]) -> list[Passage]:
        """A text for each real passage by the writer `name`: real, trigram, shuffled, or MODEL:RULE.

        They have the passages' prompts, unless the model's vocabulary lacks a character of them.
        """
        fixed: dict[str, Callable[[int, Passage], Passage]] = {
            "real": lambda n, passage: passage,
            "trigram": self._trigram,
            "shuffled": self._shuffled,
        }
        writer = fixed.get(name) or self._model(name)
        written = [writer(n, passage) for n, passage in enumerate(passages)]
        return [Passage(text.prompt, cut(pieces(text.text), self.length)) for text in written]

    def _trigram(self, n: int, passage: Passage) -> Passage:
        text = self.judge.sample(passage.prompt, 9 * self.length, self.seed + n)
        return Passage(passage.prompt, text)

    def _shuffled(self, n: int, passage: Passage) -> Passage:
        parts = pieces(passage.text[len(passage.prompt) :])
        random.Random(self.seed + n).shuffle(parts)
        return Passage(passage.prompt, passage.prompt + "".join(parts))

    def _model(self, name: str) -> Callable[[int, Passage], Passage]:
        model_name, _, rule = name.partition(":")
        model = self._models.setdefault(model_name, load_model(model_name))
        options = {} if rule in ("", "default") else parse_decoder(rule)
        settings = model.decode_settings(options, self.seed)

        def write(n: int, passage: Passage) -> Passage:
            try:
                prompt, tokens = passage.prompt, len(model.tokenizer.encode(passage.text))
            except TdiffError:  # it has other characters: its own prompt, and as many characters
                prompt, tokens = opening(model, self.seed, n), len(passage.text)
            length = tokens * 5 // 4 + 8
            step = deque(generate(model, [prompt], settings, length=length, rows=[n]), maxlen=1).pop()
            text = model.tokenizer.decode(step.tokens[0])
            self.calls.setdefault(name, []).append(int(step.calls[0]) / max(1, len(text) - len(prompt)))
            return Passage(prompt, text)

        return write


def repeated(text: str) -> int:
    """The length of the longest span that occurs twice in a text."""
    low, high = 0, len(text) - 1
    while low < high:
        size = (low + high + 1) // 2
        spans = [text[i : i + size] for i in range(len(text) - size + 1)]
        low, high = (size, high) if len(set(spans)) < len(spans) else (low, size - 1)
    return max(0, low)


def judge(options: argparse.Namespace) -> None:
    """Measure the texts of each writer and print a table."""
    writers = Writers(options.folder, options.words, options.seed)
    chosen = passages(writers.tuning, options.texts, options.words, options.seed)
    copies, vocabulary = Judge(writers.training), set(words(writers.training))
    names = ["real", "trigram", "shuffled", *(f"{options.model}:{rule}" for rule in options.rule or ["default"])]
    print(f"{len(chosen)} texts of {options.words} words after {PROMPT} words of prompt, seed {options.seed}")
    print("word nats/char  trigrams seen  known words  words/sentence  repeated  copied  calls/char  writer")
    for name in names:
        texts = writers.write(name, chosen)
        written = [text.text[len(text.prompt) :] for text in texts]
        said = [word for text in written for word in words(text)]
        lengths = [length for text in written for length in sentence_lengths(text)]
        nats = fmean(writers.judge.nats(text.text, len(text.prompt)) for text in texts)
        calls = writers.calls.get(name)
        print(
            f"{nats:14.3f}  {fmean(writers.judge.seen_share(text.text) for text in texts):13.1%}  "
            f"{sum(word in vocabulary for word in said) / len(said):11.1%}  "
            f"{fmean(lengths) if lengths else 0:14.1f}  {max(map(repeated, written)):8d}  "
            f"{len(copies.copied(written)):6d}  {f'{fmean(calls):.3f}' if calls else '':>10s}  {name}",
            flush=True,
        )
        if options.show:
            print("\n".join(f"    {text.text!r}" for text in texts[: options.show]))


def pairs(options: argparse.Namespace) -> None:
    """Write pairs.jsonl, which readers see, and key.json, which they do not."""
    writers = Writers(options.folder, options.words, options.seed)
    chosen = passages(writers.tuning, options.texts, options.words, options.seed)
    first, second = (writers.write(name, chosen) for name in (options.a, options.b))
    coin, shown, key = random.Random(options.seed), [], []
    for n, (a, b) in enumerate(zip(first, second, strict=True)):
        swapped = coin.random() < 0.5
        shown.append({"pair": n, "first": (b if swapped else a).text, "second": (a if swapped else b).text})
        key.append("b" if swapped else "a")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(pair) + "\n" for pair in shown)
    (options.out / "pairs.jsonl").write_text(lines, encoding="utf-8")
    (options.out / "key.json").write_text(json.dumps({"a": options.a, "b": options.b, "first": key}), encoding="utf-8")
    print(f"{options.out / 'pairs.jsonl'}: {len(shown)} pairs; votes are lines such as")
    print('{"pair": 0, "grammar": "first", "sense": "equal"}')


def count(options: argparse.Namespace) -> None:
    """Count the votes of one or more files beside the key."""
    key = json.loads((options.out / "key.json").read_text("utf-8"))
    for question in ("grammar", "sense"):
        total = {"a": 0, "b": 0, "equal": 0}
        for file in options.votes:
            for line in file.read_text("utf-8").splitlines():
                vote = json.loads(line)
                if vote[question] not in _VOTES:
                    raise SystemExit(f"{file}: a vote is first, second or equal; got {vote[question]!r}")
                first = key["first"][vote["pair"]]
                winner = {"first": first, "second": "b" if first == "a" else "a"}.get(vote[question], "equal")
                total[winner] += 1
        decided = total["a"] + total["b"]
        share = f"{total['a'] / decided:.0%} of the decided" if decided else "none decided"
        print(f"{question}: {key['a']} {total['a']}, {key['b']} {total['b']}, equal {total['equal']} ({share})")


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
        else:
            command.add_argument("--out", type=Path, required=True)
        if name == "pairs":
            command.add_argument("--a", required=True, help="real, trigram, shuffled or MODEL:RULE")
            command.add_argument("--b", required=True)
        if name == "count":
            command.add_argument("votes", type=Path, nargs="+")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
