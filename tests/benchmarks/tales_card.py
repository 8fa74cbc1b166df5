"""The model card of the shipped storyteller, each figure from a file that a command wrote."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tdiff import formatting
from tdiff.core.models.base import LoadedModel
from tdiff.runs.run import Run

_LONGEST_PAUSE = 300.0
"""Seconds between two records of training beyond which it had stopped."""
UNMEASURED = "not measured yet"


def card(
    model: LoadedModel,
    size: int,
    run: Run,
    text: tuple[str, str],
    evaluation: Mapping[str, Any] | None,
    judged: Mapping[str, Any] | None,
    votes: Sequence[Mapping[str, Any]],
) -> str:
    """The card of a model of `size` bytes, trained as its `run` says; `text` is a command and what it printed.

    `evaluation` is the output of `tdiff eval --json` on the held-out books, `judged` and `votes` those of
    `tests.benchmarks.reading` with `--json`. What is missing is said to be not measured.
    """
    shape, origin = model.network.shape, model.origin  # type: ignore[attr-defined]
    parameters = sum(p.numel() for p in model.network.parameters())  # type: ignore[attr-defined]
    hours = training_seconds(run.events) / 3600
    falling = round(run.settings().train.decay * origin.steps)
    command, printed = text
    parts = [
        f"# {model.name}",
        f"A masked-diffusion model of children's stories: {parameters / 1e6:.2f}M parameters ({shape.layers} layers, "
        f"{shape.heads} heads, {shape.width} wide, context length {shape.window} tokens, convolution over {shape.conv} "
        f"positions, {shape.vocab_size:,} tokens of byte-pair encoding), {formatting.size(size)} with large matrices "
        "in 8 bits.",
        "**How it was made.** `tdiff train` with the settings in `config.toml`, those of `configs/tales.toml` with its "
        "own number of steps: 6.9 million words of stories and fairy tales in the public domain, continuous time, "
        f"linear schedule, mask ratios from 0.1 up, Muon and AdamW, {origin.steps:,} steps (the learning rate falls "
        f"over the last {falling:,}), {origin.tokens / 1e6:.1f}M tokens, {hours:.1f} hours on a shared machine of two "
        "CPU cores. Its loss and samples are in `events.jsonl`.",
        f"**Bound.** {_bound(evaluation)}",
        f"**How it generates.** With `{' '.join(origin.decoding)}`, chosen on the last 2% of the training part. "
        + _read(judged),
        *[_vote(vote) for vote in votes],
        f"`{command}`:",
    ]
    paragraphs = [textwrap.fill(part, 120, break_long_words=False, break_on_hyphens=False) for part in parts]
    example = textwrap.indent("\n".join(textwrap.fill(line, 100) for line in printed.splitlines()), "    ")
    limits = (
        "**What it is not for.** Sentences hang together, stories do not: it knows the style of its books and nothing "
        "of the world. The books are of their time, with its views of peoples, sexes and classes; fairy tales contain "
        "violence and death. Do not show its texts to children unread."
    )
    return "\n\n".join([*paragraphs, example, textwrap.fill(limits, 120)]) + "\n"


def training_seconds(events: Path) -> float:
    """The seconds of training in an event log: the time between records, without pauses."""
    times = []
    for line in events.read_text("utf-8").splitlines():
        record = json.loads(line)
        if isinstance(record.get("time"), (int, float)):
            times.append(float(record["time"]))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return sum(gap for gap in gaps if 0 <= gap <= _LONGEST_PAUSE)


def _bound(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return f"On the held-out books: {UNMEASURED}."
    bound, token = evaluation["nats_per_char"], evaluation["nats_per_token"]
    limits = [value * bound / token for value in evaluation["interval_95"] if value is not None]
    interval = f" (95% interval {limits[0]:.3f} to {limits[1]:.3f})" if limits else ""  # one draw has none
    return (
        f"{bound:.3f} nats a character{interval}, {evaluation['bits_per_char']:.3f} bits a byte, on six whole books "
        "that were not trained on."
    )


def _read(judged: Mapping[str, Any] | None) -> str:
    if judged is None:
        return f"Its quality: {UNMEASURED}."
    [own] = [row for name, row in judged["rows"].items() if name.endswith(":default")]
    real = judged["rows"]["real"]
    return (
        f"In {judged['texts']} texts of {judged['words']} words, beside real text after the same prompts: "
        f"{own['words']['mean']:.1%} of the words occur in the training text (real text: {real['words']['mean']:.1%}), "
        f"the word-trigram judge gives {own['nats']['mean']:.2f} nats a character ({real['nats']['mean']:.2f}), the "
        f"longest repeated span has {own['longest_repeated']} characters ({real['longest_repeated']}), the longest "
        f"span copied from the training text {own['copied']} ({real['copied']}), and a token takes {own['calls']:.2f} "
        f"model calls, a character {own['calls_a_character']:.3f}."
    )


def _vote(vote: Mapping[str, Any]) -> str:
    shares = [
        f"{question} {vote[question]['preferred']:.0%} ({vote[question]['interval'][0]:.0%} to "
        f"{vote[question]['interval'][1]:.0%})"
        for question in ("grammar", "sense")
    ]
    return (
        f"**Blind test** of {vote['texts']} pairs of {vote['words']} words, {vote['readers']} readings, order hidden: "
        f"{vote['a']} preferred to {vote['b']} in {' and '.join(shares)} of the pairs (95% intervals)."
    )
