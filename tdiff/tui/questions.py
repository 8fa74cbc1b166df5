"""What the user is asked for in a line of text, and the keys that ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tdiff.tui.key import Key, names_of
from tdiff.tui.key_table import KEYS
from tdiff.tui.widgets.question_line import Question

if TYPE_CHECKING:
    from tdiff.watch.generation.session import Live


def opening_key(pressed: str, where: str, changed: Mapping[str, str]) -> Key | None:
    """The key of a pane or of the app that opens a line of text, where `pressed` (textual's name) is one.

    `changed` (id -> keys) holds the user's own keys.
    """
    for key in KEYS:
        if key.opens_line and key.where in (where, "app") and pressed in names_of(changed.get(key.id, key.keys)):
            return key
    return None


def prompt_question(live: Live, two: bool, answer: Callable[[str], None]) -> Question:
    """Ask for the prompt of the next text; `two` models get the same one."""
    prompt, owner = ("prompt of both", "the first model's") if two else ("prompt", "the model's")
    value = (live.prompt or "").replace("\n", "\\n")
    return Question(f"{prompt} (\\n is a new line; empty: {owner} default prompts)", answer, value)
