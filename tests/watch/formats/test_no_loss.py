"""Numbers that could be taken for the loss, and are not: rates, accuracies, terms, totals of other things."""

# ruff: noqa: E501 - lines of logs are as long as they are

import math

import pytest

from tests.support.fed import FedState

LOSSES = [5 - 0.1 * n - 0.01 * (n % 3) for n in range(10)]
RISING = [0.5 + 0.03 * n for n in range(10)]


def of(line) -> list[str]:
    return [line(n, LOSSES[n], RISING[n]) for n in range(10)]


NO_LOSS = {
    "a rate without a name": of(lambda n, x, a: f"epoch {n}: {0.1 * 0.5**n:.5f}"),
    "a cosine without a name": of(lambda n, x, a: f"epoch {n}: {0.05 * (1 + math.cos(math.pi * n / 10)):.5f}"),
    "an accuracy without a name": of(lambda n, x, a: f"Epoch {n}: {a:.3f}"),
    "accuracies of two splits": of(lambda n, x, a: f"Epoch {n} | train {a:.3f} | valid {a - 0.02:.3f}"),
    "falling accuracies of two splits": of(lambda n, x, a: f"Epoch {n} | acc: train {x / 9:.3f}, valid {x / 9.1:.3f}"),
    "the same without signs": of(lambda n, x, a: f"Epoch {n} accuracy train {x / 9:.3f} valid {x / 9.1:.3f}"),
    "sizes of splits": [f"epoch {n} train {50_000 - n} valid {1_000 - n}" for n in range(10)],
    "columns of accuracies": ["epoch,train,valid", *of(lambda n, x, a: f"{n},{a},{a}")],
    "a total of seconds": of(lambda n, x, a: f"step {n} | total {x:.2f} | attn 1.20 | mlp 2.10 | comm 0.30"),
    "a total of rewards": of(lambda n, x, a: f"episode {n} | total {x:.2f} | win 0.30 | length 1.20"),
    "one term by name": of(lambda n, x, a: f"step {n} | recon {x:.3f} | kl_loss {a:.3f}"),
    "terms": of(lambda n, x, a: f"step {n} seg_loss={x:.3f} depth_loss={a:.3f}"),
    "terms on lines of their own": [line for n, x in enumerate(LOSSES) for line in (f"step {n} seg_loss={x}", f"step {n} depth_loss=0.{n}")],
    "terms of reinforcement learning": of(lambda n, x, a: f"update {n} value_loss={x:.3f} policy_loss=0.01"),
    "a term alone": of(lambda n, x, a: f"step {n} value_loss={x:.3f}"),
    "a lone loss without a count": of(lambda n, x, a: f"bpr_loss={x:.3f}"),
    "the best so far": of(lambda n, x, a: f"epoch {n} best_bpr_loss={x:.3f}"),
    "a weight": of(lambda n, x, a: f"epoch {n} loss_weight={x:.3f}"),
    "records of other names": ["step,metric,value", *of(lambda n, x, a: f"{n},lr,{x}")],
}  # fmt: skip


@pytest.mark.parametrize("name", NO_LOSS)
def test_what_only_resembles_a_loss_is_not_drawn_as_one(name):
    run = FedState("log")
    run.feed(NO_LOSS[name])
    assert "train/loss" not in run.metrics and "eval/loss" not in run.metrics


def test_accuracies_of_splits_beside_a_loss_are_no_loss():
    run = FedState("log")
    run.feed(of(lambda n, x, a: f"Epoch: {n}, Loss: {x:.3f}, Train: {1 - a:.3f}, Val: {1 - a:.3f}"))
    assert run.metrics["train/loss"].last == (9, pytest.approx(4.1)) and "eval/loss" not in run.metrics


def test_a_whole_loss_replaces_the_name_that_stood_for_it():
    run = FedState("log")
    run.feed(
        [line for n, x in enumerate(LOSSES) for line in (f"step {n} mlm_loss={x:.3f}", f"step {n} loss={x + 1:.3f}")]
    )
    assert run.metrics["train/loss"].last == (9, pytest.approx(5.1))
    assert run.metrics["mlm_loss"].last == (9, pytest.approx(4.1))


def test_training_after_an_evaluation_is_training_again():
    run = FedState("log")
    run.feed(
        [line for n, x in enumerate(LOSSES) for line in (f"step {n} loss {x:.3f}", "Evaluating ...", "accuracy 0.5")]
    )
    assert (run.metrics["train/loss"].count, "eval/loss" in run.metrics) == (10, False)
