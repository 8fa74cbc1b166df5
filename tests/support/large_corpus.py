"""A corpus of 10 GB that takes no space, since its files are links, and a training's way to the first step on it."""

import json
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tdiff.core.training import token_files
from tdiff.core.training.state import TrainState
from tests.commands.test_several_processes import command
from tests.support.runs import SET_TINY, words

FILE = 10_000_000
"""Bytes of a text file, which has as many tokens."""
FILES = 1_000
"""The files of the large corpus: 10 GB of text, and 20 GB of tokens."""
COPIES_PER_SHARD = 8
"""How often a shard has the tokens of a text file, so that there are about as many shards as tdiff writes."""


@dataclass(frozen=True, slots=True)
class FirstStep:
    """What a training has used once its first step is done. Linux alone has these units, and counts what is read."""

    seconds: float
    """Of computing, which another program on the machine changes little."""
    memory: int
    """Bytes by which the most memory at once has grown, mapped files included."""
    read: int
    """Bytes that were read from files, mapped ones excluded."""
    tokens: int
    """Tokens of the training part."""


def write_repeated(folder: Path, paths: list[Path], key: str, data, tokenizer, progress) -> dict:
    """Write token files as tdiff does, but encode the first file alone: the others are links to it."""
    text = paths[0].read_text()
    tokens = tokenizer.encode(text, "the corpus").numpy().astype("<u2")
    folder.mkdir()
    per_shard = min(COPIES_PER_SHARD, len(paths))
    shard = folder / "tokens-00000.bin"
    shard.write_bytes(tokens.tobytes() * per_shard)
    counts = [len(tokens) * per_shard] * (len(paths) // per_shard)
    for number in range(1, len(counts)):
        os.link(shard, folder / f"tokens-{number:05d}.bin")
    manifest = {"key": key, "dtype": "<u2", "shards": counts, "training": sum(counts) * 9 // 10}
    manifest |= {"text_sha256": f"{len(paths):064d}", "fingerprint": f"{len(paths):064d}"}
    (folder / "tokens.json").write_text(json.dumps(manifest))
    return manifest


def first_steps(folder: Path) -> tuple[FirstStep, FirstStep]:
    """The first step on one file and on the large corpus, once their token files exist; runs are in the current folder.

    Everything is imported before the measurement as well.
    """
    torch.set_num_threads(1)  # those of OpenMP do not survive a fork
    library, file = folder / "library", folder / "library" / "00000.txt"
    library.mkdir()
    text = words(200_000)
    file.write_text((text * (FILE // len(text) + 1))[:FILE])
    for number in range(1, FILES):
        os.link(file, library / f"{number:05d}.txt")
    train = ["train", "--device=cpu", *SET_TINY, "--steps=1", "--set=train.eval_every=0"]
    train += ["--set=train.sample_every=0", "--tokenizer=char"]
    small, large = (
        [*train, f"--data={s}", f"--set=data.token_files={folder / s.stem}.tokens"] for s in (file, library)
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(token_files, "_write", write_repeated)

        def leave(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(TrainState, "update", leave)
        for options in (small, large):
            assert command(*options).returncode == 130
    return first_step(small), first_step(large)


def first_step(options: list[str]) -> FirstStep:
    """Train in a forked process until the first step is done."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        started, memory_before, read_before = time.process_time(), _peak(), _read()
        original = TrainState.update

        def update(state: TrainState, spent: float) -> None:
            original(state, spent)
            used = time.process_time() - started, _peak() - memory_before, _read() - read_before
            os.write(writing, json.dumps([*used, state.data.token_count]).encode())
            os._exit(0)

        TrainState.update = update
        try:
            print(command(*options))
        finally:
            os._exit(1)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0, "the training failed"
    with os.fdopen(reading) as result:
        return FirstStep(*json.load(result))


def _peak() -> int:
    """The most bytes of memory that this process has had at once."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _read() -> int:
    """The bytes that this process has read."""
    return int(Path("/proc/self/io").read_text().split()[1])
