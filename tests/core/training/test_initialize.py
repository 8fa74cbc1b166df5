"""Runs that are initialized from another model."""

import shutil

import pytest
import torch

from tdiff.core.models.load import load_model
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.errors import TdiffError
from tdiff.runs.run import Run
from tests.support.runs import After, settings_of, train_in


def test_run_initialized_from_another_model_may_be_deeper(tmp_path, tiny_run, corpus_file):
    layer = {"model": {"layers": 3}, "train": {"init": str(tiny_run.path), "steps": 2}}
    settings = settings_of(corpus_file, layer)
    before = load_model(str(tiny_run.path))
    state = TrainState(settings, Run(tmp_path / "fresh"), data.load(settings.data.sources))
    tokens = torch.randint(0, len(state.tokenizer), (2, 32), generator=torch.Generator().manual_seed(0))
    share, where = torch.full((2,), 0.5), torch.ones(2, 32, dtype=torch.bool)
    with torch.no_grad():
        # New blocks add nothing yet: at first it is the same model.
        torch.testing.assert_close(state.average(tokens, share, where), before.network(tokens, share, where))
    assert state.tokenizer.pieces == before.tokenizer.pieces
    run, events = train_in(tmp_path, "deeper", settings, stop=After(1))
    assert events[-1].reason == "stopped"
    settings = run.settings()
    _, events = train_in(tmp_path, "deeper", settings, resume=True)
    assert events[-1].reason == "finished"
    assert load_model(str(run.path)).network.shape.layers == 3


def test_resume_does_not_need_the_initial_model(tmp_path, tiny_run, corpus_file):
    folder = tmp_path / "gone"
    shutil.copytree(tiny_run.model, folder)
    settings = settings_of(corpus_file, {"train": {"init": str(folder), "steps": 4}})
    train_in(tmp_path, "run", settings, stop=After(2))
    shutil.rmtree(folder)
    assert train_in(tmp_path, "run", settings, resume=True)[1][-1].reason == "finished"


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"model": {"width": 8}}, "its width is 16, the new model's is 8; only model.layers may be larger"),
        ({"model": {"conv": 3}}, "its conv is 0, the new model's is 3"),
        ({"train": {"init": "nowhere"}}, "no model 'nowhere'"),
        ({"data": {"tokenizer": "bpe:64"}}, "leave out data.tokenizer 'bpe:64'"),
        ({"data": {"held_out": "tuning"}}, "was trained on the tuning part of this text"),
    ],
)
def test_incompatible_initial_model_is_refused_before_anything_is_written(tmp_path, tiny_run, corpus_file, layer, says):
    init = {"train": {"init": str(tiny_run.path)}}
    settings = settings_of(corpus_file, init, layer)
    with pytest.raises(TdiffError) as error:
        TrainState(settings, Run(tmp_path / "run"), data.load(settings.data.sources))
    assert says in str(error.value)
    assert not (tmp_path / "run").exists()
