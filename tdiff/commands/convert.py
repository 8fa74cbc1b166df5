"""`tdiff import`: a checkpoint of another project as a model folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tdiff.config.options import argument, option
from tdiff.errors import TdiffError, unknown
from tdiff.visible import visible_line

KINDS = ("tiny-diffusion",)
"""Projects whose checkpoints can be converted."""
_PROMPT = "To be, or not to"
"""Sixteen characters, the length of the prompts that tiny-diffusion's model was trained with."""
EXAMPLES = ("tdiff import tiny-diffusion diffusion_model.pt tiny",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    kind: str = argument(help="Project that the checkpoint is from: tiny-diffusion.")
    file: Path = argument(help="Checkpoint file, such as diffusion_model.pt.")
    out: Path = argument(help="Folder for the converted model, which must not exist.")
    heads: int | None = option(None, "Attention heads, which the checkpoint does not record.", shown="default: 6")


def run(request: Request) -> None:
    """Convert the checkpoint."""
    convert(request.kind, request.file, request.out, request.heads)


def convert(kind: str, file: Path, out: Path, heads: int | None = None) -> None:
    """Read a checkpoint of `kind` from `file` and write the model folder `out`.

    `heads` is the number of attention heads, which the weights do not record; default: that of the project's model.
    Raises TdiffError for an unknown kind, a file of another kind, or an existing `out`; nothing is written then.
    """
    if kind not in KINDS:
        raise unknown("project", kind, KINDS)
    if os.path.lexists(out):
        raise TdiffError(f"{str(out)!r} exists and is not overwritten; name a new folder")

    from tdiff.core.models import tinydiffusion
    from tdiff.core.models.load import save_model

    network, tokenizer, origin = tinydiffusion.read(file, tinydiffusion.HEADS if heads is None else heads)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise TdiffError(f"the folder {str(out)!r} cannot be made: {error.strerror}") from None
    try:
        save_model(out, network, tokenizer, origin)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    count = sum(weight.numel() for weight in network.parameters()) / 1e6
    line = f"read {count:.1f}M parameters; try: tdiff generate {shlex.quote(_PROMPT)} --model {shlex.quote(str(out))}"
    print(visible_line(line), file=sys.stderr)
