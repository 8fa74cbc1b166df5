"""Wordings of lines: splits in brackets, counts in messages, repeated best values, and plans among settings."""

# ruff: noqa: E501 - lines of logs are as long as they are

import pytest

from tests.watch.formats.test_kinds import reading

LOSSES = [4.5, 4.1, 3.6, 3.4, 2.9, 2.7, 2.55, 2.3]


def log(line, held="", head=(), tail=()):
    """A line for each loss, at the steps 10, 20 ... 80 or the epochs 1, 2 ... 8, and perhaps further lines."""
    lines = [*head]
    for n, loss in enumerate(LOSSES, 1):
        lines.append(line.format(n=10 * n, e=n, x=f"{loss:.4f}", v=f"{loss + 0.2:.4f}"))
        if held and n % 4 == 0:
            lines.append(held.format(n=10 * n, e=n, x="4.2000"))
    return [*lines, *tail]


def by_epoch(held=8, total=None):
    return (8, pytest.approx((8, 2.3)), held, pytest.approx(2.5) if held else None, total)


def by_step(held=None, total=None):
    return (8, pytest.approx((80, 2.3)), 2 if held else 0, held, total)


@pytest.mark.parametrize(
    "line",
    ["Époque {e}/8 - perte (entraînement) : {x} - perte (validation) : {v}", "Epoche {e}/8 - Verlust (Training): {x} - Verlust (Validierung): {v}",
     "Época {e}/8 | pérdida (entrenamiento) = {x} | pérdida (validación) = {v}", "Эпоха {e}/8: потери (обучение): {x}, потери (валидация): {v}",
     "轮次 {e}/8 损失（训练）：{x} 损失（验证）：{v}", "epoch {e}/8: loss (train) {x}, loss (val) {v}", "epoch {e}/8 loss[train]={x} loss[val]={v}",
     "epoch {e}/8 loss(train)={x} acc(train)=0.3 loss(dev)={v} acc(dev)=0.5", "epoch {e}/8 cross entropy (train): {x}; cross entropy (test set): {v}",
     "epoch {e}/8 loss (train, mean): {x} loss (val, mean): {v}", "epoch {e}/8: loss on the training set {x}, loss on the validation set {v}",
     "epoch {e}/8 train/val loss: {x}/{v}", "epoch {e}/8 loss (train/val): {x} / {v}", "epoch {e}/8 val/train loss {v} | {x}"],
)  # fmt: skip
def test_a_split_beside_the_name_tells_the_losses_apart(line):
    assert reading(log(line)) == by_epoch(total=8)


@pytest.mark.parametrize(
    "line", ["epoch {e} loss (mean): {x}", "epoch {e} loss (train): {x} acc (val): 0.4", "epoch {e} loss[0]: {x}"]
)
def test_other_words_in_brackets_are_no_evaluation(line):
    assert reading(log(line)) == by_epoch(held=0)


@pytest.mark.parametrize(
    "end",
    ["[Info] Early stopping at round 8, best round 5 (valid loss 1.234)", "Best round: 5 (valid loss: 1.234)", "best iteration 5, valid loss 1.234",
     "Stopped early after 8 rounds. Best: round 5 valid loss 1.234", "Restored weights of the best round 5 (valid loss 1.234).",
     "Meilleure époque : 5 (perte de validation 1.234)", "reverting to epoch 5 (valid loss 1.234)", "early stopping triggered: valid loss 1.234 did not improve"],
)  # fmt: skip
def test_a_value_of_the_best_step_is_no_record(end):
    assert reading(log("epoch {e} loss {x} valid loss {v}", tail=[end])) == by_epoch()


def test_a_count_of_patience_leaves_a_record_as_it_is():
    assert reading(log("epoch {e} loss {x} valid loss {v} early_stopping=1/5")) == by_epoch()
    assert reading(log("epoch {e} best epoch 1, loss {x} valid loss {v}")) == by_epoch()


@pytest.mark.parametrize(
    "head",
    ["num_rounds=600 early_stopping_rounds=40 learning_rate=0.08", "num_boost_round: 600, eta: 0.1", "n_estimators=600", "params: nrounds = 600",
     "max_iter=600 tol=1e-4", "iterations=600 depth=6 learning_rate=0.03", "$ python train.py --iters 600 --lr 1e-3", "argv: ['train.py', '--iters', '600']"],
)  # fmt: skip
def test_settings_and_options_tell_the_total(head):
    assert reading(log("iter {n} loss {x}", head=[head])) == by_step(total=600)


@pytest.mark.parametrize(
    "head",
    ["early_stopping_rounds=600 lr=0.1", "iterations=600", "resuming: iterations=600 depth=6 lr=0.1", "$ python train.py --warmup-iters 600 --eval-iters 700",
     "round number 600"],
)  # fmt: skip
def test_other_counts_are_no_total(head):
    assert reading(log("iter {n} loss {x}", head=[head])) == by_step()


@pytest.mark.parametrize(
    "pairs",
    ['"argv": ["python", "-m", "fit", "--iters", "600", "--beta", "0.5"]', '"cmd": "python fit.py --iters 600"', '"args": ["--max-steps=600"]',
     '"command": ["python", "fit.py", "trainer.max_steps=600"]', '"meta": {"argv": ["--iters", "600"]}'],
)  # fmt: skip
def test_a_command_line_in_a_record_tells_the_total(pairs):
    head = [f'{{"kind": "run", {pairs}, "time": 1718000400.0}}']
    lines = log(
        '{{"kind": "train", "iter": {n}, "loss": {x}}}', '{{"kind": "valid", "iter": {n}, "loss": {x}}}', head=head
    )
    assert reading(lines) == by_step(held=4.2, total=600)


@pytest.mark.parametrize(
    ("line", "held"),
    [("INFO net::train: batch n={n} epoch=1 loss={x} lr=1e-4", "INFO net::eval: dev set epoch=1 loss={x}"),
     ("step i={n} loss={x} lr=1e-4", "validation step i={n} loss={x}"), ("iteration no={n} loss={x}", "held-out set iteration={n} loss={x}"),
     ("update idx={n} epoch=0 loss={x}", "eval epoch=0 loss={x}")],
)  # fmt: skip
def test_a_word_of_the_message_says_what_a_letter_counts(line, held):
    lines = log(line, held, head=["INFO net: starting epochs=5 total_batches=7520"])
    assert reading(lines) == by_step(held=4.2, total=7520)
