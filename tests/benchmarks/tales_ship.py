"""Shipping the storyteller: a run becomes `checkpoints/tales`, with weights in 8 bits and a card."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import re
import shutil
from collections import deque
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch

from tdiff import formatting
from tdiff.config.decoding import decoding
from tdiff.core.diffusion.generate import canvas, resolve
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model, save_model
from tdiff.runs.lookup import find_model
from tdiff.runs.run import Run
from tests.benchmarks.tales_card import card

NAME = "tales"
LIMIT = 16_000_000
"""Bytes of all models of the wheel together."""
PROMPT, LENGTH, SEED = "Once upon a time", 96, 7
"""The prompt, the tokens and the seed of the card's text, chosen before there was one."""


def ship(options: argparse.Namespace, root: Path) -> None:
    """Write checkpoints/tales under `root`, and name it in pyproject.toml and the lookup.

    Raises SystemExit where the models of the wheel have more than LIMIT bytes.
    """
    words = options.decoding.split()
    decoding(words)
    source = load_model(options.model)
    run = find_model(options.model).parent
    target = root / "checkpoints" / NAME
    (target / "model").mkdir(parents=True, exist_ok=True)
    # No path of the machine that trained it.
    own = {path: f"{NAME}/{Path(path).name}" for path in (*source.origin.sources, *source.origin.evaluation)}
    origin = dataclasses.replace(
        source.origin,
        decoding=tuple(words),
        sources=tuple(map(own.__getitem__, source.origin.sources)),
        evaluation=tuple(map(own.__getitem__, source.origin.evaluation)),
        corpus=NAME,
    )
    save_model(target / "model", source.network, source.tokenizer, origin, torch.int8)
    for name in ("config.toml", "events.jsonl"):
        text = (run / name).read_text("utf-8")
        for path, public in own.items():
            text = text.replace(path, public)
        (target / name).write_text(text, encoding="utf-8")
    if (run / "samples").is_dir():
        shutil.copytree(run / "samples", target / "samples", dirs_exist_ok=True)
    model = load_model(str(target))
    size = _size(target / "model")
    read = {name: _json(getattr(options, name)) for name in ("evaluation", "judged")}
    votes = [_json(path) for path in options.votes]
    text = card(model, size, Run(target), _text(model), read["evaluation"], read["judged"], votes)
    (target / "README.md").write_text(text, encoding="utf-8")
    shipped = [root / "checkpoints" / name for name in ("shakespeare", NAME)]
    total = sum(_size(path / "model") for path in shipped if path.is_dir())
    print(f"{target}: {formatting.size(size)}; all models of the wheel {formatting.size(total)}")
    if total > LIMIT:
        raise SystemExit(
            f"the models of the wheel may have {formatting.size(LIMIT)}; they have {formatting.size(total)}"
        )
    _enter(root, default=options.default)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _json(path: Path | None) -> Any:
    return None if path is None else json.loads(path.read_text("utf-8"))


def _text(model: LoadedModel) -> tuple[str, str]:
    """The command of the card's text, and the text."""
    start = canvas(model, [PROMPT], LENGTH)
    with redirect_stderr(io.StringIO()):
        step = deque(resolve(model, start, model.decode_settings({}, SEED), [0]), maxlen=1).pop()
    command = f'tdiff generate "{PROMPT}" --model {NAME} --length {LENGTH} --seed {SEED}'
    return command, model.tokenizer.decode(step.tokens[0])


def _enter(root: Path, *, default: bool) -> None:
    """Name the model in pyproject.toml and tdiff/runs/lookup.py, where it is not named yet."""
    project = root / "pyproject.toml"
    text = project.read_text("utf-8")
    if f"checkpoints/{NAME}/" not in text:
        rows = re.findall(r'^"checkpoints/shakespeare/.*\n', text, re.MULTILINE)
        named = [row.replace("shakespeare", NAME) for row in rows]
        present = [row for row in named if (root / row.split('"')[1]).exists()]
        text = text.replace(rows[-1], rows[-1] + "".join(present))
        listed = re.findall(r'"/checkpoints/shakespeare/[^"]*"', text)
        more = ", ".join(f'"/{row.split(chr(34))[1]}"' for row in present)
        text = text.replace(listed[-1], f"{listed[-1]}, {more}")
        project.write_text(text, encoding="utf-8")
    lookup = root / "tdiff" / "runs" / "lookup.py"
    text = lookup.read_text("utf-8")
    text = text.replace('SHIPPED = ("shakespeare",)', f'SHIPPED = ("shakespeare", "{NAME}")')
    if default:
        text = re.sub(r'^DEFAULT_MODEL = ".*"', f'DEFAULT_MODEL = "{NAME}"', text, flags=re.MULTILINE)
    lookup.write_text(text, encoding="utf-8")
