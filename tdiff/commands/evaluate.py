"""`tdiff eval`: the likelihood bound of a text under a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from tdiff.config.decoding import PRODUCTS
from tdiff.config.options import DEVICES, MODEL_HELP, TEXT_FIELD_HELP, argument, option

EXAMPLES = ("tdiff eval shakespeare --draws 1", "tdiff eval mine --data novel.txt --json")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    model: str = argument(help=MODEL_HELP, complete="models")
    data: Sequence[str] = option(
        (),
        "Text to evaluate on: files, folders, globs or -; repeatable.",
        panel="Input",
        metavar="SOURCE",
        shown="default: the model's corpus",
    )
    split: str | None = option(
        None,
        "Part of the text.",
        panel="Input",
        shown="default: all of --data, or the model's held-out text",
        metavar="[all|train|tuning|val]",
    )
    text_field: str | None = option(None, TEXT_FIELD_HELP, panel="Input", metavar="NAME", shown="default: text")
    draws: int | None = option(
        None, "Mask samples per window.", panel="Scoring", shown="default: 4; more for a text of under 16 windows"
    )
    seed: int = option(0, "Seed of the masks.", panel="Scoring", shown="default: 0")
    device: str = option("auto", "Device.", choices=DEVICES, panel="Advanced")
    precision: str = option(
        "float32", "Precision of matrix products on CUDA; a CPU uses float32.", choices=PRODUCTS, panel="Advanced"
    )
    as_json: bool = option(False, "Print one JSON object.", flag="--json", panel="Output")


def run(request: Request) -> None:
    """Evaluate and print the result; a progress bar goes to stderr."""
    from tdiff.commands.progress import load_model, progress_bar
    from tdiff.core import devices
    from tdiff.core.evaluation.likelihood import evaluate
    from tdiff.core.training import processes
    from tdiff.visible import json_line

    world = processes.join()
    with world.together(), world.in_turn():
        device = devices.choose(request.device)
        world.check_device(device)
        model = load_model(request.model, device)
        devices.lower_precision(model.network, request.precision, device)
    with progress_bar("masking windows") as bar:
        result = evaluate(
            model,
            request.data,
            request.split,
            text_field=request.text_field,
            draws=request.draws,
            seed=request.seed,
            progress=bar,
            shared=world,
        )
    processes.leave()
    if not world.leads:
        return
    if request.as_json:
        data = dataclasses.asdict(result)
        print(json_line({name: value if name == "tokens" else _rounded(value) for name, value in data.items()}))
        return
    low, high = result.interval_95
    interval = f"95% interval {low:.4f} to {high:.4f}" if high < math.inf else "too few mask samples for an interval"
    samples = f"{result.draws} mask sample{'s' * (result.draws != 1)} a window"
    print(
        f"{result.nats_per_char:.4f} nats a character, {result.bits_per_char:.4f} bits a character\n"
        f"{result.nats_per_token:.4f} nats a token ({interval})\n"
        f"{result.tokens:,} tokens, {samples}, {result.seconds:.1f} s"
    )


def _rounded(value: Any) -> Any:
    return [round(v, 6) for v in value] if isinstance(value, (list, tuple)) else round(value, 6)
