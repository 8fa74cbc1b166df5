"""The words around the texts of a race: what races, which text reads best and what decided, and the keys."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len

from tdiff.draw.render import Line
from tdiff.protocol.messages import Measured
from tdiff.tui.key import first_name
from tdiff.tui.race_keys import LENS_KEYS, RACE_KEYS
from tdiff.tui.widgets.lines import shortened, two_ends
from tdiff.visible import visible_line
from tdiff.watch.generation.race import Race


def heading(race: Race, axis: str, point: float, state: str, width: int, *, batch: bool) -> Line:
    """What is compared, from which prompt and seed, and at which point."""
    header = race.header
    count = len(race.roots)
    words = f"{count} texts of one batch" if batch else f"race of {count}"
    if branches := len(race.lanes) - count:
        words += f" · {branches} branch{'es' * (branches != 1)}"
    left: Line = [(" tdiff ", "bold"), (words, "bold")]
    if header is not None:
        prompt = " ".join(visible_line(header.prompt).split())
        prompt = prompt if cell_len(prompt) <= 30 else f"{prompt[:28]} …"
        left += [(f' · "{prompt}"' if prompt else "", ""), (f" · seed {race.seed} row {race.row}", "")]
        left += [(f" · {visible_line(header.model)}", "")] if race.models == 1 else []
    where = f"call {point:.0f}" if axis == "calls" else f"{point:.1f} s each"
    mark = {"": "▶", "paused": "‖", "replay": "▷"}[state]
    step = "calls" if axis == "calls" else "time"
    shown = f"{mark} {state} " if state else ""
    right: Line = [(shown, "reverse" if state else ""), (f" in step by {step} · {where} ", "")]
    room = max(0, width - sum(cell_len(text) for text, _ in right) - 1)
    return two_ends(shortened(left, room), right, width)


def verdict_line(race: Race, *, batch: bool) -> Line:
    """Which text reads best and what decided that; what is awaited before, or why nothing decides."""
    if not race.complete:
        left = sum(not lane.ended for lane in race.lanes)
        return [(f" {left} of {len(race.lanes)} in progress" if race.header else f" {race.state}", "dim")]
    if race.measured is None:
        why = f" no winner: {visible_line(race.why_not)}" if race.why_not else ""
        return [("" if batch else why or " measuring the texts ...", "dim")]
    best = race.best
    names = " and ".join(lane.letter for lane in best)
    nearest = "is nearest to real text" if race.measured.model else "reads best"  # a bound says nothing of sense
    line: Line = [(f" {names} {nearest}" if len(best) == 1 else f" {names} read alike", "bold")]
    return [*line, *((fact, "") for fact in _reasons(race, race.measured, race.finishers.index(best[0])))]


def _reasons(race: Race, found: Measured, number: int) -> list[str]:
    """What decided, and the figures of the best text, which has that `number` among those that were measured."""
    if found.model:
        pairs = zip(race.finishers, found.nats, strict=True)
        others = [f"{lane.letter} {nats:.2f}" for n, (lane, nats) in enumerate(pairs) if n != number]
        figures = f"{found.nats[number]:.2f} nats/char ({found.real[0]:.2f})"
        return [f" by the bound of {visible_line(found.model)}: {figures}", f" · {', '.join(others)}"]
    figures = f"{found.nats[number]:.2f} nats/char (real text {found.real[0]:.2f})"
    return [
        f" · decided by n-grams of {visible_line(found.corpus)}: {figures}",
        f" · {found.distinct[number]:.0%} distinct ({found.real[1]:.0%})",
        f" · {found.words[number]:.0%} known words ({found.real[2]:.0%})",
        " · one text each: tdiff compare decides with many",
    ]


def key_hints(changed: Mapping[str, str], width: int, *, ascii: bool, batch: bool, looking: bool) -> Line:
    """The most important keys, as many as fit; neighbours with one hint are together. `looking`: the lens is on."""
    parts: list[tuple[str, str]] = []
    keys = [key for key in RACE_KEYS if key.id in LENS_KEYS] if looking else []
    keys += [key for key in RACE_KEYS if key.id not in LENS_KEYS or (not looking and key.action == "lens")]
    for key in keys:
        hint = "lens off" if looking and key.action == "lens" else key.hint
        hint = hint or ("four or nine" if key.id == "race_count" and batch else "")
        if not hint:
            continue
        name = first_name(key, changed, ascii=ascii)
        if parts and parts[-1][1] == hint:
            parts[-1] = parts[-1][0] + name, hint
        else:
            parts.append((name, hint))
    line: Line = [(" ", "")]
    for name, hint in parts:
        if sum(cell_len(text) for text, _ in line) + cell_len(name + hint) + 3 > width:
            break
        line += [(name, "bold"), (f" {hint}  ", "")]
    return line
