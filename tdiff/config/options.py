"""Options declared once, as fields of a dataclass that a command takes; `tdiff.commands.options` makes flags of them.

The metadata of a field hold what the dataclass itself does not: help, panel, flags, choices and completion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

DEVICES = ("auto", "cuda", "mps", "cpu")
MODEL_HELP = "Model: a folder, a run (RUN, RUN:best, RUN:STEP), or a name on the Hugging Face hub."
TEXT_FIELD_HELP = "Field of .jsonl and .csv rows that holds the text."


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    flag: str = "",
    panel: str = "Options",
    shown: str = "",
    choices: Sequence[str] = (),
    complete: str = "",
    metavar: str = "",
    setting: str = "",
    rest: str = "",
    bare: str = "",
    hidden: bool = False,
) -> Any:
    """A field that is an option of a command; without a default the option is required.

    `flag`: its name where that is not the field's. `shown`: the default for the help, in words. `choices`: its only
    values. `complete`: what the shell completes it with, a function of `tdiff.commands.completion`. `setting`: the
    name of the training setting that it sets. `rest`: the field that holds all values but the first. `bare`: its value
    if none of `choices` follows it.
    """
    metadata = {
        "help": help,
        "flag": flag,
        "panel": panel,
        "shown": shown,
        "choices": tuple(choices),
        "complete": complete,
        "metavar": metavar,
        "setting": setting,
        "rest": rest,
        "bare": bare,
        "hidden": hidden,
    }
    return dataclasses.field(default=default, metadata=metadata)


def argument(default: Any = dataclasses.MISSING, help: str = "", *, metavar: str = "", complete: str = "") -> Any:
    """A field that is a positional argument of a command."""
    metadata = {"help": help, "argument": True, "metavar": metavar, "complete": complete}
    return dataclasses.field(default=default, metadata=metadata)


def nested() -> Any:
    """A field that is a dataclass of options itself; its options are those of the command too."""
    return dataclasses.field(metadata={"nested": True})


def decoding() -> Any:
    """A field that holds the fields of DecodeSettings that the user set."""
    return dataclasses.field(default_factory=dict, metadata={"decoding": True})
