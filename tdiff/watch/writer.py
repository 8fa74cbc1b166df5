"""Which model writes beside what is watched, and where its process runs."""

from __future__ import annotations

import platform
import secrets
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff import runs
from tdiff.errors import TdiffError
from tdiff.watch.child import Child, command
from tdiff.watch.live import Live
from tdiff.watch.places import Target
from tdiff.watch.ssh import Address

if TYPE_CHECKING:
    from tdiff.watch.options import Options


def live(options: Options, targets: Callable[[], Sequence[Target]], trains_here: Callable[[], bool]) -> Live:
    """The live generation of a watch.

    The model is the one asked for, else that of the first watched run, where it lies, else the shipped one; `targets`
    tells what is watched, to which a run may come later. While `trains_here` says that a watched run trains on this
    machine, and no device was asked for, the process keeps out of its way.
    """

    def courteous() -> bool:
        return options.device == "auto" and trains_here()

    def here(model: str) -> Child:
        return Child(command(model, options.device, share=courteous()))

    def newest() -> tuple[str, float] | None:
        if options.model is not None:
            return _newest(options.model)
        first = next(iter(targets()), None)
        return _newest(str(first.run.path)) if first is not None and first.run is not None else None

    first = next(iter(targets()), None)
    start, instead, model = here, None, options.model or runs.SHIPPED
    if options.model is None and first is not None and first.address is not None:
        address = first.address
        model = _folder(address)
        start, instead = (lambda model: Child(_over_ssh(address, model, options.device))), (runs.SHIPPED, here)
    return Live(
        start,
        model,
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
        options=options.decoding,
        prompt=options.prompt,
        length=options.length,
        every=options.every,
        newest=newest,
        courteous=courteous,
        instead=instead,
    )


def trains_on_this_host(host: str | None, state: str) -> bool:
    """Whether a run of that host and state computes on this machine now."""
    return host == platform.node() and state in ("running", "stalled")


def _newest(name: str) -> tuple[str, float] | None:
    """The folder of a model's newest weights, and when they were written."""
    try:
        folder = runs.find_model(name)
        return str(folder), (folder / "model.safetensors").stat().st_mtime
    except (TdiffError, OSError):  # not written yet, or being replaced
        return None


def _folder(address: Address) -> str:
    """The folder of the run that an address names."""
    path = Path(address.path)
    return str(path.parent if path.suffix else path)


def _over_ssh(address: Address, model: str, device: str) -> list[str]:
    """`tdiff serve` on the far side, where it is installed there; paths are relative to the home folder, as ssh is."""
    words = shlex.join(["serve", f"--model={model}", f"--device={device}", "--share"])
    return [*address.command(), f'PATH="$PATH:$HOME/.local/bin" exec tdiff {words}']
