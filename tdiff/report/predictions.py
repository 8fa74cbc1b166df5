"""Verdicts as a person reads them: a line each, the text coloured by what its words add, and a page of HTML."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tdiff.draw.predictions import shaded, strongest, words
from tdiff.draw.render import Line, plain
from tdiff.errors import TdiffError
from tdiff.protocol.prediction import Contribution
from tdiff.runs.run import write_whole
from tdiff.terminal import detect
from tdiff.visible import visible, visible_line

_SNIPPET = 60
_FOR, _AGAINST = "31 119 180", "255 127 14"  # red, green, blue


def show(line: Mapping[str, Any]) -> None:
    """Print a verdict, and why, where that was asked for."""
    print(head(line), flush=True)
    if "contributions" not in line:
        return
    parts = words([Contribution(visible(piece), nats) for piece, nats in line["contributions"]])
    if not sys.stdout.isatty():
        print(plain(reasons(parts)), flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    here = detect.here(ask=False)
    system = detect.COLOUR_SYSTEMS[here.colour]
    console = Console(highlight=False, color_system=system, no_color=here.colour == "none")  # type: ignore[arg-type]
    for one in (shaded(parts, here.look), *reasons(parts), []):
        console.print(Text.assemble(*one))


def head(line: Mapping[str, Any]) -> str:
    """A verdict on one line."""
    given = line["input"]
    text = given if isinstance(given, str) else given[line["settings"]["text_field"]]
    text = " ".join(text.split())
    short = text if len(text) <= _SNIPPET else text[: _SNIPPET - 1] + "…"
    name = visible_line(line["likeliest"])
    if line["label"] is None:
        name = f"abstains ({name})"
    low, high = line["interval"]
    between = f" ({low:.3f}..{high:.3f})" if line["draws"] > 1 else ""
    drawn = f"{line['draws']} draws" if line["draws"] > 1 else ""
    spent = f"{line['milliseconds']:.0f} ms"
    return "  ".join(filter(None, (name, f"{line['probability']:.3f}{between}", drawn, spent, visible_line(short))))


def reasons(parts: Sequence[Contribution]) -> list[Line]:
    """The words that weigh most, in words."""
    lines: list[Line] = []
    for name, some in zip(("  for:     ", "  against: "), strongest(parts), strict=True):
        said = ", ".join(f"{visible_line(part.text.strip()) or '␣'} {part.nats:+.2f}" for part in some)
        lines.append([(name + (said or "nothing"), "")])
    return lines


def save(path: Path, text: str) -> None:
    """Save a page. Raises TdiffError where it cannot be written."""
    try:
        write_whole(path, text.encode())
    except OSError as why:
        raise TdiffError(f"the page {str(path)!r} cannot be written: {why.strerror}") from None
    print(f"saved {path}", file=sys.stderr)


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """Explained verdicts as a page of HTML that needs nothing else."""
    from html import escape

    body = ""
    for line in lines:
        parts = words([Contribution(visible(piece), nats) for piece, nats in line["contributions"]])
        most = max((abs(part.nats) for part in parts), default=0.0) or 1.0
        spans = ""
        for part in parts:
            colour = f"rgb({_FOR if part.nats >= 0 else _AGAINST} / {abs(part.nats) / most * 0.7:.2f})"
            spans += f'<span title="{part.nats:+.3f} nats" style="background:{colour}">{escape(part.text)}</span>'
        body += f"<section><h2>{escape(visible(head(line)))}</h2><p>{spans}</p></section>\n"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>tdiff classify</title>
<style>
body {{ font: 16px/1.7 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; color-scheme: light dark; }}
h2 {{ font-size: 15px; }} p {{ white-space: pre-wrap; }}
</style>
<h1>Why</h1>
<p>Blue speaks for the verdict, orange against it, against the next likeliest class; point at a word for its nats.</p>
{body}</html>
"""
