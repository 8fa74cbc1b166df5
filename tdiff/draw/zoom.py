"""Zoom and pan of a chart, along x and along y, as pure functions of views and ranges."""

from __future__ import annotations

from dataclasses import replace

from tdiff.draw.axes import Scale
from tdiff.draw.curves import Ranges, View, end
from tdiff.series.series import LIMIT


def zoom(view: View, extent: Ranges, factor: float, at: float) -> View:
    """Show 1/`factor` of the visible x range, with `at` at the same position.

    `extent` is the range of all data: `ranges` of a view without ends. A factor above 1 zooms in, below 1 out, at most
    to the extent, and then the view follows the data again. The narrowest view is 1 wide, or a millionth of the extent.
    """
    full, a, b = _visible(view, extent)
    middle = min(b, max(a, full.share(at)))
    least = max(1e-6, min(1.0, 0.1 * (full.high - full.low)) / (full.high - full.low) if not full.log else 1e-6)
    factor = min(factor, max(1.0, (b - a) / least))
    return _show(view, full, middle - (middle - a) / factor, middle + (b - middle) / factor)


def pan(view: View, extent: Ranges, share: float) -> View:
    """Move right by a share of the visible range, or left if it is below 0, at most to the end of the data."""
    full, a, b = _visible(view, extent)
    by = min(1 - b, max(-a, share * (b - a)))
    return _show(view, full, a + by, b + by)


def _visible(view: View, extent: Ranges) -> tuple[Scale, float, float]:
    """The scale of all data, and the ends of the view on it."""
    full = Scale(extent[0], extent[1], view.log_x)
    a = full.share(end(view.x0, full.low, view.log_x))
    b = full.share(end(view.x1, full.high, view.log_x))
    return full, min(1.0, max(0.0, a)), min(1.0, max(0.0, b))


def _show(view: View, full: Scale, a: float, b: float) -> View:
    if a <= 1e-9 and b >= 1 - 1e-9:
        return replace(view, x0=None, x1=None)
    return replace(view, x0=full.value(max(0.0, a)), x1=full.value(min(1.0, b)))


def zoom_y(view: View, drawn: Ranges, factor: float, at: float) -> View:
    """Show 1/`factor` of the visible y range, with the value `at` at the same position; `drawn` are the ranges now."""
    scale = Scale(drawn[2], drawn[3], view.log_y)
    middle = min(1.0, max(0.0, scale.share(at)))
    return _show_y(view, scale, middle - middle / factor, middle + (1 - middle) / factor)


def pan_y(view: View, drawn: Ranges, share: float) -> View:
    """Move up by a share of the visible y range, or down if it is below 0; `drawn` are the ranges now."""
    return _show_y(view, Scale(drawn[2], drawn[3], view.log_y), share, 1 + share)


def _show_y(view: View, scale: Scale, bottom: float, top: float) -> View:
    low, high = scale.value(bottom), scale.value(top)
    narrow = high - low <= 1e-9 * max(abs(low), abs(high))
    return view if narrow or not high - low < LIMIT else replace(view, y0=low, y1=high)
