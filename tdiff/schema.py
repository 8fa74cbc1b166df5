"""Dataclasses from plain data and back: TOML tables, JSON objects, lines of JSON, with one-line errors.

The annotations of a dataclass are its schema: bool, int, float, str, Literal, unions, lists, tuples, mappings, Any and
nested dataclasses. `Annotated` adds a `Bounds` to a number, or the text that an error gives as the rule:

    warmup: Share = 0.02
    keys: Annotated[Mapping[str, str], "lines such as pause = 'space'"]

There are two ways to read. `build` is for what a user wrote: it converts whole numbers to floats and lists to tuples,
and raises TdiffError with the name, the rule, the value and the nearest right answer. `Lines` is for what a program
wrote, one JSON object per line: a line that is torn or does not match its class is None, fields that the class lacks
are ignored, null is accepted for a float (it stands for a number that was not finite), and lists stay lists.

Figures (one thread of two busy cores, 100,000 train records): `Lines.parse` takes 3.3 s, of which json.loads is 1.6 s.
msgspec 0.22 was measured and is not used: decoding alone takes 0.4 s, but on the watcher's path, which parses 128
records at once (watch/formats/events.py), all of `feed` went from 2.5 s only to 1.8 s, less than twice as fast, for
20 ms more at each start of the view (its import with that of the events: 113 ms; of the events alone: 90 ms).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tdiff.errors import TdiffError, unknown
from tdiff.visible import json_line

Layer = dict[str, Any]
"""A table of settings: names to values or to further tables."""
MOST = 10_000_000
"""The largest count that any setting accepts: a larger one is a typing error."""
LARGEST = 1 << 63
"""Whole numbers of a line lie below it, and above its negative."""
_LARGEST_FLOAT = 10**300  # a larger whole number has no float
_WIDE = 1000
_RULES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range of a number, for `Annotated`. A lower bound belongs to the range, unless `above` is set."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """Exclude `low`."""
    below: bool = False
    """Exclude `high`."""

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def check(self, name: str, value: float) -> None:
        """Raise TdiffError if `value` lies outside. Of a wide range, the error gives only the limit that was passed."""
        if value in self:
            return
        lower = f"above {self.low:,}" if self.above else f"at least {self.low:,}"
        upper = f"below {self.high:,}" if self.below else f"at most {self.high:,}"
        if self.high - self.low > _WIDE:
            text = f"be {lower if value <= self.low else upper}"
        elif self.above or self.below:
            text = f"be {lower} and {upper}"
        else:
            text = f"lie between {self.low:,} and {self.high:,}"
        raise TdiffError(f"{name} must {text}; got {value}")


Count = Annotated[int, Bounds(0, MOST)]
"""A whole number from 0."""
Positive = Annotated[int, Bounds(1, MOST)]
"""A whole number from 1."""
Share = Annotated[float, Bounds(0, 1)]
"""A number from 0 to 1."""
NotNegative = Annotated[float, Bounds(0)]
"""A number from 0."""


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
    """Dataclasses and tuples as dictionaries and lists, ready for TOML or JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def build(
    kind: Any, values: Mapping[str, Any], prefix: str = "", *, source: str = "", ignore_unknown: bool = False
) -> Any:
    """An instance of the dataclass `kind` from nested mappings.

    `prefix` goes before the names in errors, such as "train."; `source` names the file that the values are from.
    Raises TdiffError naming the setting that is unknown, missing or wrong.
    """
    hints = hints_of(kind)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            if ignore_unknown:
                continue
            raise unknown(f"setting in {source}" if source else "setting", prefix + key, _names(kind, prefix))
        arguments[key] = convert(hints[key], value, prefix + key, source=source, ignore_unknown=ignore_unknown)
    missing = [f.name for f in dataclasses.fields(kind) if _required(f) and f.name not in arguments]
    if missing:
        raise TdiffError(f"{source or 'the settings'} lacks {', '.join(repr(prefix + name) for name in missing)}")
    return kind(**arguments)


def convert(hint: Any, value: Any, name: str, *, source: str = "", ignore_unknown: bool = False) -> Any:
    """`value` as a field of type `hint` stores it. Raises TdiffError if it has another type or is out of range."""
    subject = f"{source}: {name}" if source else f"setting {name!r}"
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TdiffError(f"{subject} is a table; got {value!r}")
        return build(hint, value, f"{name}.", source=source, ignore_unknown=ignore_unknown)
    kind, bounds, _ = _parts(hint)
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else None
    if choices is not None and value not in choices:
        raise unknown(f"{source}: {name}" if source else name, value, choices)
    stored = _stored(kind, value)
    if not _accepts(kind, strict=True)(stored):
        raise TdiffError(f"{subject} takes {rule(hint)}; got {value!r}")
    if bounds and stored is not None:
        bounds.check(f"{source}: {name}" if source else name, stored)
    return stored


def rule(hint: Any) -> str:
    """What a field of type `hint` takes, as errors say it: "a whole number", "a list of strings"."""
    kind, _, description = _parts(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if description:
        return description
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(rule(part) for part in arguments if part is not type(None))
    if origin in (list, tuple):
        plural = {str: "strings", int: "whole numbers", float: "numbers"}
        return f"a list of {plural.get(_parts(arguments[0])[0], 'values')}"
    if origin is not None and issubclass(origin, Mapping):
        return "a table"
    return _RULES.get(kind, "a value")


@functools.cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Name -> type of each field of a dataclass, with its `Annotated` limits."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _names(kind: Any, prefix: str = "") -> list[str]:
    names = []
    for name, hint in hints_of(kind).items():
        names.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            names += [f"{prefix}{name}.{f.name}" for f in dataclasses.fields(hint)]
    return names


def _parts(hint: Any) -> tuple[Any, Bounds | None, str]:
    """The type, the bounds and the described rule of a field's annotation."""
    if typing.get_origin(hint) is not Annotated:
        return hint, None, ""
    kind, *extras = typing.get_args(hint)
    bounds = next((extra for extra in extras if isinstance(extra, Bounds)), None)
    return kind, bounds, next((extra for extra in extras if isinstance(extra, str)), "")


def _stored(kind: Any, value: Any) -> Any:
    """`value` in the form that a field of type `kind` stores; of another type, as it came."""
    if kind is float and type(value) is int and abs(value) <= _LARGEST_FLOAT:
        return float(value)
    if typing.get_origin(kind) is tuple:
        items = [value] if isinstance(value, str) else value
        if isinstance(items, (list, tuple)):
            arguments = typing.get_args(kind)
            item_kinds = arguments[:1] * len(items) if arguments[1:] == (...,) else arguments
            if len(item_kinds) == len(items):
                return tuple(_stored(_parts(k)[0], item) for k, item in zip(item_kinds, items, strict=True))
    return value


@functools.cache
def _accepts(hint: Any, strict: bool) -> Callable[[Any], bool]:
    """A test of whether a value fits an annotation.

    `strict` is for settings, where numbers must be finite; otherwise a float may be null, infinite or a whole number.
    """
    kind, bounds, _ = _parts(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if bounds:
        fits = _accepts(kind, strict)
        return lambda value: fits(value) and value is not None and value in bounds
    if scalars := _scalars(kind, strict):
        exact = frozenset(scalars)
        finite = not strict or float not in exact
        return lambda value: (
            (type(value) in exact or (isinstance(value, scalars) and not isinstance(value, bool)))
            and (finite or not isinstance(value, float) or math.isfinite(value))
        )
    if kind is Any:
        return lambda _: True
    if origin is Literal:
        return lambda value: value in arguments
    if origin in (typing.Union, types.UnionType):
        options = [_accepts(part, strict) for part in arguments]
        return lambda value: any(fits(value) for fits in options)
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        sequences = (tuple if origin is tuple else list) if strict else (list, tuple)
        if not strict and (scalars := _scalars(arguments[0], strict)):
            allowed = set(scalars)
            return lambda value: isinstance(value, sequences) and set(map(type, value)) <= allowed
        item = _accepts(arguments[0], strict)
        return lambda value: isinstance(value, sequences) and all(map(item, value))
    if origin is tuple:
        items = [_accepts(part, strict) for part in arguments]
        return lambda value: (
            isinstance(value, (list, tuple))
            and len(value) == len(items)
            and all(fits(item) for fits, item in zip(items, value, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value_fits = _accepts(arguments[1], strict)
        return lambda value: isinstance(value, Mapping) and all(map(value_fits, value.values()))
    raise AssertionError(f"a field has the type {hint}, which schema does not read")


def _scalars(kind: Any, strict: bool) -> tuple[type, ...]:
    """The types that a value of a plain type, or of a union of such, may have; none for other annotations."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [_scalars(part, strict) for part in typing.get_args(kind)]
        return tuple(t for part in parts for t in part) if all(parts) else ()
    if kind is float:
        return (float,) if strict else (float, int, type(None))
    return (kind,) if kind in (bool, int, str, type(None)) else ()


Safe = Callable[[str, str], str]
"""(name of the field, text) -> the text as a reader gets it."""


class Lines:
    """Lines of JSON that stand for dataclasses: each has a class variable `kind`, which the line's "kind" names."""

    def __init__(self, kinds: Iterable[Any], safe: Safe | None = None) -> None:
        """`safe` is applied to every text that a line holds, keys included; whole numbers must then be below LARGEST.

        Without it, texts and numbers are read exactly as they were written.
        """
        self._kinds = {kind.kind: kind for kind in kinds}
        self._safe = safe
        self._decode = json.JSONDecoder(parse_int=_whole_number if safe else None).decode

    def parse(self, line: str) -> Any:
        """The object on a line, or None if the line is torn, of an unknown kind, or does not match its class."""
        try:
            pairs = self._decode(line)
            kind = self._kinds[pairs.pop("kind")]
            # Printable ASCII without escapes has nothing to make safe, and is most of what there is to read.
            if self._safe and not (line.isascii() and "\\" not in line and line.rstrip("\n").isprintable()):
                pairs = {name: _made_safe(functools.partial(self._safe, name), v) for name, v in pairs.items()}
            tests, values = _tests(kind), {}
            for name, value in pairs.items():
                if (fits := tests.get(name)) is not None:
                    if not fits(value):
                        return None
                    values[name] = value
            return kind(**values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def to_line(record: Any) -> str:
    """One line of JSON, with its line feed. Fields that are None are left out; numbers that are not finite are null."""
    values = {name: getattr(record, name) for name in hints_of(record.__class__)}
    pairs = {"kind": record.kind} | {k: v for k, v in values.items() if v is not None}
    return json_line(pairs, compact=True) + "\n"


@functools.cache
def _tests(kind: Any) -> dict[str, Callable[[Any], bool]]:
    return {name: _accepts(hint, strict=False) for name, hint in hints_of(kind).items()}


def _whole_number(text: str) -> int:
    """Raises ValueError for a number that no machine counts to, with which arithmetic and formats would fail."""
    number = int(text)
    if not -LARGEST < number < LARGEST:
        raise ValueError("a number is too large")
    return number


def _made_safe(safe: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, dict):
        return {safe(key): _made_safe(safe, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_made_safe(safe, item) for item in value]
    return value


def at_least(low: float, name: str, value: float) -> None:
    """Raise TdiffError unless `value` is finite and at least `low`."""
    if not low <= value < math.inf:
        raise TdiffError(f"{name} must be at least {low}{' and finite' if value > low else ''}; got {value}")


def at_most(high: float, name: str, value: float) -> None:
    """Raise TdiffError if `value` is above `high`."""
    if not value <= high:
        raise TdiffError(f"{name} must be at most {high:,}; got {value}")


def within(low: float, high: float, name: str, value: float) -> None:
    """Raise TdiffError unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise TdiffError(f"{name} must lie between {low} and {high}; got {value}")
