"""Objects of JSON and dictionaries of Python within a line, as named numbers. Nothing is evaluated."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tdiff.patterns import lazy
from tdiff.watch.formats.commands import plan_of_command
from tdiff.watch.formats.long_form import long_form
from tdiff.watch.formats.names import Meaning, Role
from tdiff.watch.formats.numbers import decoded
from tdiff.watch.formats.splits import split_of_object

MOST = 512
"""Values of one line."""
_LAST_START, _DEPTH = 2_000, 4
_DECODER = json.JSONDecoder()
_WRAPPED = lazy(r"\b(?:np|numpy|torch|jnp)?\.?(?:float\d*|int\d*|tensor|array)\(([-+.\dePnaif]+)[^()]*\)")
_BARE = lazy(r"(?<=[:\s\[(,])([-+]?)(nan|inf)(?=\s*[,}\])])")


def structured(text: str, meaning: Callable[[str], Meaning]) -> tuple[int, dict[str, float], str] | None:
    """(where it begins, its numbers, the split that it names) of the first object on a line."""
    start = text.find("{")
    while 0 <= start <= _LAST_START:
        if (pairs := _object(text[start:] if start else text)) is not None:
            return start, numbers(pairs, meaning), split_of_object(pairs)
        start = text.find("{", start + 1)
    return None


def numbers(pairs: Mapping[Any, Any], meaning: Callable[[str], Meaning]) -> dict[str, float]:
    """Name -> number of nested mappings, names joined by `/`.

    A loss that is null is not finite, except beside an evaluation: a row for both leaves one of them empty.
    """
    values = dict(flattened(pairs, meaning))
    values |= plan_of_command(pairs, meaning)
    if "value" in pairs or "scalar" in pairs or "val" in pairs:
        form = long_form(tuple(map(str, pairs)))
        name = pairs.get(form[0]) if form is not None else None
        # Beside another loss, `name` is that of the run, and `val` its validation loss.
        beside = any(meaning(other).role is Role.LOSS for other in values if form is None or other != form[1])
        if (
            form is not None
            and isinstance(name, str)
            and not beside
            and (number := values.pop(form[1], None)) is not None
        ):
            values[name] = number
    if None in pairs.values() and any(
        meaning(name).role is Role.LOSS and meaning(name).split == "eval" and math.isfinite(value)
        for name, value in values.items()
    ):
        values = {name: value for name, value in values.items() if pairs.get(name, value) is not None}
    return values


def flattened(
    pairs: Mapping[Any, Any], meaning: Callable[[str], Meaning], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, float]]:
    """(name, number) of nested mappings."""
    for count, (key, value) in enumerate(pairs.items()):
        if count >= MOST:
            return
        name = f"{prefix}{key}"
        if type(value) is float:
            yield name, value
        elif isinstance(value, Mapping):
            if depth < _DEPTH:
                yield from flattened(value, meaning, f"{name}/", depth + 1)
        elif (number := decoded(value, name, meaning)) is not None:
            yield name, number


def _object(text: str) -> Mapping[str, Any] | None:
    if '"' in text:
        try:
            value, _ = _DECODER.raw_decode(text)
            return value if isinstance(value, dict) else None
        except (ValueError, RecursionError):
            pass
    if "'" not in text or (end := text.rfind("}")) < 0:
        return None
    body = text[: end + 1]
    if "(" in body:
        body = _WRAPPED.sub(r"\1", body)
    if '"' not in body and "\\" not in body:
        try:
            value = json.loads(body.replace("'", '"'))
            return value if isinstance(value, dict) else None
        except (ValueError, RecursionError):
            pass
    body = _BARE.sub(r"'\1\2'", body)
    try:
        value = ast.literal_eval(body)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict) else None
