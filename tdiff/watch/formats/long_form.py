"""Records of one value each, whose name is a value too: columns `metric` and `value`, `{"tag": ..., "scalar": 2}`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

_NAMES = ("metric", "metric_name", "name", "tag", "key", "series", "variable", "quantity")
_VALUES = ("value", "val", "scalar", "number", "y")


@lru_cache(256)
def long_form(names: tuple[str, ...]) -> tuple[str, str] | None:
    """(the one of these names that holds names, the one that holds their values); None where there are no two."""
    known = {name.strip().lower(): name for name in reversed(names)}
    named, value = _first(_NAMES, known), _first(_VALUES, known)
    return (known[named], known[value]) if named and value else None


def _first(wanted: Iterable[str], known: Iterable[str]) -> str:
    return next((name for name in wanted if name in known), "")
