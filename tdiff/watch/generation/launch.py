"""Which models write beside what is watched, and where their processes run."""

from __future__ import annotations

import platform
import re
import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.errors import TdiffError
from tdiff.runs import lookup
from tdiff.watch.follow import Watched
from tdiff.watch.generation.pair import ModelPair
from tdiff.watch.generation.process import Child, command
from tdiff.watch.generation.session import Live
from tdiff.watch.sources.ssh import Address
from tdiff.watch.targets import Target

if TYPE_CHECKING:
    from tdiff.watch.options import Options


_LOGS = (".log", ".out", ".err", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
"""How names of files end that are no run's folder; the events of a run are in one of them too."""
_MISSING = re.compile(r"exit 127|not found|unknown command", re.IGNORECASE)
"""What shells say of a program that is not there."""
_TOLD_AFTER = 1.0
"""Seconds that a log tells of weights after they were written, at most."""


def company(options: Options, watched: Callable[[], Sequence[Watched]], trains_here: Callable[[], bool]) -> ModelPair:
    """All models that write in a watch, each as `live` says; none where only logs without a model are watched."""
    targets = [one.target for one in watched()]
    if options.model is None and targets and not any(map(has_model, targets)):
        return ModelPair()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed  # one, for they are compared
    each = (replace(options, model=model, seed=seed) for model in (options.model, *options.others))
    return ModelPair(*(live(one, watched, trains_here) for one in each))


def live(options: Options, watched: Callable[[], Sequence[Watched]], trains_here: Callable[[], bool]) -> Live:
    """The live generation of a watch.

    The model is the one asked for, else that of the first watched run, where it lies; the shipped one while there is no
    run, or while that has no weights. `watched` tells what is watched, to which a run may come later. While
    `trains_here` says that a watched run trains on this machine, and no device was asked for, the process keeps out of
    its way.
    """

    def courteous() -> bool:
        return options.device == "auto" and trains_here()

    def here(model: str) -> Child:
        return Child(command(model, options.device, share=courteous()))

    def newest() -> tuple[str, float] | None:
        if options.model is not None:
            return _newest(options.model)
        first = _first_run(watched())
        if first is None:
            return None
        if first.target.address is not None:
            written = first.story.checkpoint
            return None if written is None else (_folder(first.target.address), written.time - _TOLD_AFTER)
        return _newest(str(first.target.run.path)) if first.target.run is not None else None

    first = _first_run(watched())
    address = first.target.address if first is not None and options.model is None else None

    def there(model: str) -> Child:
        assert address is not None
        return Child(_over_ssh(address, model, options.device))

    def ended(reason: str) -> str:
        if address is not None and _MISSING.search(reason):
            return f"tdiff is not installed on {address.host}: no model writes there, and the log's samples are shown"
        return f"the model's process ended: {reason}"

    return Live(
        here if address is None else there,
        options.model or (lookup.SHIPPED if address is None else _folder(address)),
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
        options=options.decoding,
        prompt=options.prompt,
        length=options.length,
        every=options.every,
        newest=newest,
        courteous=courteous if address is None else lambda: False,  # on the far side it always is
        ended=ended,
    )


def has_model(target: Target) -> bool:
    """Whether it is a run, which has a model of its own or will have one, and no log of some other program."""
    if target.address is not None:
        path = Path(target.address.path)
        return path.name == "events.jsonl" or path.suffix not in _LOGS
    return target.run is not None


def _first_run(watched: Sequence[Watched]) -> Watched | None:
    return next((one for one in watched if has_model(one.target)), None)


def trains_on_this_host(host: str | None, state: str) -> bool:
    """Whether a run of that host and state computes on this machine now."""
    return host == platform.node() and state in ("running", "stalled")


def _newest(name: str) -> tuple[str, float] | None:
    """The folder of a model's newest weights, and when they were written."""
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
    """`tdiff serve` on the far side, where it is installed there; paths are relative to the home folder, as ssh is."""
    words = shlex.join(["serve", f"--model={model}", f"--device={device}", "--share"])
    return [*address.command(), f'PATH="$PATH:$HOME/.local/bin" exec tdiff {words}']
