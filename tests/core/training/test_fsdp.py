"""Weights that are divided among the processes: the same training as with whole ones, saved and resumed as any run."""

from pathlib import Path

import pytest
import torch
import transformers

from tdiff.core.models.load import load_model
from tdiff.core.training.distributed import World
from tdiff.core.training.loop import train
from tdiff.core.training.saved_state import SavedTensors
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.protocol.events import Eval, Event, Sample, Train
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tdiff.runs.wholeness import parts
from tests.commands.test_several_processes import command, stay
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.core.training.test_finetune import settings_from
from tests.support.classifying import uneven_texts
from tests.support.forked import in_processes
from tests.support.runs import After

FSDP = {"train": {"fsdp": True}}
WAYS = {
    "bert": {"train": {"batch_size": 8, "accumulate": 2, "dropout": 0.1}},
    "albert": {"train": {"batch_size": 8}},
    "gpt2": {"train": {"batch_size": 8}},
    "roberta": {
        "data": {"rows": "padded", "classes": True},
        "objective": {"contrast": 1.0},
        "model": {"time_conditioning": True},
        "train": {"batch_size": 8, "checkpointing": True},
    },
}
"""Settings of each kind of model."""


@pytest.fixture(scope="module")
def tales(tmp_path_factory) -> Path:
    """Texts of different lengths, of two classes."""
    return uneven_texts(tmp_path_factory.mktemp("tales") / "tales.jsonl")


def corpus_of(settings):
    return data.load(settings.data.sources, label_field="label" if settings.data.classes else None)


def trained(model: Path, tales: Path, folder: Path, way: dict, world: World, *layers: dict) -> dict[str, torch.Tensor]:
    """What the processes save after four steps, in the first of them."""
    settings = settings_from(model, tales, {"train": {"lr": 1e-4}}, way, *layers)
    state = TrainState(settings, Run(folder / "none"), corpus_of(settings), world)
    for step in range(4):
        _, norm = state.update(step / 4)
        assert state.finite()
    result = {"norm": norm}
    with state.replica.led():
        if world.leads:
            path = folder / "saved" / "state.safetensors"
            state.replica.save(path, {})
            result |= SavedTensors(path)
    held = sum(part.numel() for part in state.weights) / sum(p.numel() for p in state.network.parameters())
    assert (held < 0.6) == (settings.train.fsdp and world.size > 1), held
    return result


@pytest.mark.parametrize(
    "names", [("bert",), pytest.param(("albert", "roberta", "gpt2"), marks=pytest.mark.slow)], ids=["bert", "others"]
)
def test_divided_weights_train_as_whole_ones(names, zoo, tales, tmp_path):
    make_causal(tmp_path / "gpt2", bos=True)
    models = {name: zoo.get(name, tmp_path / name) for name in names}

    def work(world: World) -> list[dict[str, torch.Tensor]]:
        return [
            trained(model, tales, tmp_path, WAYS[name], world, layer)
            for name, model in models.items()
            for layer in (FSDP, {})
        ]

    first, _ = in_processes(2, work, tmp_path, timeout=300)
    for n, name in enumerate(models):
        divided, whole = first[2 * n : 2 * n + 2]
        assert divided.keys() == whole.keys(), name
        for key, tensor in whole.items():
            # The gradient of a key's bias is zero apart from rounding, which AdamW scales to its learning rate.
            if "key.bias" not in key and "c_attn.bias" not in key:
                assert float((divided[key] - tensor).abs().max()) < 1e-5, (name, key)


def records_of(world: World, folder: Path, settings, **how) -> list[Event]:
    run = Run(folder / "run")
    records = train(settings, run, corpus_of(settings), world=world, **how)
    return list(run.recorded(records) if world.leads else records)


@pytest.mark.slow
def test_a_divided_run_evaluates_samples_saves_and_is_resumed_by_any_number_of_processes(zoo, tales, tmp_path):
    layer = {"train": {"steps": 6, "batch_size": 8, "eval_every": 2, "sample_every": 3, "lr": 1e-3, "log_every": 0.0}}
    settings = settings_from(zoo["bert"], tales, layer)
    divided = settings_from(zoo["bert"], tales, layer, FSDP)
    for name, chosen in (("whole", settings), ("two", divided)):
        runs.create("run", chosen, tmp_path / name)

    def both(world: World) -> list[list[Event]]:
        whole = records_of(world, tmp_path / "whole", settings)
        stopped = records_of(world, tmp_path / "two", divided, stop=After(4))
        return [whole, stopped, records_of(world, tmp_path / "two", divided, resume=True)]

    (whole, stopped, resumed), _ = in_processes(2, both, tmp_path, timeout=300)
    assert (stopped[-1].reason, resumed[-1].reason) == ("stopped", "finished")
    together = [*stopped, *resumed]
    for kind, value in ((Train, "loss"), (Eval, "nats_per_token")):
        expected = {event.step: getattr(event, value) for event in whole if isinstance(event, kind)}
        actual = {event.step: getattr(event, value) for event in together if isinstance(event, kind)}
        assert actual == pytest.approx(expected, rel=1e-4), kind
    assert [event.step for event in together if isinstance(event, Sample)] == [3, 6]
    folders = [Run(tmp_path / name / "run") for name in ("whole", "two")]
    before, after = (SavedTensors(run.state) for run in folders)
    assert before.keys() == after.keys()
    assert [len(parts(run.state)) for run in folders] == [0, 2]
    assert (folders[1].path / "best" / "model.safetensors").exists()
    # transformers loads the exported model, a single file, and it computes what tdiff loads.
    assert [path.name for path in folders[1].model.glob("*.safetensors")] == ["model.safetensors"]
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(folders[1].model)
    assert type(loaded).__name__ == "BertForMaskedLM"
    ours = dict(load_model(str(folders[1].path)).network.model.named_parameters())
    assert all(torch.equal(weight, ours[name]) for name, weight in loaded.named_parameters())
    # Four processes continue, and then one with whole weights.
    of_four = settings_from(zoo["bert"], tales, layer, FSDP, {"train": {"steps": 7}})
    events, *_ = in_processes(4, lambda world: records_of(world, tmp_path / "two", of_four, resume=True), tmp_path, 300)
    assert (events[-1].step, events[-1].reason) == (7, "finished")
    assert "saved by 2 processes, resumed by 4 processes" in events[1].doing
    more = settings_from(zoo["bert"], tales, layer, FSDP, {"train": {"steps": 8}})
    events = records_of(World(), tmp_path / "two", more, resume=True)
    assert (events[-1].step, events[-1].reason) == (8, "finished")
    assert "saved by 4 processes, resumed by 1 process" in events[1].doing
    assert parts(folders[1].state) == []


def test_bad_requests_for_divided_weights_are_one_line(zoo, corpus_file, tiny_run, cli_fast, here):
    train_on = ["train", f"--data={corpus_file}", "--device=cpu", "--steps=1", "--fsdp"]
    for source in ([], [f"--init={tiny_run.path}", "--context=8"]):
        assert cli_fast(*train_on, *source).refused() == "train.fsdp requires a pretrained model: leave it out"
    muon = [f"--init={zoo['bert']}", "--context=4", "--optimizer=muon"]
    assert cli_fast(*train_on, *muon).refused() == (
        "train.fsdp divides AdamW only; got train.optimizer muon: leave one of them out"
    )
    one = [f"--init={zoo['bert']}", "--batch-size=2", "--context=4", "--eval-every=0", "--sample-every=0", "--run=one"]
    done = cli_fast(*train_on, *one)
    assert done.returncode == 0, done.stderr
    assert "train.fsdp has no effect in one process: torchrun --nproc-per-node N" in done.stderr


def test_the_command_divides_a_model(zoo, corpus_file, here, tmp_path):
    options = ["--batch-size=2", "--context=4", "--eval-every=0", "--sample-every=2", "--steps=2", "--device=cpu"]
    bert = zoo["bert"]  # made here, and not in each process

    def work(world: World):
        stay(world)
        return command("train", f"--init={bert}", f"--data={corpus_file}", "--run=both", "--fsdp", *options)

    first, second = in_processes(2, work, tmp_path, timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), (first.stderr, second.stderr)
    assert second.stdout + second.stderr == ""
    assert load_model(str(here / "checkpoints" / "both")).origin.steps == 2
