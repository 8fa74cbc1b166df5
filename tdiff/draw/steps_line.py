"""The line of steps below a canvas: where the shown step is among all of them."""

from __future__ import annotations

from tdiff.draw.render import Line


def scrub_line(at: int, steps: int, ended: bool, width: int, *, share: float = 1.0, cap: int = 0) -> Line:
    """The shown step among all steps: ◀ 0 ━━━╸37───┄┄┄ 64 …: thick up to it, thin up to the newest step.

    `share` is the share of `steps` so far in all steps; `cap` is the maximum number of steps, 0 where unknown.
    """
    head = " ◀ 0 "
    tail = f" {steps} ▶ " if ended else f" {cap} … " if cap else " … "
    label = str(at) if at > 0 and not (ended and at >= steps) else ""
    room = max(0, width - len(head) - len(tail) - len(label) - 1)
    reached = round(room * min(1.0, max(0.0, share)))
    done = min(reached, max(0, round(reached * at / steps))) if steps else 0  # a trace may count backwards
    line: Line = [(head, "dim"), ("━" * done + "╸", ""), (label, "bold"), ("─" * (reached - done), "dim")]
    return [*line, ("┄" * (room - reached), "dim"), (tail, "dim")]
