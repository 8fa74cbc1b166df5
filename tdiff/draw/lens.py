"""The lens: what is known about one position of a canvas, as styled lines; and the order in which positions resolved.

Pure functions of plain data, tested as strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from tdiff.draw.palettes import Theme, styles
from tdiff.draw.render import Line

_RAMP, _ASCII_RAMP = " ▁▂▃▄▅▆▇█", " ._-=+*%#"
_BAR = " ▏▎▍▌▋▊▉█"
_SHADES, _ASCII_SHADES = "░▒▓█", ".-+#"
_NAME = 12
"""Cells of the text of an alternative, at most."""
_LONG_NAME = 20
"""Cells of the text of a token in a title, at most, with its quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One position after one step."""

    position: int
    text: str
    """Its token; "" where it is masked."""
    state: str
    """In a few words, such as "unmasked in step 12"."""
    alternatives: Sequence[tuple[str, float]] = ()
    """(text, probability), the likeliest first."""
    chosen: int | None = None
    """The place of its token among the alternatives, from 0; None where it is not among them."""
    confidence: float | None = None
    """The probability of its token when it was unmasked; None where the model did not unmask it."""
    selected: int | None = None
    """The place of the alternative that the user may force; None where none is selected."""
    entropy: float = 0.0
    """In nats."""
    margin: float = 0.0
    path: Sequence[float | None] = ()
    """Probability of its token in each step so far; None: not known."""
    entropies: Sequence[float | None] = ()
    """Entropy in each step so far, in nats; None: not known."""
    committed: int | None = None
    """The step that unmasked it."""
    best: Sequence[str] = ()
    """The likeliest tokens one after another."""
    remasked: int = 0
    step: int = 0
    """The model's number of the step that is shown."""
    note: str = ""
    """Why there are no predictions, shorter where it ends at a middle dot; "" where there are."""


def quoted(text: str) -> str:
    """The text of a token in quotes, on one line."""
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'


def share(p: float) -> str:
    """A probability in three characters, such as .62 or 1.0; ".00" for one below .005."""
    return "1.0" if p >= 0.995 else f"{p:.2f}"[1:]


def sparkline(values: Sequence[float | None], width: int, *, ascii: bool, top: float = 1.0) -> str:
    """The values 0..`top` in at most `width` cells, the largest of each; a blank where nothing is known."""
    ramp = _ASCII_RAMP if ascii else _RAMP
    count = min(width, len(values))
    cells = []
    for n in range(count):
        part = [v for v in values[n * len(values) // count : (n + 1) * len(values) // count] if v is not None]
        level = 0 if not part else 1 + min(7, int(8 * max(0.0, max(part)) / top)) if top > 0 else 1
        cells.append(ramp[level])
    return "".join(cells)


def bar(value: float, width: int, *, ascii: bool) -> str:
    """A bar of `value` 0..1 of `width` cells, to an eighth of a cell."""
    eighths = round(8 * width * min(1.0, max(0.0, value)))
    if ascii:
        return "#" * max(eighths // 8, value > 0)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_BAR[rest] if rest else "") or ("▏" if value > 0 else "")


def title(facts: Facts, width: int) -> tuple[Line, Line]:
    """Both ends of the title of the lens, with room for `width` cells and a blank between them: the position, its token
    and its state; entropy and margin, where there are predictions.

    Figures are dropped as a whole. The step of commitment stays longest, then the token, the entropy and the margin.
    """
    head: Line = [(f"@{facts.position}", "bold")]
    token: Line = [(f" {_short_quoted(facts.text)}", "bold")] if facts.text else []
    state, step = [(f" · {facts.state}", "dim")], [(f" · {_short_state(facts)}", "dim")]
    entropy, margin = [(f"H {facts.entropy:.2f} nats", "")], [(f" · margin {share(facts.margin)}", "")]
    numbers = [[*entropy, *margin], entropy] if facts.alternatives else []
    lefts = ([*head, *token, *state], [*head, *token, *step])
    pairs = [(left, right) for right in numbers for left in lefts]
    pairs += [(left, []) for left in ([*head, *token, *state], [*head, *token, *step], [*head, *step])]
    fitting = (pair for pair in pairs if _width(pair[0]) + _width(pair[1]) + bool(pair[1]) <= width)
    return next(fitting, (head, []))


def _short_state(facts: Facts) -> str:
    return facts.state.removeprefix("unmasked in ")


def _short_quoted(text: str) -> str:
    """The text of a token in quotes, its end left out where it is long."""
    name = quoted(text)
    return name if cell_len(name) <= _LONG_NAME else set_cell_size(name, _LONG_NAME - 2).rstrip() + '…"'


def _width(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def in_a_line(facts: Facts, width: int) -> tuple[Line, Line]:
    """The lens in the edge of a pane with room for `width` cells: the position, and as many alternatives as fit."""
    head: Line = [(f"@{facts.position}", "bold")]
    if facts.text:
        head.append((f" {_short_quoted(facts.text)}", "bold"))
    if facts.committed is not None and facts.chosen is not None:
        head.append((f" {share(facts.alternatives[facts.chosen][1])}", ""))
    elif facts.confidence is not None:
        head.append((f" {share(facts.confidence)}", ""))
    if not facts.note and not facts.alternatives:
        return head, [(facts.state, "dim")]
    if facts.committed is not None:
        head.append((f" · {_short_state(facts)}", "dim"))
    if facts.note:
        return head, [(facts.note, "dim")]
    if _width(head) > width:
        del head[1:-1]  # the step of commitment stays
    for tail in (f"H={facts.entropy:.2f}", ""):
        room = width - _width(head) - len(tail) - 4
        line: Line = []
        items = [f"{_named(text)} {share(p)}" for text, p in facts.alternatives]
        first = facts.selected or 0
        while first and sum(cell_len(item) + 2 for item in items[first - 1 : (facts.selected or 0) + 1]) <= room:
            first -= 1  # as many before the selected one as fit
        for n, item in list(enumerate(items))[first:]:
            room -= cell_len(item) + 2
            if room < 0:
                break
            style = "reverse" if n == facts.selected else "bold" if n == facts.chosen else "" if n == 0 else "dim"
            line += [(item, style), ("  ", "")]
        if line:
            return head, [*line, (tail, "dim")]
    return head, []


def _named(text: str) -> str:
    """The text of an alternative where it needs no quotes, else in quotes."""
    bare = text.removeprefix(" ")
    return bare if bare and bare == bare.strip() and bare.isprintable() and text != "" else quoted(text)


def lens_lines(facts: Facts, width: int, rows: int, theme: Theme) -> list[Line]:
    """The lens in `rows` rows of `width` cells: alternatives with bars on the left, the history on the right."""
    left = max(24, min(56, (width - 2) // 2))
    right = width - left - 3
    histories = _history(facts, max(8, right), theme.ascii) if right >= 16 else []
    lines: list[Line] = []
    for n in range(rows):
        line: Line = []
        used = 0
        if n < len(facts.alternatives):
            line = _alternative(facts, n, left, theme)
            used = sum(cell_len(text) for text, _ in line)
        elif n == 0:
            line = [(f" {facts.note or facts.state}", "dim")]
            used = cell_len(line[0][0])
        if n < len(histories):
            line += [(" " * max(1, left + 2 - used), ""), *histories[n]]
        lines.append(line)
    return lines


def _alternative(facts: Facts, n: int, width: int, theme: Theme) -> Line:
    text, p = facts.alternatives[n]
    size = max(min(_NAME, cell_len(_named(name))) for name, _ in facts.alternatives)
    name = _named(text)
    name = set_cell_size(name, size) if cell_len(name) <= size else set_cell_size(name, size - 1) + "…"
    chosen = n == facts.chosen
    shades = styles(theme).shades
    shade = shades[min(int(p * len(shades)), len(shades) - 1)]
    mark = (">" if theme.ascii else "▸") if chosen else " "
    drawn = bar(p, max(1, width - size - 8), ascii=theme.ascii)
    if n == facts.selected:
        return [(f"{mark}{name} {share(p)} ", "reverse"), (drawn, shade if "color" in shade else "")]
    return [
        (f"{mark}{name} ", "bold" if chosen else ""),
        (f"{share(p)} ", ""),
        (drawn, shade if "color" in shade else ""),
    ]


def _history(facts: Facts, width: int, ascii: bool) -> list[Line]:
    """What happened at the position, a row each, the most important first."""
    label = 15
    room = max(1, width - label)
    rows: list[Line] = []
    if any(p is not None for p in facts.path):
        steps = f" {facts.step or len(facts.path)}"
        drawn = sparkline(facts.path, max(1, room - len(steps)), ascii=ascii)
        rows.append([("p over steps".ljust(label), "dim"), (drawn, ""), (steps, "dim")])
        known = [nats for nats in facts.entropies if nats is not None]
        top = f" {max(known, default=0.0):.1f}"
        drawn = sparkline(facts.entropies, max(1, room - len(top)), ascii=ascii, top=max(known, default=1.0) or 1.0)
        rows.append([("entropy".ljust(label), "dim"), (drawn, ""), (top, "dim")])
    if facts.best:
        changes = len(facts.best) - 1
        arrow = " > " if ascii else " → "
        names = [_named(text) for text in facts.best]
        path = arrow.join(names)
        while cell_len(path) > room - 4 and len(names) > 1:
            del names[0]
            path = ("..." if ascii else "…") + arrow + arrow.join(names)
        times = f"{changes}" + ("x " if ascii else "× ")
        rows.append([("best guess".ljust(label), "dim"), (times if changes else "", "bold"), (path, "")])
    if facts.chosen is not None:
        rows.append([("rank".ljust(label), "dim"), (f"{facts.chosen + 1} of {len(facts.alternatives)}", "")])
    elif facts.alternatives and facts.committed is not None:
        p = "" if facts.confidence is None else f" · p {share(facts.confidence)}"
        rows.append([("rank".ljust(label), "dim"), (f"> {len(facts.alternatives)}{p}", "")])
    if facts.remasked:
        rows.append([("remasked".ljust(label), "dim"), (f"{facts.remasked}" + ("x" if ascii else "×"), "")])
    return rows


# The order in which positions resolved


def order_heading(theme: Theme) -> Line:
    """What the map of the order shows."""
    shades = _ASCII_SHADES if theme.ascii else _SHADES
    return [
        ("order", "bold"),
        (f" · {shades[0]} early {shades[-1]} late · {'.' if theme.ascii else '·'} masked", "dim"),
    ]


def flow_line(commits: Sequence[int], at: int, tau: float | None, width: int, theme: Theme) -> Line:
    """Positions unmasked in each step, under the line of steps, and how far the order is from left to right.

    `at` is the step that is shown: later steps are fainter.
    """
    ascii = theme.ascii
    order = "" if tau is None else f" {'tau' if ascii else 'τ'} {tau:+.2f} "
    label = " commits "
    room = max(0, width - len(label) - len(order))
    if not commits or not room:
        return [(label, "dim")]
    drawn = sparkline([float(n) for n in commits], room, ascii=ascii, top=max(1, *commits) if len(commits) > 1 else 1)
    done = len(drawn) * min(at, len(commits)) // len(commits)
    later = "dim" if theme.colour == "none" else styles(theme).draft
    line: Line = [(label, "dim"), (drawn[:done], "dim"), (drawn[done:], later)]
    return [*line, (" " * (room - len(drawn)), ""), (order, "bold")]


def order_lines(order: Sequence[int | None], steps: int, width: int, rows: int, theme: Theme) -> list[Line]:
    """A map of the order: a cell for each position, or for several, fuller the later; `·` where it is masked.

    `order` holds the step of each position, 0 for the prompt, None where it is masked; `steps` is the largest.
    """
    if width <= 0 or rows <= 0 or not order:
        return []
    per_cell = -(-len(order) // (width * rows))
    shades = _ASCII_SHADES if theme.ascii else _SHADES
    cells = []
    for n in range(0, len(order), per_cell):
        part = [step for step in order[n : n + per_cell] if step is not None]
        if not part:
            cells.append("." if theme.ascii else "·")
        else:
            step = max(part)
            cells.append(" " if step == 0 else shades[min(3, 4 * (step - 1) // max(1, steps))])
    text = "".join(cells)
    return [[(text[n : n + width], "dim")] for n in range(0, len(text), width)][:rows]
