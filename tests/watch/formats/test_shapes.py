"""Logs of many programs, each read by what its names and numbers mean; every text here is made up."""

# ruff: noqa: E501 - lines of logs are as long as they are

import math
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from tdiff.watch.formats import documents, tables
from tdiff.watch.formats.assemble import Assembler
from tdiff.watch.formats.curves import Curves
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import meaning
from tdiff.watch.formats.text import LineReader
from tests.support.fed import FedState

LOSSES = [5 - 0.1 * n for n in range(8)]


@dataclass
class Seen:
    """A sink that keeps every point."""

    points_of: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    step: float | None = None
    total: float | None = None
    left: float | None = None

    def points(self, steps, values, times=None, tokens=None, since=None, *, training=True):
        for name, numbers in values.items():
            self.points_of[name] += zip(steps, numbers, strict=True)
        if training:
            self.step = steps[-1]

    def advance(self, step, total, left, elapsed):
        self.step, self.total, self.left = step, total or self.total, left

    def elapsed(self, seconds):
        pass

    def step_of(self, name, value):
        return None

    def rename(self, metric, name):
        self.points_of[name] = self.points_of.pop(metric)


def curves(lines: list[str]) -> Seen:
    """What the lines of a log say, as text."""
    return assembled(LineReader().read(line) for line in lines)


def assembled(rows) -> Seen:
    seen = Seen()
    collected = Curves(seen)
    assembler = Assembler(collected)
    for fields in rows:
        assembler.take(fields)
    assembler.release()
    collected.flush()
    return seen


def each(line, tail=()):
    """A line for each loss, and further lines."""
    return [line(n, loss) for n, loss in enumerate(LOSSES)] + list(tail)


def blocks(block, tail=()):
    return [line for n, loss in enumerate(LOSSES) for line in block(n, loss)] + list(tail)


E, T = [4.2], None
SHAPES = {
    "key colon value": (each(lambda n, x: f"step:{n * 10}/1390 train_loss:{x:.4f} train_time:{n}ms step_avg:8.17ms",
                             ["step:70/1390 val_loss:4.2000 train_time:9ms step_avg:8.17ms"]), 8, (70, 4.3), E, 1390),
    "bars between fields": (each(lambda n, x: f"step {n:4d}/19560 | loss {x:.6f} (+1.20z)| norm 0.5 (-0.20z)| lr 4e-05 | 310.2 ms",
                                 ["val loss 4.2"]), 8, (7, 4.3), E, 19560),
    "abbreviations": (["s:0 eval:0.24", *each(lambda n, x: f"s:{n} trl:{x:.4f} lr:0.0001 norm:0.5"), "s:7 tel:4.2"],
                      8, (7, 4.3), E, T),
    "blocks of equals": (blocks(lambda n, x: (f"[2024-03-04 10:00:0{n}] INFO     [olm.train:816, rank=0] [step={n * 10}/7390]",
                                              "    optim/total_grad_norm=3.2", f"    train/CrossEntropyLoss={x:.3f}",
                                              "    train/Perplexity=24,000", "    throughput/total_tokens=41,943,040")),
                         8, (70, 4.3), [], 7390),
    "glog": (each(lambda n, x: f"I0304 10:00:0{n}.123456 1234 solver.cpp:218] Iteration {n * 100} (12.3 iter/s), loss = {x:.4f}",
                  ["I0304 10:00:09.2 1234 solver.cpp:397]     Test net output #1: loss = 4.2 (* 1 = 4.2 loss)"]),
             8, (700, 4.3), E, T),
    "total among parts": (each(lambda n, x: f"[03/04 10:00:0{n} d2.utils]:  eta: 0:20:00  iter: {n * 20 + 19}  total_loss: {x:.3f}  "
                                            "loss_cls: 0.9  time: 0.5  lr: 0.001  max_mem: 2000M"), 8, (159, 4.3), [], T),
    "epoch and batch in brackets": (each(
        lambda n, x: f"2023/03/04 10:00:0{n} - mm - INFO - Epoch(train)  [{1 + n // 4}][{50 * (n % 4 + 1):4d}/200]  lr: 1.0e-02  "
                     f"eta: 0:10:00  time: 0.5  memory: 2000  loss: {x:.4f}  loss_cls: 0.5",
        ["2023/03/04 10:00:09 - mm - INFO - Epoch(val) [2][50/50]    accuracy/top1: 70.0  loss: 4.2"]), 8, (400, 4.3), E, 400),
    "epoch by the name of the split": (each(
        lambda n, x: f"Train: {n // 4} [{50 * (n % 4):4d}/200 ({25 * (n % 4):3d}%)]  Loss: {x:.3f} (5.00)  Time: 0.5s  LR: 1.0e-05",
        ["Test: [   0/50]  Time: 0.5 (0.5)  Loss:  4.2 (4.2)  Acc@1: 20.0 (20.0)"]), 8, (350, 4.3), E, 400),
    "samples of an epoch": (each(lambda n, x: f"Train Epoch: {n // 4 + 1} [{n % 4 * 640}/60000 ({n % 4}%)]\tLoss: {x:.6f}",
                                 ["", "Test set: Average loss: 4.2, Accuracy: 9800/10000 (98%)"]), 8, (61920, 4.3), E, T),
    "epoch and batch apart by tabs": (each(
        lambda n, x: f"Epoch: [{n // 4}][{10 * (n % 4):4d}/5005]\tTime  0.5 (  0.6)\tData  0.01 (  0.02)\tLoss {x:.4e} (6.95e+00)\t"
                     "Acc@1   0.00 (  0.10)", [" *   Acc@1 70.0 Acc@5 90.0"]), 8, (5035, 4.3), [], T),
    "epochs in brackets": (each(lambda n, x: f"Epoch [{n + 1}/8], Train Loss: {x:.4f}, Val Loss: 4.2, Val Acc: 70.1%"),
                           8, (8, 4.3), [4.2] * 8, 8),
    "steps of an epoch": (each(lambda n, x: f"Epoch [{1 + n // 4}/2], Step [{100 * (n % 4 + 1)}/400], Loss: {x:.4f}"),
                          8, (800, 4.3), [], 800),
    "boosting rounds": (each(lambda n, x: f"[{n + 1}]\ttraining's binary_logloss: {x:.5f}\tvalid_1's binary_logloss: 4.2"),
                        8, (8, 4.3), [4.2] * 8, T),
    "iteration, loss": (each(lambda n, x: f"Iteration {n + 1}, loss = {x:.8f}",
                             ["Training loss did not improve more than tol=0.0001 for 10 epochs. Stopping."]), 8, (8, 4.3), [], T),
    "completed step": (each(lambda n, x: f"completed step: {n}, seconds: 1.2, TFLOP/s/device: 100.1, total_weights: 65536, loss: {x:.3f}"),
                       8, (7, 4.3), [], T),
    "rank and logger": (each(lambda n, x: f"[rank0]:[titan] 2024-03-04 10:00:0{n},123 - root - INFO - step: {n * 10:2d}  loss: {x:7.4f}  "
                                          "memory: 30.1GiB(40.1%)  tps: 5,000  mfu: 20.3%"), 8, (70, 4.3), [], T),
    "iterations beside steps": (each(lambda n, x: f"Epoch 1 | iter {n * 4} step {n} | loss train: {x:.3f}, val: n/a | iter time: 300 ms",
                                     ["iter 28: val loss 4.2, val time: 1000.12 ms"]), 8, (7, 4.3), E, T),
    "cells": (blocks(lambda n, x: ("----------------", "| time/           |      |", f"|    iterations   | {n + 1}    |",
                                   "| train/          |      |", f"|    loss         | {x:.2f} |", "----------------")),
              8, (8, 4.3), [], T),
    "dashes": (each(lambda n, x: f"2024-03-04 10:00:0{n}.123 | INFO     | __main__:train:42 - Epoch 3 - step {n * 5} - train loss: {x:.3f} - lr: 1e-4",
                    ["2024-03-04 10:00:09.123 | INFO     | __main__:evaluate:60 - Epoch 3 - eval loss: 4.2 - ppl 70.1"]),
               8, (35, 4.3), E, T),
    "values of numpy and torch": (each(lambda n, x: f"{{'loss': {x:.4f}, 'grad_norm': tensor(0.5), 'learning_rate': np.float64(2e-05), 'step': {n}}}"),
                                  8, (7, 4.3), [], T),
    "losses alone": (each(lambda n, x: f"loss: {x:.3f}"), 8, (8, 4.3), [], T),
    "bars of several epochs": ([f"Epoch {e}:  {10 * n}%|####| {n * 100}/1000 [00:30<00:37, 14.8it/s, v_num=2, train_loss_step={5 - 0.1 * n:.3f}]"
                                for e in range(3) for n in range(1, 11)], 30, (3000, 4.0), [], 3000),
    "Keras": ([line for n, x in enumerate(LOSSES) for line in (
        f"Epoch {n + 1}/8", "100/310 [===>....] - ETA: 9s - loss: 9.0000 - accuracy: 0.5",
        f"310/310 [=======] - 9s 28ms/step - loss: {x:.4f} - val_loss: 4.2000")], 8, (8, 4.3), [4.2] * 8, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_losses_steps_and_totals_are_read(name):
    lines, count, last, evaluations, total = SHAPES[name]
    sink = curves(lines)
    points = sink.points_of["train/loss"]
    assert len(points) == count
    assert points[-1] == pytest.approx(last, abs=1e-4)
    assert len({step for step, _ in points}) == count, "each record has a step of its own"
    assert [value for _, value in sink.points_of["eval/loss"]] == pytest.approx(evaluations)
    if total is not None:
        assert sink.total == total


@pytest.mark.parametrize(
    "lines",
    [
        ["loaded 1200 samples, loss weight 0.5, seed 42", "learning rate 0.1 at step 0"],
        [f"[{n}/8] acc={n / 10:.2f} lr=0.1" for n in range(8)],
        ["loss scale: 65536.0", "step 3 loss_scale=65536 loss_weight=1.0", "best loss so far: 0.31"],
        ["step 4 | lm loss PPL: 4064.2 | number of nan iterations: 0"],
        ['{"lr": 0.004, "batch_size": 24, "epochs": 2, "loss_weight": 1.0}'],
        ["val accuracy 0.91 at epoch 3", "policy_loss=0.1 value_loss=0.2 step=3"],
        ["early stopping: loss did not improve from 0.5", "loss decreased from 3.2 to 3.1"],
    ],
)
def test_what_only_looks_like_a_loss_is_not_drawn_as_one(lines):
    sink = curves(lines)
    assert not sink.points_of["train/loss"] and not sink.points_of["eval/loss"]


@pytest.mark.parametrize("spelling", ["nan", "NaN", "-nan(ind)", "1.#QNAN", "inf", "-Infinity", "1.#INF"])
def test_every_spelling_of_a_number_that_is_not_finite_is_read(spelling):
    ((_, value),) = curves([f"step 3 loss: {spelling}"]).points_of["train/loss"]
    assert not math.isfinite(value)


def test_a_shape_seen_before_is_read_as_the_first_time():
    lines = [
        f"2031-03-04 11:20:0{n},5 INFO fit: epoch=2 step={n * 25:,}/9,000 loss={9 - n:.2e} eta 0:0{n}:10"
        for n in range(1, 9)
    ]
    reader = LineReader()
    assert [reader.read(line) for line in lines] == [LineReader().read(line) for line in lines]


def test_of_several_ranks_one_is_drawn():
    lines = [
        f'{{"step": {10 * n}, "rank": {rank}, "loss": {3 - n / 10 + rank}}}' for n in range(8) for rank in (0, 1, 2)
    ]
    points = curves(lines).points_of["train/loss"]
    assert len(points) == 8 and max(value for _, value in points) <= 3


def rows_of(text: str) -> Seen:
    first, *rest = text.splitlines()
    rows = tables.Rows(tables.header(first, meaning, first=True), meaning)
    return assembled(fields for line in rest if (fields := rows.read(line)) is not None)


@pytest.mark.parametrize(
    "text",
    [
        "step,loss,val_loss\n10,2.5,2.75\n20,2.25,2.5\n",
        "# step,loss,val_loss\n10,2.5,2.75\n20,2.25,2.5\n",
        "Step\tTraining Loss\tValidation Loss\n10\t2.5\t2.75\n20\t2.25\t2.5\n",
        "step;train/loss;val/loss\n10;2,5;2,75\n20;2,25;2,5\n",
        "step  train_loss  valid_loss  time\n10    2.5         2.75        00:41\n20    2.25        2.5         00:42\n",
        "| step | train_loss | val_loss |\n|------|------------|----------|\n| 10 | 2.5 | 2.75 |\n| 20 | 2.25 | 2.5 |\n",
        ",loss,val_loss\n10,2.5,2.75\n20,2.25,2.5\n",
    ],
)
def test_tables_are_read_whatever_divides_their_columns(text):
    sink = rows_of(text)
    assert sink.points_of["train/loss"] == [(10, 2.5), (20, 2.25)]
    assert sink.points_of["eval/loss"] == [(10, 2.75), (20, 2.5)]


@pytest.mark.parametrize(
    "text",
    [
        '{"log_history": [{"loss": 2.5, "step": 10}, {"eval_loss": 2.75, "step": 10}, {"loss": 2.25, "step": 20}], "max_steps": 50}',
        '[{"step": 10, "loss": 2.5, "val_loss": 2.75}, {"step": 20, "loss": 2.25}]',
        '{"history": {"step": [10, 20], "loss": [2.5, 2.25], "val_loss": [2.75, null]}}',
        '{"train": {"loss": [2.5, 2.25]}, "val": {"loss": [2.75]}, "step": [10, 20]}',
    ],
)
def test_documents_are_read(text):
    sink = assembled(documents.records(text, meaning) or [])
    assert sink.points_of["train/loss"] == [(10, 2.5), (20, 2.25)]
    assert sink.points_of["eval/loss"] == [(10, 2.75)]


def test_a_document_that_is_not_complete_is_none():
    assert documents.begins("{\n") and documents.records('{"a": [1,', meaning) is None
    assert not documents.begins('{"step": 1, "loss": 2}')


def test_reading_never_raises():
    for line in (
        "{" * 3000,
        "[" * 3000,
        "1:" * 500,
        "loss=" * 500,
        "\x1b[",
        "9" * 400 + "/" + "9" * 400,
        "loss=1e999 step=1e400",
    ):
        fields = LineReader().read(line)
        assert isinstance(fields, Fields)
        assembled([fields])


SPELLINGS = ["nan", "NaN", "nan(ind)", "-nan(ind)", "1.#QNAN", "1.#INF", "-1.#IND", "inf", "+inf", "Infinity", "1e999"]


@pytest.mark.parametrize("spelling", [*SPELLINGS, "null"])
@pytest.mark.parametrize(
    "lines",
    [
        lambda x: ["step 1 loss 2.5", f"step 2 loss: {x}"],
        lambda x: ["step=1/9 loss=2.5 lr=1", f"step=2/9 loss={x} lr=1"],
        lambda x: ["step,loss", "1,2.5", f"2,{x}"],
        lambda x: ['{"step": 1, "loss": 2.5}', f'{{"step": 2, "loss": "{x}"}}'],
        lambda x: ["{'loss': 2.5, 'step': 1}", f"{{'loss': '{x}', 'step': 2}}"],
        lambda x: [f" 10%|#  | {n}/10 [00:0{n}<00:10, 1it/s, loss={v}]" for n, v in ((1, 2.5), (2, x))],
        lambda x: ["| step | loss |", "|---|---|", "| 1 | 2.5 |", f"| 2 | {x} |"],
    ],
    ids=["text", "pairs", "CSV", "JSON", "dictionary", "bar", "table"],
)
def test_every_spelling_of_what_is_no_number_alerts_in_every_format(lines, spelling):
    run = FedState("log")
    run.feed(lines(spelling))
    assert [(notice.what, notice.step) for notice in run.alerts] == [("nan", 2)]
    assert run.metrics["train/loss"].last == (1, 2.5)


def test_a_validation_loss_that_is_no_number_alerts_and_an_empty_one_does_not():
    run = FedState("log")
    run.feed(
        ['{"step": 1, "loss": 2.5}', '{"step": 1, "loss": null, "val_loss": 2.0}', '{"step": 2, "val_loss": null}']
    )
    assert not run.alerts
    run.feed(['{"step": 3, "val_loss": "NaN"}'])
    assert [notice.text for notice in run.alerts] == ["eval/loss not finite"]


@pytest.mark.parametrize(
    "line",
    [
        "step 2 loss 2.25 loss_scale=inf",
        '{"step": 2, "loss": 2.25, "loss_scale": Infinity}',
        "step 2 loss 2.25 nan_count: 3",
        "info: no nan or inf in the gradients",
        "inf: reading shard 3, finance.txt",
    ],
)
def test_what_is_no_loss_never_alerts(line):
    run = FedState("log")
    run.feed(["step 1 loss 2.5", line] if line[0] != "{" else ['{"step": 1, "loss": 2.5}', line])
    assert not run.alerts
