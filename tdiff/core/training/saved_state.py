"""The saved state of a run: one file, or an index and the parts that the processes of a divided model have written.

    state.safetensors          the tensors and the notes; of a divided model the notes alone, which name the folder
    parts-NAME/0.safetensors   the rows of each tensor that process 0 had; the next rows follow in 1.safetensors, ...

The index is written last, so that a save is whole or absent. The parts are no files of torch.distributed.checkpoint,
whose index is a pickle: reading a run, which may come from another machine, must not run code. Since a part is the rows
of one process in their order, any number of processes can read a tensor as a whole or in other parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tdiff.errors import TdiffError, is_out_of_memory
from tdiff.files import sync_folder, write_atomic
from tdiff.runs import wholeness


def write(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Write tensors on the CPU and notes, with a checksum. Raises CannotWrite; the file is whole or as it was."""
    contents = ((name, [t.flatten().view(torch.uint8).numpy().data]) for name, t in tensors.items())
    write_atomic(path, save(dict(tensors), {**notes, wholeness.CHECKSUM: wholeness.checksum(contents)}))
    sync_folder(path.parent)


def names(path: Path, folder: Path) -> bool:
    """Whether the index `path` names the parts in `folder`, or cannot be read although it exists."""
    try:
        return folder in {part.parent for part in wholeness.parts(path)}
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


class SavedTensors(Mapping[str, Tensor]):
    """The tensors of a saved state by name, each read when it is asked for, on the CPU."""

    def __init__(self, path: Path) -> None:
        """Raises TdiffError for a state that is missing or damaged."""
        self.path = path
        self._files: dict[str, list[Any]] = {}
        """For each tensor, the open files that have its rows, in their order."""
        file = path
        try:
            for file in (path, *wholeness.parts(path)):
                opened = safe_open(file, "pt")
                names: list[str] = opened.keys()  # type: ignore[no-untyped-call]
                for name in names:
                    self._files.setdefault(name, []).append(opened)
            self.notes = wholeness.notes(path)
        except FileNotFoundError as error:
            if file != path:
                raise self._damaged(f"{file.parent.name}/{file.name} is missing") from None
            raise TdiffError(f"the saved state {str(error.filename or path)!r} does not exist") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: object) -> TdiffError:
        reason = str(error).partition("\n")[0]
        return TdiffError(f"the saved state {str(self.path)!r} is damaged ({reason})")

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Tensor:
        files = self._files[name]
        try:
            rows: list[Tensor] = [file.get_tensor(name) for file in files]
            return rows[0] if len(rows) == 1 or not rows[0].ndim else torch.cat(rows)
        except (SafetensorError, OSError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise self._damaged(error) from None


class Named(Mapping[str, Tensor]):
    """Those of the tensors whose names begin with a prefix, by the rest of their names."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[f"{self._prefix}{name}"]


def optimizer_states(tensors: Mapping[str, Tensor], optimizer: int) -> Iterator[tuple[int, str, Tensor]]:
    """The saved states of the optimizer of that number: the number of a weight in it, the state's name, its values."""
    for key, values in Named(tensors, f"optimizer.{optimizer}.").items():
        weight, _, state = key.partition(".")
        yield int(weight), state, values
