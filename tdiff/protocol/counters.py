"""The counters of a generation in words, the same wherever one is shown."""

from __future__ import annotations

from tdiff.protocol.canvas import Canvas


def counters(canvas: Canvas, cap: int, *, confidence: bool = True) -> str:
    """Step, share unmasked, positions left, mean confidence: `step 17/64 · 41% · 151 left · confidence 0.83`.

    `cap` is the largest number of steps, 0 if there is none. There is no mean confidence before the first position is
    unmasked, and none without `confidence`.
    """
    parts = [f"step {canvas.index}/{cap}" if cap else f"step {canvas.index}"]
    parts += [f"{canvas.revealed:.0%}", f"{canvas.left} left"]
    if confidence and canvas.left < canvas.maskable:
        parts.append(f"confidence {canvas.mean_confidence:.2f}")
    return " · ".join(parts)


def calls_text(canvas: Canvas) -> str:
    """The model calls so far, and how many steps made none because nothing was masked: `19 calls, 1 step without`."""
    text = f"{canvas.calls} call{'s' * (canvas.calls != 1)}"
    without = canvas.index - canvas.calls
    return f"{text}, {without} step{'s' * (without != 1)} without" if without > 0 and canvas.calls else text
