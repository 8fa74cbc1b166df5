"""Which models generate texts in a view, and where their processes run."""

from __future__ import annotations

import platform
import re
import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.config.decoding_presets import chosen_preset
from tdiff.errors import TdiffError
from tdiff.patterns import lazy
from tdiff.watch.follow import Watched
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.targets import Target

if TYPE_CHECKING:
    from tdiff.watch.generation.process import Child
    from tdiff.watch.generation.session import Live
    from tdiff.watch.options import Options
    from tdiff.watch.sources.address import Address


_LOGS = (".log", ".out", ".err", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
"""Suffixes of log files, as opposed to folders of runs. A run's event log has one of them too."""
_MISSING = lazy(r"exit 127|not found|unknown command", re.IGNORECASE)
"""What shells print for a program that is not installed."""
_MAX_LOG_DELAY = 1.0
"""Seconds after which, at the latest, the log reports weights that were written."""


def model_pair(
    options: Options, watched: Callable[[], Sequence[Watched]], trains_here: Callable[[], bool]
) -> ModelPair:
    """The live generations of a view, each as `live_generation` says; none if only logs without a model are watched."""
    targets = [followed.target for followed in watched()]
    if options.model is None and targets and not any(map(has_model, targets)):
        return ModelPair()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed  # a common one: texts are compared
    of_models = (replace(options, model=model, seed=seed) for model in (options.model, *options.others))
    return ModelPair(*(live_generation(of_model, watched, trains_here) for of_model in of_models))


def live_generation(
    options: Options, watched: Callable[[], Sequence[Watched]], trains_here: Callable[[], bool]
) -> Live:
    """The live generation of a view.

    The model is the requested one; otherwise that of the first watched run, on the run's host; and the shipped one
    while there is no run, or the run has no weights. `watched` returns what is watched; runs may join later. While
    `trains_here` returns that a watched run trains on this machine, the process yields to it, unless the user
    requested a device.
    """
    from tdiff.watch.generation import process
    from tdiff.watch.generation.session import Live

    def courteous() -> bool:
        return options.device == "auto" and trains_here()

    def start_here(model: str) -> Child:
        return process.Child(process.command(model, options.device, share=courteous()))

    def newest() -> tuple[str, float] | None:
        if options.model is not None:
            return _newest(options.model)
        first = _first_run(watched())
        if first is None:
            return None
        if first.target.address is not None:
            checkpoint = first.run_state.checkpoint
            return None if checkpoint is None else (_folder(first.target.address), checkpoint.time - _MAX_LOG_DELAY)
        return _newest(str(first.target.run.path)) if first.target.run is not None else None

    first = _first_run(watched())
    address = first.target.address if first is not None and options.model is None else None

    def start_there(model: str) -> Child:
        assert address is not None
        return process.Child(_over_ssh(address, model, options.device))

    def ended(reason: str) -> str:
        if address is not None and _MISSING.search(reason):
            return f"tdiff is not installed on {address.host}: no model writes there, and the log's samples are shown"
        return f"the model's process ended: {reason}"

    from tdiff.runs.lookup import DEFAULT_MODEL

    return Live(
        start_here if address is None else start_there,
        options.model or (DEFAULT_MODEL if address is None else _folder(address)),
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
        options=chosen_preset(options.fast, options.best, options.decoding) | options.decoding,
        prompt=options.prompt,
        length=options.length,
        every=options.every,
        newest=newest,
        courteous=courteous if address is None else lambda: False,  # on the other host it always yields
        ended=ended,
    )


def has_model(target: Target) -> bool:
    """Whether it is a run, which has or will have a model, rather than a log of another program."""
    if target.address is not None:
        path = Path(target.address.path)
        return not target.address.job and (path.name == "events.jsonl" or path.suffix not in _LOGS)
    return target.run is not None


def _first_run(watched: Sequence[Watched]) -> Watched | None:
    return next((followed for followed in watched if has_model(followed.target)), None)


def trains_on_this_host(host: str | None, state: str) -> bool:
    """Whether a run on that host and in that state computes on this machine now."""
    return host == platform.node() and state in ("running", "stalled")


def _newest(name: str) -> tuple[str, float] | None:
    """The folder of a model's newest weights, and the time at which they were written."""
    from tdiff.runs import lookup

    try:
        folder = lookup.find_model(name)
        return str(folder), (folder / "model.safetensors").stat().st_mtime
    except (TdiffError, OSError):  # not written yet, or being replaced
        return None


def _folder(address: Address) -> str:
    """The folder of the run that an address names."""
    path = Path(address.path)
    return str(path.parent if path.name == "events.jsonl" else path)


def _over_ssh(address: Address, model: str, device: str) -> list[str]:
    """The command for `tdiff serve` on another host; paths are relative to the home folder, where ssh starts."""
    words = shlex.join(["serve", f"--model={model}", f"--device={device}", "--share"])
    return [*address.command(), f'PATH="$PATH:$HOME/.local/bin" exec tdiff {words}']
