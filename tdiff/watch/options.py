"""The options of `tdiff watch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tdiff.config.decoding_presets import preset_help
from tdiff.config.options import DEVICES, argument, decoding, option

ALIGNMENTS = ("step", "time", "start")
"""How the curves of several runs lie on one x axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command."""

    targets: Sequence[str] = argument(
        (),
        "Up to four: a run's folder or name, a log, a table, a trace, a folder of another program, -, slurm:JOBID or "
        "ssh://host/path; default: the newest run.",
        metavar="[TARGET]...",
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
    prompt: str | None = option(None, "Text to continue.", panel="Input", shown="default: the model's default prompts")
    race: Sequence[str] = option(
        (),
        "Race a decoder with options, or model=NAME, against others on one prompt and seed: two to four times.",
        panel="Decoding",
        metavar="SETTINGS",
    )
    classify: Sequence[str] = option(
        (),
        "Show the prediction for this text as mask samples arrive; requires --model; repeatable.",
        panel="Input",
        metavar="TEXT",
    )
    length: int = option(0, "Tokens to generate.", panel="Input", shown="default: up to the context length")
    seed: int | None = option(None, "Seed of the texts.", shown="default: random", panel="Input")
    fast: bool = option(False, preset_help("fast"), flag="--fast", panel="Decoding")
    best: bool = option(False, preset_help("best"), flag="--best", panel="Decoding")
    decoding: dict[str, Any] = decoding()
    """The fields of DecodeSettings that the user set."""
    every: float = option(5.0, "Seconds between the end of a text and the start of the next.", panel="Input")
    loss: str = option(
        "", "Name of the number that is the loss; remembered for the file.", panel="Numbers", metavar="NAME"
    )
    step: str = option("", "Name of the number that counts steps.", panel="Numbers", metavar="NAME")
    val: str = option("", "Name of the number that is the validation loss.", panel="Numbers", metavar="NAME")
    pattern: str = option(
        "",
        "Regular expression for lines, with groups loss, step, val, total, epoch, lr or time, as in (?P<loss>...).",
        panel="Numbers",
        metavar="REGEX",
    )
    forget: bool = option(False, "Drop the names remembered for these files.", flag="--forget", panel="Numbers")
    once: bool = option(False, "Print a snapshot as plain text and exit.", flag="--once", panel="Output")
    as_json: bool = option(False, "Print the snapshot as JSON, one line per run.", flag="--json", panel="Output")
    wait: bool = option(
        False, "Wait without a screen until all runs have ended; exit code 0 if all have finished.", panel="Output"
    )
    notify: str = option("", "How alerts call you: desktop, bell or off.", panel="Alerts", shown="default: desktop")
    on_alert: str | None = option(
        None, "Shell command to run for each new alert; it gets TDIFF_ALERT_TEXT and others.", panel="Alerts"
    )
    doctor: bool = option(
        False,
        "Print the properties of this terminal that were detected, and the resulting settings.",
        flag="--doctor",
        panel="Output",
    )
    no_mouse: bool = option(False, "Leave the mouse to the terminal.", flag="--no-mouse", panel="Screen")
    color: str = option(
        "", "Number of colours.", panel="Screen", metavar="[auto|truecolor|256|16|none]", shown="default: auto"
    )
    glyphs: str = option(
        "",
        "Glyph of a mask; ascii: ASCII only.",
        panel="Screen",
        metavar="[auto|block|space|ascii]",
        shown="default: auto",
    )
    palette: str = option(
        "", "Colours of confidence.", panel="Screen", metavar="[auto|dark|light|traffic]", shown="default: auto"
    )
    theme: str = option(
        "",
        "A theme of Textual, such as nord or textual-light.",
        panel="Screen",
        metavar="NAME",
        shown="default: the terminal's colours",
    )
    smooth: float = option(0.6, "Weight of the past in the smoothed curve, from 0 to below 1.", panel="Curves")
    target: float | None = option(None, "Value to draw a line at, with the time until it is reached.", panel="Curves")
    align: str = option(
        "step",
        "Align runs by step, by time since each started, or by steps since each started.",
        choices=ALIGNMENTS,
        panel="Curves",
    )
    device: str = option("auto", "Device of the model.", choices=DEVICES, panel="Advanced")
