"""Dataclasses from plain data: conversion, bounds, unknown and missing fields, and lines of JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest

from tdiff.errors import TdiffError
from tdiff.schema import LARGEST, Bounds, Count, Lines, Share, build, convert, plain, to_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    width: Count = 4
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    share: Share
    mode: Literal["fast", "slow"] = "fast"
    switch: bool | None = None
    keys: Annotated[Mapping[str, str], "lines such as a = 'b'"] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    kind: ClassVar[str] = "line"
    number: float
    count: int = 0
    items: list[tuple[int, str]] = field(default_factory=list)
    table: dict[str, Any] = field(default_factory=dict)
    name: str | None = None


def error_of(values: dict, **how: Any) -> str:
    with pytest.raises(TdiffError) as error:
        build(Outer, {"share": 1} | values, **how)
    return str(error.value)


def test_values_are_converted_to_the_types_of_the_fields():
    built = build(Outer, {"share": 1, "inner": {"names": ["a"], "pair": [3, 4]}, "keys": {"a": "b"}})
    assert built == Outer(share=1.0, keys={"a": "b"}, inner=Inner(names=("a",), pair=(3, 4.0)))
    assert isinstance(built.share, float) and isinstance(built.inner.pair[1], float)
    assert build(Outer, plain(built) | {"switch": True}).switch is True


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"share": 1.5}, "share must lie between 0 and 1; got 1.5"),
        ({"share": math.nan}, "setting 'share' takes a number; got nan"),
        ({"share": 10**400}, f"setting 'share' takes a number; got {10**400}"),
        ({"mode": "fats"}, "unknown mode 'fats'; did you mean fast? known: fast, slow"),
        ({"switch": 1}, "setting 'switch' takes true or false; got 1"),
        ({"keys": {"a": 1}}, "setting 'keys' takes lines such as a = 'b'; got {'a': 1}"),
        ({"inner": 3}, "setting 'inner' is a table; got 3"),
        ({"inner": {"width": True}}, "setting 'inner.width' takes a whole number; got True"),
        ({"inner": {"width": -1}}, "inner.width must be at least 0; got -1"),
        ({"inner": {"width": 10**8}}, "inner.width must be at most 10,000,000; got 100000000"),
        ({"inner": {"names": [1]}}, "setting 'inner.names' takes a list of strings; got [1]"),
        ({"inner": {"widht": 1}}, "unknown setting 'inner.widht'; did you mean inner.width? known: "),
    ],
)
def test_every_error_names_the_setting_the_rule_and_the_value(values, text):
    assert error_of(values).startswith(text)


def test_an_error_names_the_source_of_the_values():
    assert error_of({"switch": 1}, source="a.toml") == "a.toml: switch takes true or false; got 1"
    assert error_of({"swich": 1}, source="a.toml").startswith("unknown setting in a.toml 'swich'; did you mean switch?")
    with pytest.raises(TdiffError, match=r"^a\.json lacks 'share'$"):
        build(Outer, {"newer": 1}, source="a.json", ignore_unknown=True)


@pytest.mark.parametrize(
    ("bounds", "value", "text"),
    [
        (Bounds(0, 1, below=True), 1.0, "x must be at least 0 and below 1; got 1.0"),
        (Bounds(0, above=True), 0.0, "x must be above 0; got 0.0"),
        (Bounds(high=5), 6.0, "x must be at most 5; got 6.0"),
        (Bounds(0, 10**6), -1.0, "x must be at least 0; got -1.0"),
        (Bounds(0, 10**6), 2e6, "x must be at most 1,000,000; got 2000000.0"),
    ],
)
def test_bounds_say_which_limit_was_passed(bounds, value, text):
    with pytest.raises(TdiffError) as error:
        convert(Annotated[float, bounds], value, "x")
    assert str(error.value) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"kind":"line"}',
        '{"kind":"line","number":"1"}',
        '{"kind":"line","number":true}',
        '{"kind":"line","number":1,"count":null}',
        '{"kind":"line","number":1,"count":1.5}',
        '{"kind":"line","number":1,"items":[[1]]}',
        '{"kind":"line","number":1,"items":[["1","a"]]}',
        '{"kind":"line","number":1,"table":[]}',
        '{"kind":"line","number":1,"name":3}',
        '{"kind":"other","number":1}',
    ],
)
def test_a_line_that_does_not_match_its_class_is_none(text):
    assert Lines([Line]).parse(text) is None


def test_a_line_may_have_unknown_fields_and_null_for_a_float():
    assert Lines([Line]).parse('{"kind":"line","number":null,"newer":[1]}') == Line(number=None)


def test_whole_numbers_of_a_line_are_limited_only_where_its_text_is_made_safe():
    line = to_line(Line(number=1.0, table={"a": [LARGEST]}))
    assert Lines([Line]).parse(line).table == {"a": [LARGEST]}
    assert Lines([Line], lambda _name, text: text).parse(line) is None


def test_every_text_of_a_line_is_made_safe_with_the_name_of_its_field():
    record = Line(number=1.0, items=[(1, "\x1b")], table={"\x1b": {"a": ["\x1b"]}}, name="\x1b")
    read = Lines([Line], lambda name, text: text.replace("\x1b", name)).parse(to_line(record))
    assert read == Line(number=1.0, items=[[1, "items"]], table={"table": {"a": ["table"]}}, name="name")
