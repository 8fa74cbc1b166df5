"""The saves of divided weights: whole or absent, and the same tensors for any number of processes."""

from pathlib import Path

import pytest
import torch

from tdiff.core.training import saved_state
from tdiff.core.training.distributed import World
from tdiff.core.training.saved_state import SavedTensors
from tdiff.core.training.state import TrainState
from tdiff.errors import TdiffError
from tdiff.files import CannotWrite
from tdiff.runs import retention, wholeness
from tdiff.runs.run import Run
from tdiff.runs.wholeness import damage, parts
from tests.core.training.test_finetune import settings_from
from tests.core.training.test_fsdp import FSDP, corpus_of
from tests.support.classifying import uneven_texts
from tests.support.forked import in_processes


@pytest.fixture(scope="module")
def settings(zoo, tmp_path_factory):
    """Those of a divided model, of which some weights have fewer rows than there are processes."""
    tales = uneven_texts(tmp_path_factory.mktemp("tales") / "tales.jsonl")
    way = {"train": {"batch_size": 12, "lr": 1e-3, "keep_last": 2}, "model": {"time_conditioning": True}}
    return settings_from(zoo["bert"], tales, FSDP, way)


@pytest.fixture
def saved(settings, tmp_path) -> Run:
    """A run that two processes have saved after one step and after two."""
    run = Run(tmp_path / "run")

    def work(world: World) -> None:
        state = TrainState(settings, run, corpus_of(settings), world)
        for step in range(2):
            state.update(step / 2)
            state.save()

    in_processes(2, work, tmp_path, timeout=120)
    return run


def content(run: Run) -> dict[str, torch.Tensor]:
    """All tensors of the newest save."""
    return dict(SavedTensors(run.state))


def folders(run: Run) -> list[str]:
    """The folders of parts that lie beside the state."""
    return sorted(path.name for path in run.state.parent.glob("parts-*"))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_any_number_of_processes_loads_what_two_have_saved_to_the_last_bit(saved, settings, tmp_path):
    before, files = content(saved), parts(saved.state)
    assert [file.name for file in files] == ["0.safetensors", "1.safetensors"]
    assert {name.split(".")[0] for name in before} == {"network", "average", "optimizer"}
    sizes = [sum(tensor.numel() for tensor in SavedTensors(file).values()) for file in files]
    assert max(sizes) < 0.6 * sum(tensor.numel() for tensor in before.values())

    for size in (4, 3, 1):
        if size == 1:
            again(World(), settings, saved)
        else:
            in_processes(size, lambda world: again(world, settings, saved), tmp_path, timeout=120)
        assert len(parts(saved.state)) == (size if size > 1 else 0)
        assert folders(saved) == sorted({part.parent.name for part in parts(saved.state)})
        assert damage(saved.state, saved.model) == ""
        assert same(content(saved), before), size


def again(world: World, settings, run: Run) -> None:
    """Load the newest save, and save it again."""
    state = TrainState(settings, run, corpus_of(settings), world)
    state.load()
    state.save()


def test_a_save_that_fails_in_one_process_leaves_the_one_before_it(saved, settings, tmp_path):
    before = content(saved)
    write = saved_state.write

    def work(world: World) -> str:
        state = TrainState(settings, saved, corpus_of(settings), world)
        state.load()
        state.update(0.5)
        if world.rank == 1:

            def fail(path: Path, *_: object) -> None:
                raise CannotWrite(path, OSError(28, "No space left on device"))

            saved_state.write = fail
        try:
            state.save()
        except CannotWrite as error:
            return str(error)
        finally:
            saved_state.write = write
        return ""

    first, second = in_processes(2, work, tmp_path, timeout=120)
    assert "1.safetensors cannot be written: no space is left on its disk" in first
    assert second == ""  # it waits for the first one, which prints the error
    assert len(folders(saved)) == 1
    assert damage(saved.state, saved.model) == ""
    assert same(content(saved), before)


def test_parts_of_an_interrupted_save_are_removed_and_a_damaged_part_is_replaced_by_the_earlier_save(saved):
    unfinished = saved.state.parent / "parts-0123abcd"
    unfinished.mkdir()
    (unfinished / ".1.safetensors.abc").write_bytes(b"half of it")
    assert retention.recover(saved) == ""
    assert not unfinished.exists()
    [earlier] = (saved.path / retention.EARLIER).iterdir()
    expected = dict(SavedTensors(earlier / "state.safetensors"))
    part = parts(saved.state)[1]
    content_of_part = bytearray(part.read_bytes())
    content_of_part[-1] ^= 1
    part.write_bytes(content_of_part)
    assert retention.recover(saved) == (
        f"the save of step 2 is damaged ({part.parent.name}/1.safetensors is damaged: its checksum differs); "
        "the save of step 1 replaces it"
    )
    assert damage(saved.state, saved.model) == ""
    assert same(content(saved), expected)
    assert folders(saved) == [parts(saved.state)[0].parent.name]
    parts(saved.state)[0].unlink()
    with pytest.raises(TdiffError, match=r"parts-\w+/0\.safetensors is missing, and there is no earlier save|replaces"):
        retention.prune(saved, 1, 1)
        retention.recover(saved)


@pytest.mark.parametrize("notes", [{"parts": "../model", "part_count": "1"}, {"parts": "parts-0a", "part_count": "-1"}])
def test_notes_that_name_other_files_are_damage(notes, tmp_path):
    saved_state.write(tmp_path / "state.safetensors", {}, notes)
    with pytest.raises(ValueError, match="its notes are damaged"):
        wholeness.parts(tmp_path / "state.safetensors")
    assert damage(tmp_path / "state.safetensors", tmp_path) == "state.safetensors is damaged: its notes are damaged"
    with pytest.raises(TdiffError, match=r"is damaged \(its notes are damaged\)"):
        SavedTensors(tmp_path / "state.safetensors")
