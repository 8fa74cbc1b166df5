"""A corpus of 10 GB: the way to the first step takes the time and the memory of a small one."""

import json
import os
import resource
import time
from pathlib import Path

import pytest

from tdiff.core.training import token_files
from tdiff.core.training.state import TrainState
from tests.commands.test_several_processes import command
from tests.support.runs import SET_TINY, words

FILE = 10_000_000
"""Bytes of a text file, which is also a shard of so many tokens."""
FILES = 1_000
"""How often it is repeated by links: 10 GB of text, and 20 GB of tokens."""
LINKS_OF_SHARD = 8
"""How often the text is repeated within a shard, so that there are about as many shards as tdiff writes."""


def repeated(folder: Path, paths: list[Path], key: str, data, tokenizer, progress) -> dict:
    """Write token files as tdiff does, but encode the first file alone: the others are links to it."""
    text = paths[0].read_text()
    tokens = tokenizer.encode(text, "the corpus").numpy().astype("<u2")
    folder.mkdir()
    per_shard = min(LINKS_OF_SHARD, len(paths))
    shard = folder / "tokens-00000.bin"
    shard.write_bytes(tokens.tobytes() * per_shard)
    counts = [len(tokens) * per_shard] * (len(paths) // per_shard)
    for number in range(1, len(counts)):
        os.link(shard, folder / f"tokens-{number:05d}.bin")
    manifest = {"key": key, "dtype": "<u2", "shards": counts, "training": sum(counts) * 9 // 10}
    manifest |= {"text_sha256": f"{len(paths):064d}", "fingerprint": f"{len(paths):064d}"}
    (folder / "tokens.json").write_text(json.dumps(manifest))
    return manifest


def peak() -> int:
    """The most bytes of memory that this process has had at once, mapped files included."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def first_step(options: list[str]) -> tuple[float, int, int]:
    """Train in a forked process until the first step is done.

    Returns the seconds of computing, the growth of the memory in bytes, and the tokens of the training part.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        started, before, original = time.process_time(), peak(), TrainState.update

        def update(state: TrainState, spent: float) -> None:
            original(state, spent)
            measured = (time.process_time() - started, peak() - before, state.data.token_count)
            os.write(writing, json.dumps(measured).encode())
            os._exit(0)

        TrainState.update = update
        try:
            print(command(*options))
        finally:
            os._exit(1)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0, "the training failed"
    with os.fdopen(reading) as result:
        return tuple(json.load(result))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_first_step_on_10_gb_takes_the_time_and_memory_of_that_on_10_mb(here, monkeypatch):
    library, file = here / "library", here / "library" / "00000.txt"
    library.mkdir()
    text = words(200_000)
    file.write_text((text * (FILE // len(text) + 1))[:FILE])
    for number in range(1, FILES):
        os.link(file, library / f"{number:05d}.txt")
    train = ["train", "--device=cpu", *SET_TINY, "--steps=1", "--set=train.eval_every=0"]
    train += ["--set=train.sample_every=0", "--tokenizer=char"]
    sources = {"small": file, "large": library}
    of_name = {name: [*train, f"--data={source}", f"--set=data.token_files={name}"] for name, source in sources.items()}
    with monkeypatch.context() as patched:  # the tokens are written, and everything is imported, before the measurement
        patched.setattr(token_files, "_write", repeated)

        def leave(*_):
            raise KeyboardInterrupt

        patched.setattr(TrainState, "update", leave)
        for name, options in of_name.items():
            assert command(*options, f"--run=written-{name}").returncode == 130
    seconds, memory, tokens = zip(*(first_step([*of_name[name], f"--run={name}"]) for name in sources), strict=True)
    print(f"computing {seconds} s, memory {[round(size / 1e6) for size in memory]} MB, tokens {tokens}")
    assert tokens == (FILE * 9 // 10, FILE * FILES * 9 // 10)
    # Seconds of computing, which another program on the machine does not change.
    assert max(seconds) < 2
    assert max(memory) < 500e6
    assert seconds[1] < 1.5 * seconds[0] + 0.3
    assert memory[1] < memory[0] + 100e6
