"""Siblings of further kinds of logs: letters for losses, costs, totals of terms, boxes, plans in words, events."""

# ruff: noqa: E501 - lines of logs are as long as they are

import pytest

from tests.watch.formats.test_kinds import reading

LOSSES = [4.5, 4.1, 3.6, 3.4, 2.9, 2.7, 2.55, 2.3]


def log(line, held="", head=()):
    """A line for each loss, at the steps 10, 20 ... 80, and a line of an evaluation after every fourth."""
    lines = [*head]
    for n, loss in enumerate(LOSSES, 1):
        fields = {"n": n * 10, "x": f"{loss:.4f}", "a": f"{0.6 * loss:.4f}", "b": f"{0.4 * loss:.4f}"}
        lines.append(line.format(**fields))
        if held and n % 4 == 0:
            lines.append(held.format(**fields | {"x": "4.2000", "a": "2.5200", "b": "1.6800"}))
    return lines


def right(held=2, total=None, last=(80, 2.3)):
    return (8, pytest.approx(last), held, pytest.approx(4.2) if held else None, total)


@pytest.mark.parametrize(
    ("line", "held"),
    [("it {n}  L {x}  mae(meV) 3.1  lr 0.1", ">>> val  L {x}  mae(meV) 3.4   (best so far)"),
     ("[{n}] ℒ = {x}, η = 1e-4", "[{n}] validation ℒ = {x}"), ("step {n} J={x} acc=0.3", "step {n} test J={x}"),
     ('{{"step": {n}, "L": {x}}}', '{{"step": {n}, "split": "val", "L": {x}}}'),
     ("step {n} | L_train {x}", "step {n} | L_val {x}")],
)  # fmt: skip
def test_a_capital_letter_that_falls_is_the_loss(line, held):
    assert reading(log(line, held)) == right()


@pytest.mark.parametrize(
    "line",
    ["it {n}  l {x}", "it {n}  L 128", "it {n}  L2 {x}", "it {n}  L 0.5", "it {n} length L 2.5", "it {n} accL {x}",
     "it {n} perplexity {x}", "it {n} time cost {x}", "it {n} cost_usd={x}", "it {n} box_loss={x}",
     "[1/3][{n}/80] total {x} (fwd {a} + bwd {b})", "[1/3][{n}/80] total {x} (load {a} + step {b})"],
)  # fmt: skip
def test_what_only_looks_like_a_loss_is_none(line):
    assert reading(log(line, "val " + line))[:3] == (0, None, 0)


def test_a_loss_in_full_stands_before_its_letter():
    assert reading(log("it {n}  L {a}  loss {x}", "val  L {a}  loss {x}")) == right()


@pytest.mark.parametrize(
    ("line", "held", "plan"),
    [("batch {n}, ctc cost = {x}, lr = 0.1", "dev: ctc cost = {x}, cer = 11.83%", "--max_batches=90"),
     ("update {n} | nll {x} | ppl 33", "valid | nll {x} | ppl 31", "max_update: 90"),
     ("[{n}] energy loss {x} lr 0.1", "[{n}] held-out energy loss {x}", "planned batches: 90"),
     ("it {n} criterion={x}", "val: criterion={x}", "running for 90 its, bs 8"),
     ("env_steps={n} td_loss={x} q_mean=0.1", "eval td_loss={x}", "total env steps: 90, learning starts at 10"),
     ("step {n} triplet_loss={x} margin=0.2", "dev: triplet_loss={x} recall=0.2", "90 iterations, batch size 8")],
)  # fmt: skip
def test_a_lone_loss_has_a_name_of_its_own(line, held, plan):
    assert reading(log(line, held, [plan])) == right(total=90)
    glog = "I0903 14:02:31.880898 20411 a.cc:188] "
    assert reading(log(glog + line, glog + held, [glog + plan])) == right(total=90)


@pytest.mark.parametrize(
    ("line", "held"),
    [("[1/3][{n:03d}/080] total {x} (ce {a} + dice {b})  acc 55.9", "[1/3] VAL total {x} (ce {a} + dice {b})  mIoU 27.0"),
     ("(1/3) ({n}/80) overall: {x} = focal {a} + giou {b}, lr 0.1", "(1/3) valid overall: {x} = focal {a} + giou {b}"),
     ("epoch 1/3 [{n}/80]  total: {x} [kl: {a}, rec: {b}]", "epoch 1/3 eval total: {x} [kl: {a}, rec: {b}]"),
     ("[1/3][{n}/80] ce {a} dice {b} total {x}", "[1/3] test total {x} ce {a} dice {b}")],
)  # fmt: skip
def test_a_total_stands_beside_its_terms(line, held):
    lines = [
        one
        for n, loss in enumerate(LOSSES, 1)
        for one in [line.format(n=n * 10, x=f"{loss:.4f}", a=f"{0.6 * loss:.4f}", b=f"{0.4 * loss:.4f}")]
    ]
    assert reading([*lines, held.format(x="4.2000", a="2.5200", b="1.6800")]) == right(held=1, total=240)


def box(rows, rule="-" * 30, close="-" * 30):
    return [rule, *(f"| {name:<16} | {value:<7} |" for name, value in rows), *([close] if close else [])]


BOXES = {
    "sections": lambda n, x: [("rollout/", ""), ("  ep_len_mean", 9), ("time/", ""), ("  iterations", n // 10), ("  total_timesteps", n), ("train/", ""), ("  loss", x), ("  n_updates", 30), ("  value_loss", 9.5)],
    "flat": lambda n, x: [("time/total_timesteps", n), ("train/loss", x), ("train/n_updates", 30)],
    "one loss": lambda n, x: [("time/", ""), ("  env_steps", n), ("train/", ""), ("  q_mean", 9.5), ("  td_loss", x)],
    "count": lambda n, x: [("iterations", n), ("objective", x), ("reward", 9.5)],
}  # fmt: skip


@pytest.mark.parametrize("rows", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(("rule", "close"), [("-" * 30, "-" * 30), ("+----------+----------+", ""), ("┌" + "─" * 30, "└" + "─" * 30)])  # fmt: skip
def test_a_box_of_names_and_values_is_one_record(rows, rule, close):
    lines = [line for n, loss in enumerate(LOSSES, 1) for line in box(rows(n * 10, loss), rule, close)]
    assert reading(["total_timesteps: 90", *lines, rule, "done"]) == right(held=0, total=90)


def test_a_box_without_a_whole_loss_has_curves_of_its_terms():
    lines = [line for n in (1, 2, 3) for line in box([("step", n), ("actor_loss", 0.5), ("critic_loss", 0.25)])]
    assert reading([*lines, "done"])[:3] == (0, None, 0)
    assert reading([*box([("step", 3), ("mean_reward", 0.5)]), "done"])[:3] == (0, None, 0)
    assert reading(["| epoch | loss |", "|-------|------|", "| 1 | 0.5 |", "| 2 | 0.4 |"])[:2] == (2, (2, 0.4))


def test_a_count_of_updates_wins_over_the_position_in_the_epoch():
    inner = "epoch 007:   {n} / 100 loss={x}, num_updates=9{n}, lr=0.1"
    held = "valid | epoch 007 | loss {x} | num_updates 980"
    lines = [*log(inner), "| train | epoch 007 | loss 9.500 | num_updates 985", held.format(x="4.2")]
    head = ["cli | {'arch': 'tiny', 'max_update': 2000, 'max_epoch': 0}"]
    assert reading(head + lines) == right(held=1, total=2000, last=(980, 2.3))
    steps = [f"epoch 2 batch {n}/100 step {100 + n} loss {loss}" for n, loss in enumerate(LOSSES, 1)]
    assert reading(steps)[1] == (108, 2.3)


@pytest.mark.parametrize("plan", ["20,000 iterations, batch size 32", "training for 20000 its, bs 8", "AdamW, 20k steps, cosine"])  # fmt: skip
def test_a_plan_may_be_in_words(plan):
    assert reading(log("step {n} loss {x}", head=[plan])) == right(held=0, total=20_000)


@pytest.mark.parametrize("line", ["warmup: 500 steps", "resumed at 300 updates", "saved, 500 steps, 3 s", "10 epochs, 500 steps", "eval every 500 steps"])  # fmt: skip
def test_other_counts_in_words_are_no_plan(line):
    assert reading(log("step {n} loss {x}", head=[line])) == right(held=0)


@pytest.mark.parametrize("other", ["check", "probe", "audit"])
@pytest.mark.parametrize(
    "line",
    ['{{"ev":"%s","step":{n},"loss":{x}}}', "event=%s step={n} loss={x}", '{{"type":"%s","step":{n},"loss":{x}}}'],
)
def test_an_event_that_is_no_training_is_not_drawn_as_it(line, other):
    assert reading(log(line % "train", line % other)) == right(held=0)
    assert reading(log(line % "train", line % "holdout")) == right()
    assert reading(log(line % "step", line % "eval")) == right()


def test_a_bar_shows_its_loss_within_the_first_epoch():
    draw = "{n}/80 [===>....] - ETA: 3s - loss: {x} - accuracy: 0.4"
    head = ["Epoch 1/9"]
    assert reading(log(draw, head=head)[:5])[:2] == (4, (0.5, 3.4))
    full = "80/80 [========] - 4s 12ms/step - loss: 2.3 - accuracy: 0.5 - val_loss: 4.2"
    assert reading([*log(draw, head=head), full]) == (1, (1, 2.3), 1, pytest.approx(4.2), 9)
