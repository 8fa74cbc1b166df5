"""`tdiff serve`: a model's process, which `tdiff watch` starts."""

from __future__ import annotations

from dataclasses import dataclass

from tdiff.config.options import DEVICES, MODEL_HELP, option
from tdiff.runs.lookup import DEFAULT_MODEL

EXAMPLES = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    model: str = option(DEFAULT_MODEL, MODEL_HELP, complete="models")
    device: str = option("auto", "Device.", choices=DEVICES)
    share: bool = option(
        False, "Give way to a run on this machine: use the CPU only, and only when it is idle.", flag="--share"
    )


def run(request: Request) -> None:
    """Read requests as JSON lines from stdin and write the lines of traces to stdout."""
    from tdiff.core.serve import serve

    serve(request.model, request.device, share=request.share)
