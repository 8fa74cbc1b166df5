"""The plan in a command line that a record holds: `"argv": ["python", "train.py", "--iters", "30000"]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tdiff.watch.formats.names import Meaning, Role

_KEYS = ("argv", "args", "cmd", "command", "cmdline", "command_line", "commandline", "cli")
_INNER = frozenset(_KEYS)
_NUMBERS = frozenset([float, int])
_COUNTED = frozenset(["steps", "iters", "iterations", "updates", "rounds"])
"""Names of an option that is the number of all steps, though a record's step may be named so too."""
_LONGEST, _MOST_WORDS = 20_000, 1_000


def plan_of_command(pairs: Mapping[Any, Any], meaning: Callable[[str], Meaning]) -> dict[str, float]:
    """Name -> number of the steps or the epochs that the command line of a record asks for."""
    found: dict[str, float] = {}
    if _NUMBERS.issuperset(map(type, pairs.values())):
        return found
    for inner in pairs.values():
        if isinstance(inner, Mapping) and not _INNER.isdisjoint(inner):
            found |= plan_of_command(inner, meaning)
    for key in _KEYS:
        if (command := pairs.get(key)) is None or type(command) not in (str, list):
            continue
        for option, value in _options(_words(command)):
            name = option.replace("-", "_")
            name = f"total_{name}" if name.lower() in _COUNTED else name
            if meaning(name).role in (Role.TOTAL, Role.EPOCHS):
                found[name] = float(value)
    return found


def _words(command: str | list[Any]) -> list[str]:
    words = command[:_LONGEST].split() if isinstance(command, str) else command
    return [word if isinstance(word, str) else str(word) for word in words[:_MOST_WORDS] if type(word) in (str, int)]


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """(name, digits) of each option whose value is a whole number, and of settings such as `trainer.max_steps=300`."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, sign, value = word.partition("=")
        if not sign:
            name, value = word, after
        if (sign or word.startswith("-")) and value.isascii() and value.isdecimal() and len(value) < 16:
            yield name.lstrip("-+").rpartition(".")[2], value
