"""Quality of the default samples of a model: `python -m tests.benchmarks.samples`.

Texts as `tdiff generate` writes them without options, from the stored prompts of the model to its context length, and
texts of 2,000 characters on a sliding canvas. Prints the share of words that occur in the training text, how often the
most frequent line occurs in a long text, and the longest span copied from the training text, compared with that of as
much held-out text; and the same for tiny-diffusion's rule (confidence 0.9, greedy, batch 1) on the same weights.
"""

from __future__ import annotations

import argparse
from collections import Counter, deque
from statistics import fmean

from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.generate import default_prompt, generate
from tdiff.core.evaluation.corpora import corpus_of
from tdiff.core.evaluation.quality import Judge, words
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model

LONG = 2000


def write(model: LoadedModel, settings: DecodeSettings, row: int, length: int = 0) -> tuple[str, str, float]:
    """Write one text in a batch of its own. Returns its prompt, the text, and the model calls per character."""
    prompt = default_prompt(model, settings.seed, row)
    step = deque(generate(model, [prompt], settings, length=length, rows=[row]), maxlen=1).pop()
    text = model.tokenizer.decode(step.tokens[0])
    return prompt, text, int(step.calls[0]) / (len(text) - len(prompt))


def most_repeated(text: str) -> tuple[int, str]:
    """How often the most frequent line of a text occurs, and the line; blank lines do not count."""
    counted = Counter(line.strip() for line in text.splitlines() if line.strip())
    line, count = counted.most_common(1)[0]
    return count, line


def main() -> None:
    """Write the texts and print their quality."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="shakespeare")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--long", type=int, default=3, help=f"texts of {LONG:,} characters")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = load_model(options.model)
    training, held_out = corpus_of(model, (), None).split(model.origin.held_out)
    judge, vocabulary = Judge(training), set(words(training))
    rules = {
        "default": model.decode_settings({}, options.seed),
        "tiny-diffusion's rule": DecodeSettings(
            decoder="confidence", threshold=0.9, temperature=0.0, seed=options.seed
        ),
    }
    for name, settings in rules.items():
        made = [write(model, settings, row) for row in range(options.samples)]
        if name == "default":
            print("\n----\n".join(text for _, text, _ in made), end="\n\n")
        texts = [text for _, text, _ in made]
        qualities = [judge.measure(prompt, text) for prompt, text, _ in made]
        said = [word for text in texts for word in words(text)]
        real = [held_out[i * 7919 % (len(held_out) - 256) :][:256] for i in range(options.samples)]
        print(f"{name}: {settings.decoder}")
        print(f"  calls a character     {fmean(calls for _, _, calls in made):.3f}")
        print(f"  vocabulary words      {sum(word in vocabulary for word in said) / len(said):.1%}")
        print(f"  judge, nats           {fmean(q.nats for q in qualities):.3f}")
        print(f"  distinct 4-grams      {fmean(q.distinct for q in qualities):.3f}")
        print(f"  longest copied span   {len(judge.copied(texts))} (real text: {len(judge.copied(real))})")
    for row in range(options.long):
        _, text, calls = write(model, rules["default"], row, LONG)
        count, line = most_repeated(text)
        print(
            f"text of {LONG:,} characters: a line stands {count} times at most ({line!r}); "
            f"{calls:.3f} calls a character"
        )


if __name__ == "__main__":
    main()
