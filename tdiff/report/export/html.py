"""A player in one HTML file without network: play, scrub, keys, and what is known of a position under the pointer.

The finished text is in the page itself, so that it is readable without scripts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from tdiff.draw.palettes import Theme, styles
from tdiff.protocol.canvas import GIVEN, MASKED
from tdiff.protocol.trace import TraceStep
from tdiff.report.export.colours import colours, hexadecimal
from tdiff.report.export.timeline import footer
from tdiff.visible import visible
from tdiff.watch.generation.recording import Recording


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
<p class="legend">confidence low {_legend(theme)} high</p>
<p class="controls" hidden>
<button id="play" aria-label="Play or pause" title="space">pause</button>
<input id="scrub" type="range" min="0" value="0" aria-label="Model calls">
<span id="about">Space plays, ← and → step, Home and End jump; point at a position.</span></p>
<script type="application/json" id="data">{_safe(data)}</script>
<script>
{script}</script>
</body></html>
"""


def _panel(recording: Recording, theme: Theme) -> str:
    canvas = recording.canvas(recording.steps)
    spans = "".join(
        f'<span class="{_class(confidence, theme)}">{escape(text or "█")}</span>'
        for text, confidence in zip(canvas.texts, canvas.confidence, strict=True)
    )
    return (
        f'<section><h1 class="counters">{escape(_counters(recording))}</h1><pre class="canvas">{spans}</pre>'
        f'<p class="footer">{escape(footer(recording))}</p></section>'
    )


def _counters(recording: Recording) -> str:
    canvas = recording.canvas(recording.steps)
    return f"step {recording.index(recording.steps)} · {canvas.revealed:.0%}"


def _class(confidence: float, theme: Theme) -> str:
    if confidence == MASKED:
        return "m"
    if confidence >= GIVEN:
        return "g"
    count = len(styles(theme).shades)
    return f"c{min(int(confidence * count), count - 1)}"


def _data(recording: Recording) -> dict[str, Any]:
    """What the script needs of a recording."""
    steps = [
        {
            "index": line.index,
            "calls": line.calls,
            "cells": [
                [
                    position,
                    visible(text) if event == "commit" else "",
                    round(confidence, 4) if event == "commit" else -1,
                ]
                for position, text, _, confidence, event in line.cells
            ],
        }
        for line in recording.lines()
        if isinstance(line, TraceStep)
    ]
    header = recording.header
    given = [[position, visible(text)] for position, text, _ in header.given]
    return {"cells": header.cells, "given": given, "steps": steps, "cap": header.steps}


def _colours(theme: Theme) -> str:
    """The colours of the theme as CSS."""
    plain = colours("", theme.background)
    chosen = styles(theme)
    rows = [f":root{{--text:{hexadecimal(plain.text)};--background:{hexadecimal(plain.background)}}}"]
    rows += [f".c{n}{{color:{hexadecimal(colours(s, theme.background).text)}}}" for n, s in enumerate(chosen.shades)]
    rows.append(f".m{{color:{hexadecimal(colours(chosen.mask[1], theme.background).text)}}}")
    rows.append(f".r{{color:{hexadecimal(colours(chosen.remask[1], theme.background).text)}}}")
    return "\n".join(rows) + "\n"


def _legend(theme: Theme) -> str:
    shades = styles(theme).shades
    return " ".join(f'<span class="c{n}">{(n + 0.5) / len(shades):.1f}</span>' for n in range(len(shades)))


def _safe(data: object) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
