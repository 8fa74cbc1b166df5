"""Commands by name: what a typed word may mean, the likeliest first. Pure; it knows neither screen nor app."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from tdiff.tui.keymap import Key

_WHOLE, _BEGINS, _OF_ID, _WITHIN = 8, 6, 3, 1
"""What a typed word is worth where it is a word of the command, begins one, begins one of its id, or is inside one."""
_SHORTEST = 3
"""Letters from which a typed word may stand inside another."""
_EARLY = 0.1
"""What each word that stands before the one that was meant takes from it."""
_ALIKE = 0.7
"""How alike a misspelt word must be to one that is known."""


def ranked(typed: str, keys: Sequence[Key], here: str, used: Sequence[str]) -> list[Key]:
    """The commands that have every word of `typed`, the best first; all, where it is empty.

    Of equals those come first that were `used` (ids, the newest first), then those of the pane `here`, then the app's.
    """

    def use(key: Key) -> tuple[int, int]:
        return used.index(key.id) if key.id in used else len(used), (here, "app", key.where).index(key.where)

    wanted = typed.casefold().split()
    if not wanted:
        return sorted(keys, key=use)
    known = {word for key in keys for word in _words(key.does)}
    wanted = [word if any(_worth(word, key) for key in keys) else _meant(word, known) for word in wanted]
    worth = {key.id: [_worth(word, key) for word in wanted] for key in keys}
    fitting = [key for key in keys if all(worth[key.id])]
    return sorted(fitting, key=lambda key: (-sum(worth[key.id]), *use(key)))


def _worth(word: str, key: Key) -> float:
    """How well a typed word fits a command; 0: not at all."""
    fits = [0.0]
    for n, other in enumerate(_words(key.does)):
        if other.startswith(word):
            fits.append((_WHOLE if other == word else _BEGINS) - min(n, 9) * _EARLY)
        elif len(word) >= _SHORTEST and word in other:
            fits.append(_WITHIN)
    if any(part.startswith(word) for part in key.id.split("_")):
        fits.append(_OF_ID)
    return max(fits)


def _meant(word: str, known: set[str]) -> str:
    """The known word that is most like a misspelt one; the word itself where none is."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)), word)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.casefold())
