"""A picture of lines and texts as SVG: each curve is a path."""

from __future__ import annotations

from html import escape

from rich.cells import cell_len

from tdiff.report.export.chart_picture import CELL, Picture
from tdiff.report.export.colours import hexadecimal
from tdiff.report.export.measures import FONT
from tdiff.report.export.svg import FAMILY


def document(picture: Picture, title: str) -> str:
    """The SVG of a picture."""
    parts = []
    for stroke in picture.strokes:
        points = "L".join(f"{x:.2f} {y:.2f}" for x, y in stroke.points)
        parts.append(f'<path d="M{points}" stroke="{hexadecimal(stroke.colour)}" stroke-width="{stroke.width}"/>')
    parts += [
        f'<circle cx="{dot.x:.2f}" cy="{dot.y:.2f}" r="{dot.radius}" fill="{hexadecimal(dot.colour)}" stroke="none"/>'
        for dot in picture.dots
    ]
    for label in picture.labels:
        if not label.text.strip():
            continue
        bold = ' font-weight="bold"' if label.bold else ""
        anchor = f' text-anchor="{label.anchor}"' if label.anchor != "start" else ""
        # textLength keeps the columns of text apart by the same distance in every font.
        parts.append(
            f'<text x="{label.x:.2f}" y="{label.y:.2f}" textLength="{cell_len(label.text) * CELL:g}" '
            f'fill="{hexadecimal(label.colour)}" stroke="none"{anchor}{bold}>{escape(label.text)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.width} {picture.height}" '
        f'width="{picture.width}" height="{picture.height}"><title>{escape(title)}</title>'
        f"<style>text{{font-family:{FAMILY};font-size:{FONT}px;white-space:pre}}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{hexadecimal(picture.background)}"/>'
        f'<g fill="none" stroke-linejoin="round" stroke-linecap="round">{"".join(parts)}</g></svg>\n'
    )
