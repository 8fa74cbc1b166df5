"""Pictures of lines as PNG, which are drawn in bands."""

import io
import math

import pytest

from tdiff.report.export.chart_picture import Dot, Label, Picture, Stroke

images = pytest.importorskip("PIL.Image", reason="needs Pillow")
chops = pytest.importorskip("PIL.ImageChops", reason="needs Pillow")


@pytest.fixture
def picture():
    """Two steep lines and dots, so that bands end within a line, at a joint and within a dot."""
    wave = [(x / 2, 60 + 50 * math.sin(x * x / 900)) for x in range(20, 380)]
    drawn = Picture(200, 120, (10, 20, 30))
    drawn.strokes += [Stroke(wave, (250, 200, 90), 1.8), Stroke([(5.3, 2.7), (5.3, 117.9)], (90, 90, 90), 1.0)]
    drawn.strokes += [Stroke([(9.0, 90.6), (190.0, 90.6)], (90, 90, 90), 1.0)]
    drawn.dots += [Dot(12.4 + 4 * n, 4.1 + 2.7 * n, 2.4, (200, 60, 60)) for n in range(40)]
    drawn.labels.append(Label(40, 50, "a name", (255, 255, 255)))
    return drawn


def pixels(data: bytes):
    return images.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("rows", [1, 7, 64, 150])
def test_bands_show_the_same_as_a_picture_drawn_whole(picture, rows):
    from tdiff.report.export import lines_png

    whole = pixels(lines_png.document(picture))
    assert whole.size == (400, 240) and len(whole.getcolors(1 << 16)) > 50
    banded = pixels(lines_png.document(picture, most_fine=rows * 9 * 400))
    counts = chops.difference(whole, banded).convert("L").histogram()
    # Floating point may round a coordinate to the next of the three by three fine pixels.
    assert not any(counts[3 * 255 // 9 :]) and sum(counts[1:]) < 0.002 * sum(counts)


def test_no_image_is_larger_than_the_limit_and_the_rows_above_a_band(monkeypatch):
    from tdiff.report.export import lines_png

    sizes, new = [], images.new
    monkeypatch.setattr(images, "new", lambda mode, size, *rest: sizes.append(size) or new(mode, size, *rest))
    large = Picture(1200, 1300, (0, 0, 0), strokes=[Stroke([(1, 1), (1199, 1299)], (255, 255, 255), 1.8)])
    lines_png.document(large)
    result, *bands = sizes
    assert result == (2400, 2600) and len(bands) > 3
    assert max(width * height for width, height in bands) <= lines_png.MOST_FINE + 24 * 7200
