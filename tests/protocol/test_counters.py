"""The counters of a generation in words."""

from __future__ import annotations

from dataclasses import replace

from tdiff.protocol.counters import calls_text
from tests.support.canvas_stage import canvas


def test_fewer_calls_than_steps_are_explained():
    shown = canvas(["a", None])
    found = [
        calls_text(replace(shown, index=index, calls=calls)) for index, calls in ((1, 1), (20, 19), (9, 3), (3, 6))
    ]
    assert found == ["1 call", "19 calls, 1 step without", "3 calls, 6 steps without", "6 calls"]
