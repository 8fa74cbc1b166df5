"""Siblings of the kinds of logs: how a record names its split, process, numbers and plan, in several languages."""

# ruff: noqa: E501 - lines of logs are as long as they are

import pytest

from tests.support.fed import FedState

LOSSES = [5 - 0.1 * n for n in range(8)]


def reading(lines) -> tuple:
    """(points of training, the newest of them, evaluations, the newest of them, total)."""
    run = FedState("log")
    run.feed(list(lines))
    train, held = run.metrics.get("train/loss"), run.metrics.get("eval/loss")
    return (
        train.count if train else 0,
        train.last if train else None,
        held.count if held else 0,
        held.last[1] if held else None,
        run.total,
    )


def each(line, tail=()):
    """A line for each loss, at the steps 0, 10 ... 70, and further lines."""
    return [line(10 * n, f"{loss:.4f}") for n, loss in enumerate(LOSSES)] + list(tail)


def right(last=(70, 4.3), held=0, total=None) -> tuple:
    """The reading of eight records."""
    return (8, pytest.approx(last), held, pytest.approx(4.2) if held else None, total)


def comma(text: str) -> str:
    return text.replace(".", ",")


RECORDS = {
    "JSON": lambda key, split: lambda n, x: f'{{"{key}": "{split}", "step": {n}, "loss": {x}}}',
    "JSON behind a prefix": lambda key, split: lambda n, x: f'INFO train.loop {{"step": {n}, "loss": {x}, "{key}": "{split}"}}',
    "pairs": lambda key, split: lambda n, x: f"level=info {key}={split} step={n} loss={x}",
    "pairs, split last": lambda key, split: lambda n, x: f"step={n} loss={x} {key}={split}",
    "colons": lambda key, split: lambda n, x: f"{key}: {split}, step: {n}, loss: {x}",
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize(
    ("key", "train", "held"),
    [("split", "train", "holdout"), ("phase", "training", "val"), ("mode", "TRAIN", "EVAL"), ("set", "train", "held-out"),
     ("stage", "train", "validation"), ("subset", "train", "dev"), ("dataset", "train", "test"), ("part", "train", "cv"),
     ("event", "train_step", "validation")],
)  # fmt: skip
def test_a_named_split_tells_the_losses_apart(kind, key, train, held):
    line = RECORDS[kind]
    assert reading(each(line(key, train), [line(key, held)(70, "4.2")])) == right(held=1)
    header = [f"step,{key},loss"]
    assert reading(header + each(lambda n, x: f"{n},{train},{x}", [f"70,{held},4.2"])) == right(held=1)


def test_flags_tell_the_losses_apart():
    lines = ['{"step": 1, "loss": 2.5, "is_eval": false}', '{"step": 1, "loss": 4.2, "is_eval": true}']
    assert reading(lines)[:4] == (1, (1, 2.5), 1, pytest.approx(4.2))
    assert reading(["step=1 training=true loss=2.5", "step=1 training=false loss=4.2"])[:3] == (1, (1, 2.5), 1)


@pytest.mark.parametrize(
    "lines",
    [
        ['{"split": "train", "step": 1, "loss": 2.5}', '{"split": "ood", "step": 1, "loss": 9}'],
        ["split=train step=1 loss=2.5", "split=ood step=1 loss=9"],
        ["step,split,loss", "1,train,2.5", "1,ood,9"],
    ],
)
def test_a_split_that_is_neither_is_not_drawn_as_training(lines):
    assert reading(lines)[:3] == (1, (1, 2.5), 0)


@pytest.mark.parametrize(
    "record",
    [
        '{"name": "test-run-3", "step": 1, "loss": 2.5}',
        '{"dataset": "wikitext-test-filtered", "mode": "min", "step": 1, "loss": 2.5}',
        '{"split": "en", "step": 1, "loss": 2.5}',
        "partition=gpu opt=adam step=1 loss=2.5",
    ],
)
def test_names_that_only_look_like_a_split_change_nothing(record):
    assert reading([record])[:3] == (1, (1, 2.5), 0)


@pytest.mark.parametrize(
    "prefix",
    ["gx14/r{}: ", "[{}] ", "rank={} ", "(w{}) ", "worker-{} | ", "proc {}> ", "[gx14/r{}] ", "app-worker-{}  | ",
     "(Worker pid=123{}) ", "[1,{}]<stdout>:", "2031-01-01 10:00:00 [rank {}] ", "INFO rank {} | ", "[local_rank={}] "],
)  # fmt: skip
def test_of_several_processes_one_is_drawn(prefix):
    ready = [f"{prefix.format(rank)}ready, batch 32" for rank in range(3)]
    lines = [
        f"{prefix.format(rank)}step {10 * n}/700 loss {loss + rank / 1e4:.4f}"
        for n, loss in enumerate(LOSSES)
        for rank in (1, 0, 2)
    ]
    count, last, *_, total = reading(ready + lines)
    assert (count, last, total) == (8, (70, pytest.approx(4.3, abs=1e-3)), 700)


def test_a_record_that_processes_print_alike_is_one_point():
    lines = [f"{host}: step {10 * n} loss {loss:.4f}" for n, loss in enumerate(LOSSES) for host in ("gx14", "gx15")]
    assert reading(lines) == right()
    assert reading(["[100] step 100 loss 2.5", "[200] step 200 loss 2.25"])[:2] == (2, (200, 2.25))
    assert reading(["rank 16, alpha 32", "[rank0] step 1 loss 2.5"])[0] == 1


@pytest.mark.parametrize("leader", [" .... ", " ---- ", " ____ ", " => ", " -> ", " → ", " is ", "\t", " := ", " …… "])
def test_leaders_stand_between_names_and_numbers(leader):
    line = f"step{leader}%s, training loss{leader}%s"
    assert reading(each(lambda n, x: line % (n, x), [f"step{leader}70, validation loss{leader}4.2"])) == right(held=1)


@pytest.mark.parametrize(
    "heading",
    ["===== Pass {} / 9 =====", "----- Epoch {}/9 -----", "*** Epoch {} of 9 ***", "── Epoche {} von 9 ───",
     ">>> epoch {} (of 9)", "==== step {}/9 ===="],
)  # fmt: skip
@pytest.mark.parametrize("eval_first", [False, True])
def test_blocks_under_rulers_are_records(heading, eval_first):
    lines = []
    for n, loss in enumerate(LOSSES, 1):
        losses = [f"  mean training loss ..... {loss:.4f}", "  validation loss ..... 4.2"]
        lines += [heading.format(n), *losses[:: -1 if eval_first else 1], "  error rate ..... 64.00 %", ""]
    assert reading(lines) == right((8, 4.3), 8, 9)


NUMBERS = {
    "Fortran": lambda x: f"0.{round(float(x) * 1e5):06d}D+01",
    "decimal comma": comma,
    "exponent": lambda x: f"{float(x):.5E}",
}


@pytest.mark.parametrize("spell", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_read_as_programs_spell_them(spell):
    line = lambda n, x: f"step {n} loss {spell(x)} lr {spell('0.1')}"  # noqa: E731
    assert reading(each(line, [f"step 70 val loss {spell('4.2')}"])) == right(held=1)
    assert reading(["step\tloss\tval_loss", *each(lambda n, x: f"{n}\t{spell(x)}\t{spell('4.2')}")]) == right(held=8)
    table = ["  step     loss      val loss", "  ----   -------   --------"]
    assert reading(table + each(lambda n, x: f"  {n:4}   {spell(x)}   --------")) == right()


@pytest.mark.parametrize("divider", ["\u202f", "\u2009", "\u00a0", "'", "\u2019", ",", "_"])
def test_thousands_may_be_apart(divider):
    lines = [f"step {n + 1}{divider}000 / 9{divider}000 loss {loss:.4f}" for n, loss in enumerate(LOSSES)]
    assert reading(lines) == right((8000, 4.3), total=9000)


def test_a_comma_is_read_only_where_its_meaning_is_certain():
    assert reading(["step 3 loss 2,738"])[0] == 0
    assert reading(["step 3 loss 2,738", "step 4 loss 0,938", "step 5 loss 1,234"])[:2] == (3, (5, 1.234))
    assert reading(["gpus 0,1 step 3 loss 0.5"])[:2] == (1, (3, 0.5))
    assert reading(["step;loss", "1.500;2,738", "2.000;2,64"])[:2] == (2, (2000, 2.64))
    assert reading(["step 1,500 loss 2.5 tokens 1,234,567"])[:2] == (1, (1500, 2.5))


@pytest.mark.parametrize(
    "plan",
    ["max_iters = 700", "maxiters=700", "planned updates: 700", "Total optimization steps = 700", "step budget: 700",
     "MAXIMUM ITERATIONS      =    700", "iteration budget ..... 700", "Schritte gesamt: 700", "总步数: 700",
     "training the model for 700 steps", "Namespace(lr=0.1, max_steps=700, seed=3)", '{"args": {"max_steps": 700}}'],
)  # fmt: skip
def test_the_total_may_stand_before_the_records(plan):
    assert reading([plan, *each(lambda n, x: f"step {n} loss {x}")]) == right(total=700)
    assert reading([plan, *each(lambda n, x: f'{{"step": {n}, "loss": {x}}}')]) == right(total=700)
    assert reading([f"# {plan}", "step,loss", *each(lambda n, x: f"{n},{x}")]) == right(total=700)


@pytest.mark.parametrize(
    "line",
    ["max_epochs=700", "save_steps: 700", "warmup_steps=700", "steps per epoch: 700", "sampling steps: 700",
     '{"sampler": {"num_steps": 700}}', "tokens per update: 700", "num_batches: 700"],
)  # fmt: skip
def test_other_counts_are_no_total(line):
    assert reading([line, *each(lambda n, x: f"step {n} loss {x}")]) == right()


def test_a_total_of_steps_is_none_of_epochs():
    lines = [f"epoch {n} loss {loss:.4f}" for n, loss in enumerate(LOSSES, 1)]
    assert reading(["max_steps: 700", *lines]) == right((8, 4.3))
    assert reading(["number of epochs ... 9", *lines]) == right((8, 4.3), total=9)


@pytest.mark.parametrize(
    "names",
    ["Schritt,Verlust,Validierungsverlust,Lernrate", "étape,perte,perte de validation,taux d'apprentissage",
     "paso,pérdida,pérdida de validación,tasa de aprendizaje", "passo,perda,perda de validação,taxa de aprendizado",
     "passo,perdita,perdita di validazione,tasso di apprendimento", "stap,verlies,validatieverlies,leersnelheid",
     "步数,训练损失,验证损失,学习率", "ステップ,損失,検証損失,学習率", "шаг,потери,потери на валидации,скорость обучения"],
)  # fmt: skip
def test_names_may_be_words_of_other_languages(names):
    step, loss, held, rate = names.split(",")
    text = each(lambda n, x: f"{step} {n}/700 {loss} {x} {rate} 0.001", [f"{step} 70 {held} 4.2"])
    assert reading(text) == right(held=1, total=700)
    assert reading([f"{step};{loss};{held};{rate}", *each(lambda n, x: f"{n};{comma(x)};4,2;0,001")]) == right(held=8)
    lines = each(lambda n, x: f'{{"{step}": {n}, "{loss}": {x}, "{rate}": 0.1}}', [f'{{"{step}": 70, "{held}": 4.2}}'])
    assert reading(lines) == right(held=1)


def test_counts_stand_before_their_names_in_chinese():
    lines = [f"第{n}轮，训练损失：{loss:.4f}，验证损失：4.2" for n, loss in enumerate(LOSSES, 1)]
    assert reading(lines) == right((8, 4.3), 8)


@pytest.mark.parametrize(
    "line",
    ["Schritt 5 bester Verlust: 0,3", "步数 5 最佳损失: 0.3", "# Ende, kleinster Validierungsverlust: 0,1976",
     "étape 3 meilleure perte: 0,3", "étape 3 taux d'erreur: 0,3", "Schritt 3 Genauigkeit 0,9 Lernrate 0,1",
     "шаг 3 лучшая потеря: 0.3", "Verlustgewicht: 3, Schritt: 2", "poids de la perte : 0,5", "损失权重: 0.5",
     "loss scale is 65536", "loss scale ..... 65536", "loss scale -> 32768", "accuracy ..... 0.5", "best loss ..... 0.3",
     "lowest validation loss -> 0.3", "loss threshold is 0.3", '{"split": "holdout", "step": 3, "best_loss": 0.3}',
     '{"split": "train", "step": 3, "lr": 0.3, "acc": 0.5}'],
)  # fmt: skip
def test_what_is_no_loss_is_never_drawn_as_one(line):
    assert reading([line, line])[:3] == (0, None, 0)
