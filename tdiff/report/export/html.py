"""A player in one HTML file without network: play, scrub, keys, and what is known of a position under the pointer.

The finished text is in the page itself, so that it is readable without scripts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from typing import Any

from rich.cells import cell_len

from tdiff.draw.palettes import BLOCK, Theme, styles
from tdiff.patterns import lazy
from tdiff.protocol.canvas import GIVEN, MASKED, Canvas
from tdiff.protocol.counters import counters
from tdiff.protocol.detail import Guess
from tdiff.report.export.colours import colours, hexadecimal
from tdiff.report.export.timeline import footer
from tdiff.visible import visible
from tdiff.watch.generation.ending import up_to_end
from tdiff.watch.generation.insight import Insight
from tdiff.watch.generation.recording import Recording

_WORD = lazy(r"\S+")


def document(recorded: Sequence[Recording], theme: Theme, fps: float, hold: float, title: str) -> str:
    """The page: a player for one recording, or for two beside each other that run by model calls."""
    files = resources.files("tdiff.report.export") / "player"
    style, script = ((files / name).read_text("utf-8") for name in ("player.css", "player.js"))
    data = {"fps": fps, "hold": hold, "recordings": [_data(recording) for recording in recorded]}
    panels = "".join(_panel(recording, theme) for recording in recorded)
    return f"""<!doctype html>
<html lang="en" data-background="{theme.background}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
{_colours(theme)}{style}</style></head>
<body>
<main class="panels">{panels}</main>
<p class="legend">{_legend(theme)}</p>
<p class="controls" hidden>
<button id="play" aria-label="Play or pause" title="space">pause</button>
<input id="scrub" type="range" min="0" value="0" aria-label="Model calls">
<span id="about">Space plays, ← and → step, Home and End jump; point at a position.</span></p>
<p id="alternatives" class="controls" hidden></p>
<script type="application/json" id="data">{_safe(data)}</script>
<script>
{script}</script>
</body></html>
"""


def _panel(recording: Recording, theme: Theme) -> str:
    recording = up_to_end(recording)
    canvas = recording.canvas(recording.steps)
    spans = "".join(
        f'<span class="{_class(confidence, theme)}">{escape(text or "█")}</span>'
        for text, confidence in zip(canvas.texts, canvas.confidence, strict=True)
    )
    heading = escape(counters(canvas, recording.header.steps))
    return (
        f'<section><h1 class="counters">{heading}</h1><pre class="canvas">{spans}</pre>'
        f'<p class="footer">{escape(footer(recording))}</p></section>'
    )


def _class(confidence: float, theme: Theme) -> str:
    if confidence == MASKED:
        return "m"
    if confidence >= GIVEN:
        return "g"
    count = len(styles(theme).shades)
    return f"c{min(int(confidence * count), count - 1)}"


def _data(recording: Recording) -> dict[str, Any]:
    """What the script needs of a recording: the counters of each step, and its changes.

    Predictions are [position, entropy, token, probability, ...]; a token is its place in `tokens`. `masks` is what each
    position shows while it is masked.
    """
    shown = up_to_end(recording)
    header, canvas = shown.header, Canvas.begin(shown.header)
    begin = counters(canvas, header.steps)
    insight = Insight(recording)
    insight.update()
    reported, places = insight.reported(), dict[int, int]()
    steps: list[dict[str, Any]] = []
    for number in range(1, shown.steps + 1):
        line = shown.step_line(number)
        canvas.apply(line)
        changes = [
            [position, visible(text) if event == "commit" else "", round(c, 4) if event == "commit" else -1]
            for position, text, _, c, event in line.cells
        ]
        step = {"index": line.index, "calls": line.calls, "counters": counters(canvas, header.steps), "cells": changes}
        if guesses := [
            [position, round(guess.entropy, 3), *_alternatives(guess, places)]
            for position, guess in reported.get(number, ())
            if position < header.cells
        ]:
            step["guesses"] = guesses
        steps.append(step)
    given = [[position, visible(text)] for position, text, _ in header.given]
    tokens = [insight.text(token) for token in places]
    masks = [mask_of(text) for text in canvas.texts]
    return {"cells": header.cells, "given": given, "begin": begin, "steps": steps, "tokens": tokens, "masks": masks}


def mask_of(text: str) -> str:
    """The mask of a position that ends with this text: as many cells, so that nothing moves while it resolves.

    It keeps blanks and line feeds, and has a block before a line feed at its beginning. An empty text is one block.
    """
    shape = _WORD.sub(lambda word: BLOCK * cell_len(word[0]), text or BLOCK)
    return BLOCK + shape if shape.startswith("\n") else shape


def _alternatives(guess: Guess, places: dict[int, int]) -> Iterator[float]:
    """The places of the likeliest tokens with their probabilities; a token that has no place gets the next."""
    for token, probability in guess.alternatives:
        yield places.setdefault(token, len(places))
        yield round(probability, 4)


def _colours(theme: Theme) -> str:
    """The colours of the theme as CSS."""
    plain = colours("", theme.background)
    chosen = styles(theme)
    rows = [f":root{{--text:{hexadecimal(plain.text)};--background:{hexadecimal(plain.background)}}}"]
    rows += [f".c{n}{{color:{hexadecimal(colours(s, theme.background).text)}}}" for n, s in enumerate(chosen.shades)]
    mask = hexadecimal(colours(chosen.mask[1], theme.background).text)
    rows.append(f".m{{color:{mask};background:{mask}}}")
    rows.append(f".r{{color:{hexadecimal(colours(chosen.remask[1], theme.background).text)}}}")
    return "\n".join(rows) + "\n"


def _legend(theme: Theme) -> str:
    """The marks of the text with their meaning, each in its own colour. Only shades are `span` elements."""
    count = len(styles(theme).shades)
    ramp = " ".join(f'<span class="c{n}">{f"{(n + 0.5) / count:.1f}"[1:]}</span>' for n in range(count))
    return (
        f'<i>confidence low</i> {ramp} <i>high</i> &nbsp;<i>new:</i> <b class="new">bold</b> &nbsp;<i>masked:</i> '
        '<b class="m">██</b> &nbsp;<i>remasked:</i> <b class="r">▒▒</b>'
    )


def _safe(data: object) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
