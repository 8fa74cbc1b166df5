"""Whether the files of a saved model and its training state are whole. No torch.

The length of a safetensors file follows from its header. A state also holds a checksum of its tensors, which shows
blocks that a disk lost.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

CHECKSUM = "crc32"
"""The note of a safetensors file that holds the checksum of its tensors."""
PARTS, PART_COUNT = "parts", "part_count"
"""The notes of a state whose tensors are in other files: their folder, beside the state, and how many there are."""
_PARTS_FOLDER = re.compile(r"parts-[0-9a-z]{1,32}")
_MAX_HEADER = 100_000_000
_CHUNK = 1 << 24


def checksum(parts: Iterable[tuple[str, Iterable[bytes | memoryview]]]) -> str:
    """The checksum of tensors, given by name and content, in any order: eight hexadecimal digits."""
    total = 0
    for name, chunks in parts:
        crc = zlib.crc32(name.encode())
        for chunk in chunks:
            crc = zlib.crc32(chunk, crc)
        total += crc
    return f"{total & 0xFFFFFFFF:08x}"


def notes(path: Path) -> dict[str, str]:
    """The notes of a safetensors file. Raises ValueError or OSError for a damaged one."""
    with path.open("rb") as file:
        return _notes(header(file))


def parts(state: Path) -> list[Path]:
    """The files with the tensors of a state that several processes have written, in their order; else none.

    Raises ValueError or OSError for a damaged state.
    """
    found = notes(state)
    if PARTS not in found:
        return []
    folder, count = str(found[PARTS]), str(found.get(PART_COUNT, ""))
    if not _PARTS_FOLDER.fullmatch(folder) or not (count.isdecimal() and len(count) < 6):
        raise ValueError("its notes are damaged")
    return [state.parent / folder / f"{number}.safetensors" for number in range(int(count))]


def parts_folders(folder: Path) -> list[Path]:
    """The folders of parts in a folder, of whole saves and of interrupted ones."""
    return [path for path in folder.iterdir() if _PARTS_FOLDER.fullmatch(path.name) and path.is_dir()]


def damage(state: Path, model: Path) -> str:
    """What is wrong with the files of a save, in a few words; "" if they are whole."""
    return _damaged_state(state) or weights_damage(model) or _damaged_texts(model)


def weights_damage(model: Path) -> str:
    """What is wrong with the weights of a model, in a few words; "" if they are whole."""
    files = sorted(model.glob("*.safetensors"))
    return next(filter(None, map(_damaged_tensors, files)), "") if files else f"{model.name} has no weights"


def _damaged_state(state: Path) -> str:
    if problem := _damaged_tensors(state):
        return problem
    try:
        files = parts(state)
    except (OSError, ValueError) as error:
        return f"{state.name} is damaged: {error}"
    problems = ((file, problem) for file in files if (problem := _damaged_tensors(file)))
    file, problem = next(problems, (state, ""))
    return f"{file.parent.name}/{problem}" if problem else ""


def _damaged_tensors(path: Path) -> str:
    try:
        _check_tensors(path)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, ValueError) as error:
        return f"{path.name} is damaged: {error}"
    return ""


def _damaged_texts(model: Path) -> str:
    for path in sorted({model / "config.json", model / "tokenizer.json", *model.glob("*.json")}):
        try:
            json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            if path.name == "config.json":
                return f"{path.name} is missing"
        except (OSError, ValueError, RecursionError):
            return f"{path.name} is damaged"
    return ""


def whole_but_for_weights(state: Path, model: Path) -> bool:
    """Whether nothing but the weights of the model is damaged, which the state has as well."""
    return not (_damaged_state(state) or _damaged_texts(model)) and bool(weights_damage(model))


def _check_tensors(path: Path) -> None:
    """Raise ValueError unless a safetensors file is whole: its length, and the checksum where it has one."""
    with path.open("rb") as file:
        entries = header(file)
        begin = file.tell()
        tensors = {name: entry["data_offsets"] for name, entry in entries.items() if name != "__metadata__"}
        needed = max((end for _, end in tensors.values()), default=0)
        size = os.fstat(file.fileno()).st_size - begin
        if size != needed:
            raise ValueError(f"it has {size:,} bytes of tensors; its header requires {needed:,}")
        if expected := _notes(entries).get(CHECKSUM):

            def read(offsets: tuple[int, int]) -> Iterator[bytes]:
                file.seek(begin + offsets[0])
                left = offsets[1] - offsets[0]
                while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk

            if checksum((name, read(offsets)) for name, offsets in tensors.items()) != expected:
                raise ValueError("its checksum differs")


def header(file: IO[bytes]) -> dict[str, Any]:
    """The header of a safetensors file: the entry of each tensor, with its shape and offsets, and `__metadata__`.

    The position is then at the first tensor. Raises ValueError for a damaged one.
    """
    length = file.read(8)
    count = int.from_bytes(length, "little")
    if len(length) < 8 or count > _MAX_HEADER:
        raise ValueError("it has no header")
    try:
        entries = json.loads(file.read(count))
        for name, entry in entries.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                if not 0 <= first <= last:
                    raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("its header is damaged") from None
    return entries  # type: ignore[no-any-return]


def _notes(entries: dict[str, Any]) -> dict[str, str]:
    found = entries.get("__metadata__", {})
    return found if isinstance(found, dict) else {}
