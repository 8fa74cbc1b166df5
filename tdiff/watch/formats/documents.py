"""A log that is one JSON document: a list of records, lists of values by name, or an object that holds either.

`trainer_state.json` of Hugging Face, an array of epochs, and a dictionary of histories (`{"loss": [...]}`) are such.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tdiff.patterns import lazy
from tdiff.watch.formats.fields import Fields
from tdiff.watch.formats.names import Meaning, Role
from tdiff.watch.formats.plan import holds_record
from tdiff.watch.formats.splits import split_of_object
from tdiff.watch.formats.structured import numbers

Meanings = Callable[[str], Meaning]

LARGEST = 64 << 20
"""Characters of a document that are held; a longer one is text."""
MOST_RECORDS = 1_000_000
_OPENS = lazy(r"[{[]\s*(?:$|[{[\"])")


def begins(line: str) -> bool:
    """Whether a first line may open a document that goes on over further lines."""
    text = line.strip()
    return _OPENS.match(text) is not None and not _complete(text)


def _complete(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def records(text: str, meaning: Meanings) -> list[Fields] | None:
    """The records of a document; None where it is none, or is not complete."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(_records(document, {}, meaning))


def record(text: str, meaning: Meanings) -> Fields | None:
    """The record that an object is which lies on several lines; None where it is none, or is not complete."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields = Fields(values=numbers(value, meaning), split=split_of_object(value), structured=True)
    return fields if holds_record(fields, meaning) else None


def _records(value: Any, around: Mapping[str, float], meaning: Meanings, depth: int = 0) -> Iterator[Fields]:
    if depth > 4:
        return
    if isinstance(value, list):
        for item in value[:MOST_RECORDS]:
            if isinstance(item, dict):
                named = dict(around) | numbers(item, meaning)
                yield Fields(values=named, split=split_of_object(item), structured=True)
        return
    if not isinstance(value, dict):
        return
    histories = {name: items for name, items in _leaves(value) if _is_history(items)}
    if any(meaning(name).role is Role.LOSS for name in histories):
        yield from _columns(histories, meaning)
        return
    totals = {n: float(v) for n, v in value.items() if meaning(n).role in (Role.TOTAL, Role.EPOCHS) and _is_number(v)}
    for items in value.values():
        if isinstance(items, list) and any(isinstance(item, dict) for item in items):
            rows = list(_records(items, totals, meaning, depth + 1))
            if any(meaning(n).role is Role.LOSS for row in rows for n in row.values):
                yield from rows
        elif isinstance(items, dict):
            yield from _records(items, totals, meaning, depth + 1)


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", item


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_history(items: Any) -> bool:
    return isinstance(items, list) and len(items) > 0 and all(item is None or _is_number(item) for item in items)


def _columns(histories: Mapping[str, list[Any]], meaning: Meanings) -> Iterator[Fields]:
    """The rows of lists of values: by a list of steps of the same length, or counted from 1."""
    longest = max(map(len, histories.values()))
    counted = any(meaning(n).role in (Role.STEP, Role.EPOCH) and len(v) == longest for n, v in histories.items())
    for n in range(longest):
        row = {name: float(items[n]) for name, items in histories.items() if n < len(items) and items[n] is not None}
        yield Fields(values=row if counted else {"epoch": n + 1.0, **row}, structured=True)
