"""The saves of divided weights: whole or absent, and the same tensors for any number of processes."""

import gc
import platform
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tdiff.commands.train_records import saying_what_is_safe
from tdiff.core.training import processes, saved_state
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
from tests.support.replaced import replaced


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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not show the files that are mapped")
def test_each_tensor_is_read_once_and_no_file_stays_mapped(saved, settings, tmp_path):
    names = sorted(SavedTensors(saved.state))

    def work(world: World) -> tuple[list[str], list[str]]:
        read, read_tensor = list[str](), SavedTensors.__getitem__

        def reading(tensors: SavedTensors, name: str) -> torch.Tensor:
            read.append(name)
            return read_tensor(tensors, name)

        state = TrainState(settings, saved, corpus_of(settings), world)
        with replaced(SavedTensors, "__getitem__", reading):
            state.load()
        gc.collect()
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(saved.path) in line]
        if world.size > 1:
            state.save()
        return sorted(read), mapped

    assert work(World()) == (names, [])
    again(World(), settings, saved)  # as one file
    assert work(World()) == (names, [])
    assert in_processes(3, work, tmp_path, timeout=120) == [(names, [])] * 3


FULL = OSError(28, "No space left on device")
NUMBERLESS = OSError("the file system has left")
IN_ONE: dict[str, tuple[int, Callable[[Path], BaseException], str]] = {
    "full disk": (
        1,
        lambda path: CannotWrite(path, FULL, 4_000_000_000),
        "no space is left on its disk (4.0 GB needed",
    ),
    "full disk, first": (0, lambda path: CannotWrite(path, FULL), "0.safetensors cannot be written: no space is left"),
    "no number": (
        1,
        lambda path: CannotWrite(path, NUMBERLESS),
        "1.safetensors cannot be written: the file system has",
    ),
    "memory": (0, lambda path: MemoryError(), ""),
    "memory, second": (1, lambda path: MemoryError(), "out of memory: MemoryError: use a smaller batch"),
    "device": (0, lambda path: RuntimeError("CUDA error: unspecified launch failure"), "CUDA error: unspecified"),
    "safetensors": (1, lambda path: SafetensorError("invalid dtype"), "invalid dtype"),
}
"""Errors of one process in the writing of its part: its rank, the error, and a part of the text in the first one."""


def test_an_error_of_one_process_in_its_part_is_raised_in_all_and_leaves_the_save_before(saved, settings, tmp_path):
    before = content(saved)

    def work(world: World) -> dict[str, tuple[str, str, bool, list[str]]]:
        state = TrainState(settings, saved, corpus_of(settings), world)
        state.load()
        state.update(0.5)
        found, write_state = {}, saved_state.write
        for name, (rank, error, _) in IN_ONE.items():

            def write(path: Path, *rest: object, rank=rank, error=error) -> None:
                if world.rank == rank and path.name == f"{rank}.safetensors":
                    raise error(path)
                write_state(path, *rest)

            with replaced(saved_state, "write", write), pytest.raises(Exception) as raised, saying_what_is_safe(saved):
                state.save()
            world.barrier()
            error = raised.value
            found[name] = (type(error).__name__, str(error), processes.raised_in_all(error), folders(saved))
            world.barrier()
        return found

    first, second = in_processes(2, work, tmp_path, timeout=120)
    for name, (rank, error, text) in IN_ONE.items():
        kinds, texts, shared, left = zip(first[name], second[name], strict=True)
        assert shared == (True, True), name  # so that the first process prints it, and no other
        assert [len(parts) for parts in left] == [1, 1], name
        assert text in texts[0], name
        own = error(Path())
        if isinstance(own, CannotWrite):
            assert texts[0].endswith(
                f"the save of step 2 is whole: tdiff train --resume {saved.called} continues from it"
            )
        else:
            assert kinds[rank] == type(own).__name__, name
        assert texts[1 - rank].startswith(f"process {rank} on {platform.node()}: "), name
    assert damage(saved.state, saved.model) == ""
    assert same(content(saved), before)


def test_a_folder_that_the_processes_do_not_share_is_refused_in_all_and_no_part_stays(saved, settings, tmp_path):
    before, elsewhere = content(saved), tmp_path / "elsewhere"
    elsewhere.mkdir()

    def work(world: World) -> tuple[str, bool]:
        state = TrainState(settings, saved, corpus_of(settings), world)
        state.load()
        if world.rank == 1:
            save_part = state.replica._do_save_part
            state.replica._do_save_part = lambda folder: save_part(elsewhere / folder.name)
        with pytest.raises(TdiffError) as raised:
            state.save()
        return str(raised.value), processes.raised_in_all(raised.value)

    first, second = in_processes(2, work, tmp_path, timeout=120)
    assert first[0].startswith("process 1 has written its part of the save, but ")
    assert "1.safetensors is not on the machine of process 0: all must see the same run folder" in first[0]
    assert second[0] == f"process 0 on {platform.node()}: {first[0]}"
    assert (first[1], second[1]) == (True, True)
    assert list(elsewhere.iterdir()) == []
    assert len(folders(saved)) == 1
    assert same(content(saved), before)


def test_a_save_is_whole_whether_its_index_fails_or_the_process_is_interrupted_after_it(saved, settings, tmp_path):
    def work(world: World) -> list[tuple[str, int | None, str, int]]:
        state = TrainState(settings, saved, corpus_of(settings), world)
        state.load()
        write, sync, found = saved_state.write, saved_state.sync_folder, []

        def of_index(error: BaseException, function: Callable[..., None]) -> Callable[..., None]:
            def failing(path: Path, *rest: object) -> None:
                if path in (saved.state, saved.state.parent):
                    raise error
                function(path, *rest)

            return failing

        for failing in (
            replaced(saved_state, "write", of_index(CannotWrite(saved.state, FULL), write)),
            replaced(saved_state, "sync_folder", of_index(KeyboardInterrupt(), sync)),
            replaced(saved_state, "sync_folder", of_index(MemoryError(), sync)),
        ):
            state.update(0.5)
            text = ""
            with failing if world.leads else nullcontext():
                try:
                    state.save()
                except BaseException as error:
                    text = str(error) or type(error).__name__
            world.barrier()
            found.append((text, retention.step_of(saved.state), damage(saved.state, saved.model), len(folders(saved))))
            world.barrier()
        return found

    [(index, *failed), *others], second = in_processes(2, work, tmp_path, timeout=120)
    assert index.startswith(f"{saved.state} cannot be written: no space is left")
    assert failed == [2, "", 1]
    # The parts of the save before stay until the next save or resume.
    assert others == [("KeyboardInterrupt", 4, "", 2), ("MemoryError", 5, "", 3)]
    assert {text for text, *_ in second} == {""}
    assert retention.recover(saved) == ""
    assert len(folders(saved)) == 1
    assert damage(saved.state, saved.model) == ""


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
    retention.prune(saved, 1, 1)
    with pytest.raises(TdiffError, match=r"parts-\w+/0\.safetensors is missing, and there is no earlier save"):
        retention.recover(saved)


@pytest.mark.parametrize("notes", [{"parts": "../model", "part_count": "1"}, {"parts": "parts-0a", "part_count": "-1"}])
def test_notes_that_name_other_files_are_damage(notes, tmp_path):
    saved_state.write(tmp_path / "state.safetensors", {}, notes)
    with pytest.raises(ValueError, match="its notes are damaged"):
        wholeness.parts(tmp_path / "state.safetensors")
    assert damage(tmp_path / "state.safetensors", tmp_path) == "state.safetensors is damaged: its notes are damaged"
    with pytest.raises(TdiffError, match=r"is damaged \(its notes are damaged\)"):
        SavedTensors(tmp_path / "state.safetensors")


def of_parts(folder: Path, count: int) -> Path:
    """A state of two rows in each of its parts."""
    for number in range(count):
        saved_state.write(folder / "parts-0a" / f"{number}.safetensors", {"network.a": torch.ones(2, 3)}, {})
    saved_state.write(folder / "state.safetensors", {}, {"parts": "parts-0a", "part_count": str(count)})
    return folder / "state.safetensors"


def test_too_little_memory_for_a_tensor_is_no_damage(tmp_path, monkeypatch):
    tensors = SavedTensors(of_parts(tmp_path, 2))
    message = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 24 bytes"
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="can't allocate memory"):
        patched.setattr(torch, "cat", lambda rows: (_ for _ in ()).throw(RuntimeError(message)))
        tensors["network.a"]
    assert tensors["network.a"].shape == (4, 3)


def test_a_part_that_is_missing_is_named(tmp_path):
    state = of_parts(tmp_path, 2)
    (tmp_path / "parts-0a" / "1.safetensors").unlink()
    with pytest.raises(TdiffError) as error:
        SavedTensors(state)
    assert str(error.value) == f"the saved state {str(state)!r} is damaged (parts-0a/1.safetensors is missing)"
    state.unlink()
    with pytest.raises(TdiffError, match=r"state\.safetensors' does not exist"):
        SavedTensors(state)
