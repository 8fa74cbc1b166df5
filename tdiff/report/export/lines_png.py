"""A picture of lines and texts as PNG, with smooth edges."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageDraw
from rich.cells import cell_len

from tdiff.report.export.chart_picture import FONT, Picture
from tdiff.report.export.glyphs import Glyphs, clusters

_SCALE = 2
"""Pixels of the PNG for one of the picture."""
_FINE = 3
"""Lines are drawn so many times larger and then reduced: Pillow draws them without smooth edges."""


def document(picture: Picture) -> bytes:
    """The PNG of a picture, twice as large as its SVG."""
    fine = _SCALE * _FINE
    image = Image.new("RGB", (picture.width * fine, picture.height * fine), picture.background)
    draw = ImageDraw.Draw(image)
    for stroke in picture.strokes:
        points = [(x * fine, y * fine) for x, y in stroke.points]
        draw.line(points, fill=stroke.colour, width=max(1, round(stroke.width * fine)), joint="curve")
    for dot in picture.dots:
        x, y, radius = dot.x * fine, dot.y * fine, dot.radius * fine
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=dot.colour)
    image = image.resize((picture.width * _SCALE, picture.height * _SCALE), Image.Resampling.BOX)
    glyphs = Glyphs(_SCALE * FONT)
    for label in picture.labels:
        size = cell_len(label.text) * glyphs.width
        x = round(label.x * _SCALE) - {"start": 0, "middle": size // 2, "end": size}[label.anchor]
        y = round(label.y * _SCALE) - glyphs.ascent
        for cluster in clusters(label.text):
            if not cluster.isspace():
                image.paste(label.colour, (x, y), glyphs.mask(cluster, label.bold))
            x += cell_len(cluster) * glyphs.width
    file = BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()
