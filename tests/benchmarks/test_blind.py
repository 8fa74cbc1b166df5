"""The counting of a blind test."""

import json

import pytest

from tests.benchmarks.blind import described, hidden_order, outcome, sign_test, votes_of


def lines(*votes: str) -> list[str]:
    return [json.dumps({"pair": n, "grammar": vote, "sense": "equal"}) for n, vote in enumerate(votes)]


def test_half_of_the_pairs_are_swapped_in_an_order_that_the_seed_fixes():
    order = hidden_order(40, 1)
    assert sum(order) == 20 and order == hidden_order(40, 1) != hidden_order(40, 2)
    assert sum(hidden_order(7, 3)) == 3


def test_a_pair_counts_once_for_the_writer_that_most_readers_prefer():
    readers = [votes_of(lines(*votes), 4, "x") for votes in (
        ("first", "first", "second", "equal"),
        ("first", "second", "second", "first"),
        ("first", "second", "equal", "second"),
    )]  # fmt: skip
    result = outcome(readers, [False, True, True, False], "grammar")
    # Pair 0: a three times. Pair 1, swapped: b once, a twice. Pair 2, swapped: a twice. Pair 3: each once.
    assert (result.a, result.b, result.equal) == (3, 0, 1)
    assert result.preferred == 0.75 and result.interval == pytest.approx((0.3006, 0.9544), abs=1e-3)
    assert result.p == pytest.approx(0.25)
    assert result.agreement == pytest.approx((3 + 1 + 1 + 0) / 12)
    assert result.first == pytest.approx(5 / 10)
    assert "a is preferred in 3 of 4 pairs, 75% (95% interval 30% to 95%)" in described("grammar", result, "a")
    assert outcome(readers, [False] * 4, "sense").equal == 4


def test_the_sign_test_is_the_exact_binomial_test():
    assert sign_test(0, 0) == 1 and sign_test(3, 3) == 1
    assert sign_test(9, 1) == pytest.approx(22 / 1024) == sign_test(1, 9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lines("first"), "1 of 2 pairs have no vote, the first is 1"),
        ([*lines("first", "first"), *lines("first")], "line 3: pair 0 has a vote already"),
        (lines("first", "1st"), "line 2: grammar must be first, second or equal; got '1st'"),
        (lines("first", "first", "first"), "line 3: pair must be a number from 0 to 1; got 2"),
        (["{"], "line 1: it is not JSON"),
    ],
)
def test_votes_that_are_missing_double_or_wrong_are_refused(text, says):
    with pytest.raises(SystemExit, match=says):
        votes_of(text, 2, "votes.jsonl")
