"""A picture of lines and texts as PNG, with smooth edges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import pairwise

from PIL import Image, ImageDraw
from rich.cells import cell_len

from tdiff.report.export.chart_picture import Picture
from tdiff.report.export.glyphs import Glyphs, clusters
from tdiff.report.export.measures import FONT

_SCALE = 2
"""Pixels of the PNG for one of the picture."""
_FINE = 3
"""Lines are drawn so many times larger and then reduced: Pillow draws them without smooth edges."""
MOST_FINE = 12_000_000
"""Pixels before reducing that are in memory at once, about: 36 MB. A picture of 80x24 cells has fewer in all."""
_ABOVE = 8
"""Rows of pixels that are drawn above each band and cut off: more than half a line or a dot, because Pillow rounds
what begins above an image in another direction."""

Points = Sequence[tuple[float, float]]


def document(picture: Picture, most_fine: int = MOST_FINE) -> bytes:
    """The PNG of a picture, twice as large as its SVG. Lines are drawn in bands of about `most_fine` pixels."""
    width, height = picture.width * _SCALE, picture.height * _SCALE
    image = Image.new("RGB", (width, height), picture.background)
    rows = max(1, most_fine // (width * _FINE**2))
    for top in range(0, height, rows):
        image.paste(_band(picture, top, min(top + rows, height)), (0, top))
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


def _band(picture: Picture, top: int, bottom: int) -> Image.Image:
    """The strokes and dots in rows of pixels from `top` up to `bottom` of the PNG."""
    above = min(top, _ABOVE)
    rows, width = bottom - top + above, picture.width * _SCALE
    fine, begin = _SCALE * _FINE, (top - above) * _FINE
    image = Image.new("RGB", (width * _FINE, rows * _FINE), picture.background)
    draw = ImageDraw.Draw(image)
    for stroke in picture.strokes:
        size = max(1, round(stroke.width * fine))
        points = [(x * fine, _from(y * fine, begin)) for x, y in stroke.points]
        for part in _near(points, -2.0 * size, image.height + 2.0 * size):
            draw.line(part, fill=stroke.colour, width=size, joint="curve")
    for dot in picture.dots:
        x, y, radius = dot.x * fine, dot.y * fine - begin, dot.radius * fine
        if -radius <= y <= image.height + radius:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=dot.colour)
    return image.reduce(_FINE).crop((0, above, width, rows))


def _from(y: float, begin: int) -> float:
    """`y` counted from `begin`; whole above it, since Pillow cuts decimals off, which would move the point down."""
    return y - begin if y >= begin else math.floor(y) - begin


def _near(points: Points, low: float, high: float) -> Iterator[Points]:
    """The parts of a line whose segments reach into the rows from `low` to `high`."""
    start: int | None = None
    for n, ((_, a), (_, b)) in enumerate(pairwise(points)):
        if max(a, b) < low or min(a, b) > high:
            if start is not None:
                yield points[start : n + 1]
            start = None
        elif start is None:
            start = n
    if start is not None:
        yield points[start:]
