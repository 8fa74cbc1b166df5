"""Packed predictions: what a reader gets is what a writer had, within the bytes that a trace may grow."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdiff.protocol.detail import FACTOR, TOP, DetailReader, DetailWriter
from tdiff.protocol.events import parse, to_line
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.watch.generation.recording import packed_again

FEW = settings(derandomize=True, deadline=None, max_examples=12, database=None)


def distribution(rng: random.Random, vocabulary: int) -> tuple[list[int], list[float], float]:
    """Ids and probabilities of the likeliest tokens of a random distribution, and its entropy."""
    weights = [rng.random() ** rng.choice((1, 4, 30)) + 1e-9 for _ in range(vocabulary)]
    p = sorted(((w / sum(weights), token) for token, w in enumerate(weights)), reverse=True)
    entropy = -sum(q * math.log(q) for q, _ in p)
    return [token for _, token in p[:TOP]], [q for q, _ in p[:TOP]], entropy


def plain_step(index: int, committed: list[int]) -> TraceStep:
    cells = [(position, "x", 7, 0.5, "commit") for position in committed]
    return TraceStep(index=index, t=0.5, calls=index, cells=cells)


@FEW
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1, 3, 70, 40_000]), st.integers(0, 3000))
def test_every_prefix_of_a_trace_with_details_has_at_most_three_times_the_bytes(seed, positions, vocabulary, header):
    rng = random.Random(seed)
    writer, reader = DetailWriter(lambda token: f"tök{token}"), DetailReader(positions)
    writer.earn(header)
    plain = full = header
    masked = list(range(positions))
    named: dict[int, str] = {}
    index = 0
    while masked:
        index += 1
        committed = sorted(rng.sample(masked, min(len(masked), rng.choice((1, 2, 10)))))
        sizes = min(vocabulary, 50)
        shift = rng.randrange(max(1, vocabulary - sizes + 1))
        predictions = {}
        for position in masked:
            ids, p, entropy = distribution(rng, sizes)
            predictions[position] = [token + shift for token in ids], p, entropy
        line = plain_step(index, committed)
        writer.earn(len(to_line(line).encode()))
        detail, tokens = writer.pack(predictions, set(committed))
        plain += len(to_line(line).encode())
        with_detail = TraceStep(
            index=index, t=0.5, calls=index, cells=line.cells, detail=detail or None, tokens=tokens or None
        )
        full += len(to_line(with_detail).encode())
        assert full <= FACTOR * plain
        named.update(tokens)
        read = parse(to_line(with_detail))
        assert isinstance(read, TraceStep)
        for position, guess in reader.unpack(read.detail or ""):
            ids, p, entropy = predictions[position]
            shown = [token for token, _ in guess.alternatives]
            assert shown == ids[: len(shown)] and len(shown) <= TOP and guess.draft == ids[0]
            values = [q for _, q in guess.alternatives]
            assert sum(values) <= 1 + 1e-9 and values == sorted(values, reverse=True)
            assert all(0 <= true - q < 0.009 for true, q in zip(p, values, strict=False))
            assert guess.entropy >= 0 and abs(guess.entropy - entropy) < 0.06
            assert 0 <= guess.margin <= guess.confidence
            assert all(named[token] == f"tök{token}" for token in shown), "every token has a text"
        masked = [position for position in masked if position not in committed]


def detailed_trace(positions: int, *, live: bool) -> list:
    """A header and steps of a text of which two positions are unmasked in each; all predictions change every time."""
    rng = random.Random(3)
    writer = DetailWriter(lambda token: f"tok{token}", live=live)
    known = {"version": "1", "model": "m", "decoder": "d", "settings": {}, "seed": 0, "row": 0, "prompt": ""}
    lines: list = [TraceHeader(cells=positions, given=[], **known)]
    writer.earn(len(to_line(lines[0]).encode()))
    for index, first in enumerate(range(0, positions, 2), 1):
        line = plain_step(index, [first, first + 1])
        writer.earn(len(to_line(line).encode()))
        predictions = {n: distribution(rng, 40) for n in range(first, positions)}
        detail, tokens = writer.pack(predictions, {first, first + 1})
        lines.append(replace(line, detail=detail or None, tokens=tokens or None))
    return lines


def test_a_live_text_has_all_alternatives_of_every_masked_position_and_a_saved_trace_keeps_to_its_bytes():
    live = detailed_trace(110, live=True)
    reader = DetailReader(110)
    for line in live[1:]:
        found = dict(reader.unpack(line.detail))
        assert set(found) == set(range(2 * line.index - 2, 110))
        assert {len(guess.alternatives) for guess in found.values()} == {TOP}
    saved = list(packed_again(live))
    plain = [replace(line, detail=None, tokens=None) if isinstance(line, TraceStep) else line for line in live]
    size = [sum(len(to_line(line).encode()) for line in lines) for lines in (plain, live, saved)]
    assert size[0] < size[2] <= FACTOR * size[0] < size[1]
    assert [line.cells for line in saved] == [line.cells for line in plain]


def test_packing_again_changes_no_probability_that_fits():
    limited = detailed_trace(2, live=False)
    assert [line.detail for line in packed_again(limited) if isinstance(line, TraceStep)] == [limited[1].detail]


def test_positions_that_are_unmasked_are_reported_first_and_unchanged_ones_not_at_all():
    writer, reader = DetailWriter(str), DetailReader(40)
    writer.earn(400)
    rng = random.Random(1)
    predictions = {position: distribution(rng, 50) for position in range(40)}
    detail, _ = writer.pack(predictions, {17, 30})
    assert {17, 30} <= {position for position, _ in reader.unpack(detail)}
    writer.earn(10**6)
    rest, _ = writer.pack(predictions, set())
    assert len(list(reader.unpack(rest))) >= 38
    assert writer.pack(predictions, {3}) == ("", [])


@FEW
@given(st.text(max_size=60), st.integers(0, 10**6))
def test_a_damaged_text_reports_nothing_that_is_outside_the_canvas(text, seed):
    rng = random.Random(seed)
    writer = DetailWriter(str)
    writer.earn(10**5)
    good, _ = writer.pack({position: distribution(rng, 20) for position in range(9)}, set())
    at = rng.randrange(len(good))
    for damaged in (text, good[:at], good[:at] + rng.choice("0aZ~") + good[at + 1 :]):
        for position, guess in DetailReader(5).unpack(damaged):
            assert 0 <= position < 5 and 1 <= len(guess.alternatives) <= TOP
            assert sum(p for _, p in guess.alternatives) <= 1 + 1e-9


def test_a_text_that_unpacks_to_too_many_bytes_reports_nothing():
    import base64
    import zlib

    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b"\0" * (1 << 24)) + deflate.flush()
    assert list(DetailReader(1 << 17).unpack(base64.b85encode(bomb).decode())) == []


@pytest.mark.parametrize("value", [{"detail": 3}, {"tokens": [["a", 1]]}, {"tokens": {"1": "a"}}])
def test_a_step_whose_details_have_another_type_is_no_line(value):
    import json

    line = json.loads(to_line(plain_step(1, [0])))
    assert parse(json.dumps(line)) is not None
    assert parse(json.dumps(line | value)) is None
