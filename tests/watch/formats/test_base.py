"""The contract of a format: one module and one row in `detect.ORDER`, with no knowledge of the run state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tdiff.watch.formats import detect
from tdiff.watch.formats.base import Candidate, Decision, Format, Parser, Sink
from tdiff.watch.formats.text import LineReader
from tdiff.watch.formats.text_log import TextLog
from tdiff.watch.reader import Reader


class KeyValue(Parser):
    """Reads lines such as `it 7 loss 2.5`, and `restart 3`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def feed(self, lines: Sequence[str]) -> None:
        for line in lines:
            words = line.split()
            if words[0] == "restart":
                self._sink.restart(int(words[1]))
            else:
                self._sink.points([int(words[1])], {"train/loss": [float(words[3])]})
                self._sink.set_progress(int(words[1]) / 10, 5.0)
                self._sink.write_later(lambda row: f"step {row[0]}", [(int(words[1]),)], 1)


def recognize(candidate: Candidate) -> Parser | Decision:
    return KeyValue(candidate.sink) if candidate.text.startswith("it ") else Decision.NO


def test_new_format_needs_one_row(monkeypatch):
    monkeypatch.setattr(detect, "ORDER", (Format("pairs", recognize), *detect.ORDER))
    reader = Reader("x")
    reader.feed(["starting", "it 1 loss 2.5", "it 5 loss 2.0", "restart 3", "it 4 loss 2.25"])
    state = reader.state
    assert state.format == "pairs"
    assert list(state.metrics["train/loss"].steps) == [1, 4]
    assert (state.step, state.progress, state.eta) == (4, 0.4, 5.0)
    assert list(state.log) == ["starting", "step 1", "step 5", "step 4"]


@pytest.mark.parametrize(
    ("value", "step"), [(0.05, 1), (0.15, 2), (0.2, 2), (0.3, None), (0.4, None), (float("nan"), None)]
)
def test_step_of_returns_the_first_step_that_reached_a_value(value, step):
    state = Reader("x").state
    state.points([1, 2, 3], {"epoch": [0.125, 0.25, 0.3]})
    assert state.step_of("epoch", value) == step
    assert state.step_of("other", value) is None


def test_parsers_do_not_import_the_run_state():
    code = (
        "import sys, pkgutil, importlib, tdiff.watch.formats as formats\n"
        "for module in pkgutil.iter_modules(formats.__path__):\n"
        "    importlib.import_module(f'tdiff.watch.formats.{module.name}')\n"
        "assert 'tdiff.watch.run_state' not in sys.modules and 'tdiff.watch.follow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_parser_without_waiting_lines_settles_to_nothing():
    sink = Reader("x").state
    assert not KeyValue(sink).settle()
    assert not TextLog(sink, LineReader()).settle()
