"""What comes back from a GPU machine of a run: files below a limit, after a check that its loss fell."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from tdiff import formatting
from tdiff.protocol.events import Train
from tdiff.runs.lookup import find_model
from tdiff.runs.run import Run

PIECE = 15_000_000
"""Bytes of a file at most."""
SHARE = 0.05
"""Share of the records, at the start and at the end, whose losses are compared."""


def pack(name: str, out: Path) -> None:
    """Copy the model and the log of run `name` to `out`; `cat model.safetensors.*` puts the weights together again.

    Raises SystemExit if the run's loss did not fall.
    """
    model = find_model(name)
    run = Run(model.parent)
    losses = [event.loss for event in run.history() if isinstance(event, Train)]
    count = max(1, round(SHARE * len(losses)))
    first, last = (sum(part) / count if part else math.nan for part in (losses[:count], losses[-count:]))
    if not last < first:
        raise SystemExit(f"{name}: the loss did not fall: {first:.4f} at the start, {last:.4f} at the end")
    out.mkdir(parents=True, exist_ok=True)
    for file in (run.path / "config.toml", run.path / "events.jsonl", *sorted(model.glob("*.json"))):
        shutil.copy(file, out / file.name)
    weights = (model / "model.safetensors").read_bytes()
    pieces = [weights[at : at + PIECE] for at in range(0, len(weights), PIECE)]
    for n, piece in enumerate(pieces):
        (out / f"model.safetensors.{n:02d}").write_bytes(piece)
    print(
        f"{out}: loss {first:.4f} to {last:.4f} in {len(losses):,} records; weights {formatting.size(len(weights))} "
        f"in {len(pieces)} files"
    )
