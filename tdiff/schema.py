"""Typed tables from plain data: dataclasses to and from nested dictionaries, with one-line errors."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from tdiff.errors import TdiffError, unknown

Layer = dict[str, Any]
MOST = 10_000_000
"""The largest count that any setting takes: what is above it is a slip of the keyboard."""
LARGEST = 10**300  # a whole number beyond it is no float
_ARTICLE = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def lay_over(base: Layer, layer: Mapping[str, Any]) -> None:
    """Write `layer` over `base` in place, table by table."""
    for key, value in layer.items():
        if isinstance(value, Mapping):
            inner = base.setdefault(key, {})
            if not isinstance(inner, dict):
                raise TdiffError(f"setting {key!r} is a single value, not a table")
            lay_over(inner, value)
        else:
            base[key] = value


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as dictionaries and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def build(kind: Any, layer: Mapping[str, Any], prefix: str) -> Any:
    """An instance of the dataclass `kind` from nested mappings. Raises TdiffError naming the setting that is wrong."""
    hints = typing.get_type_hints(kind)
    for key in layer:
        if key not in hints:
            raise unknown("setting", prefix + key, _names(kind, prefix))
    values = {}
    for key, value in layer.items():
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise TdiffError(f"setting {prefix + key!r} is a table; got {value!r}")
            values[key] = build(hints[key], value, f"{prefix}{key}.")
        else:
            values[key] = convert(hints[key], value, prefix + key)
    return kind(**values)


def convert(kind: Any, value: Any, name: str) -> Any:
    """`value` as a field of type `kind` holds it. Raises TdiffError where it has another type."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise unknown(f"{name}", value, choices)
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(v, str) for v in items):
            raise TdiffError(f"setting {name!r} takes a list of strings; got {value!r}")
        return tuple(items)
    if origin in (typing.Union, types.UnionType):  # pragma: no cover - guards a future optional field
        raise AssertionError(f"setting {name} has an unsupported type {kind}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    finite = not isinstance(value, float) or math.isfinite(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)) or not finite:
        raise TdiffError(f"setting {name!r} takes {_ARTICLE[kind]}; got {value!r}")
    return value


def _names(kind: Any, prefix: str = "") -> list[str]:
    names = []
    for table, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            names += [prefix + table, *(f"{prefix}{table}.{f.name}" for f in dataclasses.fields(hint))]
        else:
            names.append(prefix + table)
    return names


def at_least(low: float, name: str, value: float) -> None:
    """Raise TdiffError unless `value` is finite and at least `low`."""
    if not low <= value < math.inf:
        raise TdiffError(f"{name} must be at least {low}{' and finite' if value > low else ''}; got {value}")


def at_most(high: float, name: str, value: float) -> None:
    """Raise TdiffError where `value` is above `high`."""
    if not value <= high:
        raise TdiffError(f"{name} must be at most {high:,}; got {value}")


def within(low: float, high: float, name: str, value: float) -> None:
    """Raise TdiffError unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise TdiffError(f"{name} must lie between {low} and {high}; got {value}")
