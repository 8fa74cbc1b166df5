"""Class predictions for people: one line each, the text coloured by what its words contribute, and an HTML page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tdiff.draw.predictions import shaded, strongest, words
from tdiff.draw.render import Line, plain
from tdiff.protocol.prediction import Contribution
from tdiff.report import html
from tdiff.terminal import detect
from tdiff.terminal.console import console
from tdiff.visible import visible, visible_line

_SNIPPET = 60
"""Characters of the input that `head` shows at most."""
_FOR, _AGAINST = "31 119 180", "255 127 14"
"""Red, green and blue of what supports a prediction and of what opposes it."""
_STYLE = """\
body { line-height: 1.7; }
h2 { font-size: 15px; } p { white-space: pre-wrap; }
"""


def show(line: Mapping[str, Any]) -> None:
    """Print a prediction (a record of `tdiff classify`) and, if it has contributions, the words that decided it."""
    print(head(line), flush=True)
    if "contributions" not in line:
        return
    parts = _words(line)
    if not sys.stdout.isatty():
        print(plain(reasons(parts)), flush=True)
        return
    from rich.text import Text

    terminal = detect.this_terminal(ask=False)
    output = console(terminal)
    for runs in (shaded(parts, terminal.theme), *reasons(parts), []):
        output.print(Text.assemble(*runs))


def head(line: Mapping[str, Any]) -> str:
    """A prediction on one line: class, probability with its interval, mask samples, time, and the start of the text."""
    row = line["input"]
    text = row if isinstance(row, str) else row[line["settings"]["text_field"]]
    text = " ".join(text.split())
    snippet = text if len(text) <= _SNIPPET else text[: _SNIPPET - 1] + "…"
    name = visible_line(line["likeliest"])
    if line["label"] is None:
        name = f"abstains ({name})"
    low, high = line["interval"]
    interval = f" ({low:.3f}..{high:.3f})" if line["draws"] > 1 else ""
    mask_samples = f"{line['draws']} mask samples" if line["draws"] > 1 else ""
    elapsed = f"{line['milliseconds']:.0f} ms"
    probability = f"{line['probability']:.3f}{interval}"
    return "  ".join(filter(None, (name, probability, mask_samples, elapsed, visible_line(snippet))))


def reasons(parts: Sequence[Contribution]) -> list[Line]:
    """The words that support the prediction most and those that oppose it most, a line each."""
    lines: list[Line] = []
    for name, strong in zip(("  for:     ", "  against: "), strongest(parts), strict=True):
        listed = ", ".join(f"{visible_line(part.text.strip()) or '␣'} {part.nats:+.2f}" for part in strong)
        lines.append([(name + (listed or "nothing"), "")])
    return lines


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """Explained predictions as an HTML page; each word is coloured by what it contributes."""
    body = (
        "<h1>Explained predictions</h1>\n"
        "<p>Blue supports the predicted class, orange the second most likely one. Point at a word for its nats.</p>\n"
    )
    for line in lines:
        parts = _words(line)
        largest = max((abs(part.nats) for part in parts), default=0.0) or 1.0
        spans = ""
        for part in parts:
            colour = f"rgb({_FOR if part.nats >= 0 else _AGAINST} / {abs(part.nats) / largest * 0.7:.2f})"
            spans += f'<span title="{part.nats:+.3f} nats" style="background:{colour}">{html.text(part.text)}</span>'
        body += f"<section><h2>{html.text(head(line))}</h2><p>{spans}</p></section>\n"
    return html.page("tdiff classify", body, _STYLE)


def _words(line: Mapping[str, Any]) -> list[Contribution]:
    return words([Contribution(visible(piece), nats) for piece, nats in line["contributions"]])
