"""Rows keyed by their number in the step, and what one process of several computes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tdiff.core.diffusion import noise
from tdiff.core.diffusion.noise import RowNoise
from tdiff.core.diffusion.objective import diffusion_times, other_labels, sample_masks
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.training import reports
from tdiff.core.training.data import Batch
from tdiff.core.training.distributed import World
from tdiff.core.training.meter import Meter
from tdiff.core.training.state import TrainState
from tdiff.corpus import corpus as data
from tdiff.runs import run as runs
from tdiff.runs.run import Run
from tests.support.runs import settings_of, words

CLASSES = {
    "data": {"rows": "padded", "classes": True},
    "objective": {"contrast": 1.0},
    "train": {"label_dropout": 0.3},
    "model": {"pairs": 2},
}
WAYS = {
    "packed": {},
    "padded": {"data": {"rows": "padded"}},
    "discrete": {"objective": {"timesteps": 16, "schedule": "cosine"}},
    "one time": {"objective": {"mask_rate_per": "batch"}},
    "clipped": {"objective": {"least_masked": 0.2, "most_masked": 0.8}},
    "fixed context": {"objective": {"context": 3, "context_mode": "fixed"}},
    "accumulated": {"train": {"batch_size": 4, "accumulate": 2}},
    "classes": CLASSES,
}


@pytest.fixture(scope="module")
def tales(tmp_path_factory) -> Path:
    """Texts of different lengths, of two classes."""
    path = tmp_path_factory.mktemp("tales") / "tales.jsonl"
    text = words(2000).split()
    rows = [{"text": " ".join(text[n * 9 : n * 9 + 1 + n % 7]), "label": "ab"[n % 3 == 0]} for n in range(80)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def state_of(tales: Path, tmp_path: Path, way: dict, world: World | None = None) -> TrainState:
    settings = settings_of(tales, {"train": {"batch_size": 8}}, way)
    corpus = data.load(settings.data.sources, label_field="label" if settings.data.classes else None)
    return TrainState(settings, Run(tmp_path / "none"), corpus, world)


def test_keyed_integers_are_the_hash_of_their_row_and_step():
    row_noise = RowNoise(seed=7, step=123, rows=range(5, 69), total=80)
    expected = noise.uniform(7, 123, noise.DATA, torch.arange(5, 69), torch.tensor(0)) * 10**9
    assert torch.equal(row_noise.integers(noise.DATA, 10**9), expected.long())


def test_keyed_numbers_are_uniform_and_differ_by_seed_step_stream_row_and_position():
    drawn = [
        RowNoise(seed, step, range(start, start + 50), 1000).uniform(stream, 301)
        for seed, step, start, stream in ((1, 1, 0, 5), (2, 1, 0, 5), (1, 2, 0, 5), (1, 1, 50, 5), (1, 1, 0, 6))
    ]
    numbers = torch.stack(drawn).flatten()
    assert numbers.dtype == torch.float32
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1
    assert len(numbers.unique()) > 0.99 * len(numbers)
    tenths = torch.histc(numbers, 10, 0, 1) / len(numbers)
    torch.testing.assert_close(tenths, torch.full((10,), 0.1), atol=0.005, rtol=0)
    for x in drawn:  # neighbours, in either direction, are unrelated
        for shifted in (x[:, 1:], x[1:]):
            pairs = torch.stack((x[: len(shifted), : shifted.size(1)].flatten(), shifted.flatten()))
            assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.04


def test_keyed_integers_stay_below_their_bound_and_reach_every_value():
    drawn = torch.cat([RowNoise(0, step, range(100), 100).integers(noise.DATA, 3) for step in range(30)])
    assert torch.bincount(drawn).tolist() == pytest.approx([1000] * 3, rel=0.1)
    assert RowNoise(0, 0, range(100), 100).integers(noise.DATA, 1).tolist() == [0] * 100


def test_every_step_has_other_times_and_a_part_of_its_rows_has_the_same_ones():
    step_times = diffusion_times(RowNoise(0, 4, range(64), 64))
    parts = [diffusion_times(RowNoise(0, 4, range(start, start + 16), 64)) for start in range(0, 64, 16)]
    assert torch.equal(torch.cat(parts), step_times)
    assert not torch.equal(diffusion_times(RowNoise(0, 5, range(64), 64)), step_times)
    assert len(diffusion_times(RowNoise(0, 4, range(64), 64), together=True).unique()) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", [2, 8])
def test_parts_of_a_batch_are_the_rows_of_the_undivided_batch(way, parts, tales, tmp_path):
    state = state_of(tales, tmp_path, WAYS[way])
    objective, rows = state.settings.objective, state.data.step_rows
    assert rows == 8

    def masks_of(batch: Batch):
        clip, together = (objective.least_masked, objective.most_masked), objective.mask_rate_per == "batch"
        curve = schedule(objective.schedule)
        return sample_masks(batch.maskable, batch.row_noise, curve, objective.timesteps, clip, together)

    def drawn(batch: Batch, width: int) -> list[torch.Tensor]:
        masks = masks_of(batch)
        columns = [batch.tokens, batch.maskable, masks.masked, *batch.conditioning.values()]
        filler = (state.tokenizer.mask_id, False, False, False)
        wide = [
            torch.nn.functional.pad(x, (0, width - x.size(1)), value=value) if x.ndim == 2 else x
            for x, value in zip(columns, (*filler, 0)[: len(columns)], strict=True)
        ]
        if "label" in batch.conditioning:
            wide.append(other_labels(batch.conditioning["label"], 2, batch.row_noise))
        return [*wide, masks.weight]

    for step in range(3):
        undivided = state.data.batch(step, range(rows))
        width, size = undivided.tokens.size(1), rows // parts
        pieces = [drawn(state.data.batch(step, range(n, n + size)), width) for n in range(0, rows, size)]
        for expected, *actual in zip(drawn(undivided, width), *pieces, strict=True):
            assert torch.equal(torch.cat(actual), expected)
        assert not torch.equal(state.data.batch(step + 1, range(rows)).tokens[:, :1], undivided.tokens[:, :1])


@dataclass(frozen=True, slots=True)
class FakeWorld(World):
    """A process whose sums are those that the undivided step has, in the order in which they are asked for."""

    sums: tuple[torch.Tensor, ...] = ()
    own: tuple[list[torch.Tensor], ...] = ([],)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        self.own[0].append(values)
        return self.sums[len(self.own[0]) - 1] if self.sums else values


@pytest.mark.parametrize("way", ["packed", "padded", "accumulated", "classes"])
def test_gradients_and_losses_of_two_processes_add_up_to_those_of_one(way, tales, tmp_path):
    def step_of(world: FakeWorld) -> tuple[torch.Tensor, float, list[torch.Tensor]]:
        state = state_of(tales, tmp_path, WAYS[way], world)
        generator = torch.Generator().manual_seed(5)
        for weight in state.weights:
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        losses = state.backward(3)
        gradients = [weight.grad.flatten() for weight in state.weights if weight.grad is not None]
        return torch.cat(gradients).double(), sum(float(loss.nats.detach()) for loss in losses), world.own[0]

    gradient, nats, sums = step_of(FakeWorld(own=([],)))
    ranks = [step_of(FakeWorld(rank, 2, tuple(sums), ([],))) for rank in (0, 1)]
    assert float((ranks[0][0] + ranks[1][0] - gradient).norm() / gradient.norm()) < 1e-5
    assert ranks[0][1] + ranks[1][1] == pytest.approx(nats, rel=1e-5)
    assert [int(a + b) for a, b in zip(ranks[0][2], ranks[1][2], strict=True)] == [int(total) for total in sums]


def test_only_the_first_process_saves_evaluates_and_samples(tales, tmp_path):
    settings = settings_of(tales, {"train": {"batch_size": 8}})
    corpus, run = data.load(settings.data.sources), runs.create("run", settings, tmp_path)
    for rank in (1, 0):
        state = TrainState(settings, run, corpus, World(rank, 2))
        meter = Meter(state)
        meter.add(*state.update(0.5))
        assert meter.record(0.5).tokens == 8 * 32  # of the whole step
        state.save()
        records = [*reports.evaluate(state, 64), *reports.sample(state)]
        assert [record.kind for record in records] == (["eval", "sample"] if rank == 0 else [])
        assert run.state.exists() == (rank == 0)


def test_the_rows_of_all_processes_are_the_rows_of_the_step_once():
    for size in (1, 2, 3, 8):
        assert [row for rank in range(size) for row in World(rank, size).rows(24)] == list(range(24))
