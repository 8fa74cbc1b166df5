"""The options of `tdiff watch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tdiff.config.options import DEVICES, argument, decoding, option


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command."""

    targets: Sequence[str] = argument(
        (),
        "Up to four: a run's folder or name, a log, a table, a trace, - or ssh://host/path; default: the newest run.",
        metavar="[WHAT]...",
        complete="runs",
    )
    all_runs: bool = option(
        False, "Show a table of all runs in a folder, here or at ssh://host/folder.", flag="--all", panel="Input"
    )
    model: str | None = option(
        None,
        "Model that generates; given twice, two models side by side.",
        panel="Input",
        complete="models",
        shown="default: the newest weights of the watched run",
        rest="others",
    )
    others: Sequence[str] = ()
    """Models that generate beside it."""
    prompt: str | None = option(None, "Text to continue.", panel="Input", shown="default: default prompts of the model")
    classify: Sequence[str] = option(
        (), "Show the classes of this text as mask samples arrive; repeatable.", panel="Input", metavar="TEXT"
    )
    length: int = option(0, "Tokens to generate.", panel="Input", shown="default: up to the context length")
    seed: int | None = option(None, "Seed of the first text; later texts have the next rows.", panel="Input")
    decoding: dict[str, Any] = decoding()
    """The fields of DecodeSettings that the user set."""
    every: float = option(5.0, "Seconds between the end of a text and the next.", panel="Input")
    once: bool = option(False, "Print a snapshot as plain text and exit.", flag="--once", panel="Output")
    as_json: bool = option(False, "Print the snapshot as JSON, one line per run.", flag="--json", panel="Output")
    doctor: bool = option(
        False, "Print what was detected about this terminal, and what was chosen.", flag="--doctor", panel="Output"
    )
    mouse: bool = option(True, "Leave the mouse to the terminal.", flag=" /--no-mouse", panel="Screen")
    color: str = option("", "auto, truecolor, 256, 16 or none.", panel="Screen")
    glyphs: str = option("", "auto, block, space or ascii.", panel="Screen")
    palette: str = option("", "Colours of confidence: auto, dark, light or traffic.", panel="Screen")
    theme: str = option("", "A theme of Textual, such as nord or textual-light.", panel="Screen")
    device: str = option("auto", "Device of the model.", choices=DEVICES, panel="Advanced")
