"""A blind test: pairs of texts whose order is hidden, and votes for them.

The unit is the pair. Readers of one pair agree more than readers of two, so votes are not independent: a pair counts
once, for the writer that most of its readers prefer, and the interval is over pairs.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdiff.core.evaluation.metrics import wilson

QUESTIONS = ("grammar", "sense")
VOTES = ("first", "second", "equal")


def hidden_order(count: int, seed: int) -> list[bool]:
    """For each pair, whether its second writer's text is shown first: in half of the pairs, which ones by chance."""
    order = [n % 2 == 1 for n in range(count)]
    random.Random(f"order of the pairs, {seed}").shuffle(order)
    return order


def votes_of(lines: Sequence[str], pairs: int, source: str) -> dict[int, dict[str, str]]:
    """The votes of one reader: pair -> question -> vote.

    Raises SystemExit unless there is one valid line for each pair.
    """
    votes: dict[int, dict[str, str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            vote: Any = json.loads(line)
        except ValueError:
            raise SystemExit(f"{source}, line {number}: it is not JSON") from None
        pair = vote.get("pair") if isinstance(vote, dict) else None
        if type(pair) is not int or not 0 <= pair < pairs:
            raise SystemExit(f"{source}, line {number}: pair must be a number from 0 to {pairs - 1}; got {pair!r}")
        if pair in votes:
            raise SystemExit(f"{source}, line {number}: pair {pair} has a vote already")
        for question in QUESTIONS:
            if vote.get(question) not in VOTES:
                raise SystemExit(
                    f"{source}, line {number}: {question} must be first, second or equal; got {vote.get(question)!r}"
                )
        votes[pair] = {question: vote[question] for question in QUESTIONS}
    if missing := sorted(set(range(pairs)) - votes.keys()):
        raise SystemExit(f"{source}: {len(missing)} of {pairs} pairs have no vote, the first is {missing[0]}")
    return votes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one question."""

    a: int
    """Pairs that most readers decided for the writer a."""
    b: int
    equal: int
    """Pairs without a majority for either."""
    p: float
    """Two-sided p of an exact sign test over the decided pairs; 1 without any."""
    agreement: float | None
    """Share of pairs of readers that gave the same vote; None for one reader."""
    first: float
    """Share of the decided votes that went to the text shown first: 0.5 without a bias of position."""

    @property
    def preferred(self) -> float:
        """The share of all pairs in which a is preferred."""
        return self.a / (self.a + self.b + self.equal)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `preferred` (Wilson 1927)."""
        return wilson(self.a, self.a + self.b + self.equal)


def outcome(readers: Sequence[Mapping[int, Mapping[str, str]]], b_first: Sequence[bool], question: str) -> Outcome:
    """The outcome of a question by the votes of at least one reader; `b_first`: the hidden order."""
    majorities: Counter[str] = Counter()
    same = compared = shown_first = decided = 0
    for pair, swapped in enumerate(b_first):
        given = [reader[pair][question] for reader in readers]
        names = {"first": "b" if swapped else "a", "second": "a" if swapped else "b", "equal": "equal"}
        counts = Counter(names[vote] for vote in given)
        majorities["a" if counts["a"] > counts["b"] else "b" if counts["b"] > counts["a"] else "equal"] += 1
        same += sum(x == y for n, x in enumerate(given) for y in given[:n])
        compared += len(given) * (len(given) - 1) // 2
        shown_first += given.count("first")
        decided += len(given) - given.count("equal")
    return Outcome(
        a=majorities["a"],
        b=majorities["b"],
        equal=majorities["equal"],
        p=sign_test(majorities["a"], majorities["b"]),
        agreement=same / compared if compared else None,
        first=shown_first / decided if decided else 0.5,
    )


def sign_test(a: int, b: int) -> float:
    """The two-sided p of `a` against `b` decisions, if both were as likely."""
    tail = sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b)
    return min(1.0, 2 * tail)


def described(question: str, result: Outcome, a: str) -> str:
    """The outcome in one line."""
    low, high = result.interval
    every = result.a + result.b + result.equal
    agreement = "" if result.agreement is None else f"; readers agree on {result.agreement:.0%}"
    return (
        f"{question}: {a} is preferred in {result.a} of {every} pairs, {result.preferred:.0%} "
        f"(95% interval {low:.0%} to {high:.0%}), the other in {result.b}, neither in {result.equal}; "
        f"sign test p {result.p:.2g}{agreement}; the text shown first got {result.first:.0%} of the decided votes"
    )
