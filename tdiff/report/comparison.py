"""`tdiff compare`: results as a table, a plot of quality against model calls, JSON, and an HTML page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tdiff.draw import table as tables
from tdiff.draw.axes import Scale, scale, tick_labels, ticks
from tdiff.draw.render import Line, plain
from tdiff.report import html

if TYPE_CHECKING:
    from tdiff.core.evaluation.compare import Advice, Outcome, Task
    from tdiff.core.evaluation.quality import Summary

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The letter of each contender, in the table and in the plot."""
_PROMPTS_SHOWN = 12
"""Number of prompts of which the page shows the texts."""
_STYLE = """\
body { font-size: 15px; margin: 2rem; max-width: 100rem; }
td:nth-child(2) { text-align: left; }
.recommended { font-weight: bold; background: #8f82; } .equal { background: #8f81; }
.texts { display: flex; gap: 1rem; overflow-x: auto; } .texts div { flex: 0 0 22rem; }
pre { white-space: pre-wrap; font-size: 13px; } h3 { font-size: 13px; margin: 1rem 0 0; }
"""


def table(outcomes: Sequence[Outcome], task: Task, advice: Advice) -> list[Line]:
    """A row for real text, then one for each contender: > marks the recommended one, * others as good as the best."""
    rows = _rows(outcomes, task)
    numbers = range(-2, len(outcomes))  # the header and the real text are before the first contender
    marks = [">" if n == advice.recommended else "*" if n in advice.equal else " " for n in numbers]
    marked = [(f"{mark} {letter:<1}", *cells) for mark, (letter, *cells) in zip(marks, rows, strict=True)]
    return tables.table(marked, 2, ["bold" if mark == ">" else "" for mark in marks])


def plot(outcomes: Sequence[Outcome], advice: Advice, width: int = 72, height: int = 14) -> list[Line]:
    """The shortfall against model calls: lower left is better. Letters of the Pareto front are in brackets."""
    calls, shortfalls = [outcome.calls for outcome in outcomes], advice.shortfalls
    x, y = scale(min(calls), max(calls), True), scale(0.0, max(shortfalls), False)
    cells = [[" "] * width for _ in range(height)]

    def position(axis: Scale, value: float, size: int) -> int:
        return round(min(1.0, max(0.0, axis.share(value))) * (size - 1))

    for n in sorted(range(len(outcomes)), key=lambda n: n in advice.front):
        column, row = 1 + position(x, calls[n], width - 2), height - 1 - position(y, shortfalls[n], height)
        label = f"[{LETTERS[n]}]" if n in advice.front else f" {LETTERS[n]} "
        for k, character in enumerate(label, -1):
            if 0 <= column + k < width and (character != " " or k == 0):
                cells[row][column + k] = character
    values = ticks(y, 0.3)
    labels = {height - 1 - position(y, v, height): text for v, text in zip(values, tick_labels(y, values), strict=True)}
    left = max(map(len, labels.values()), default=0)
    lines: list[Line] = [
        [("shortfall from real text (0: as good as real text); [ ]: no other setting is both better and cheaper", "")]
    ]
    for row, characters in enumerate(cells):
        axis = f"{labels.get(row, ''):>{left}}{'┤' if row in labels else '│'}"
        lines.append([((axis + "".join(characters)).rstrip(), "")])
    low, high = f"{min(calls):.0f}", f"{max(calls):.0f} model calls per text"
    lines.append([(" " * left + "└" + f"{low} {'─' * max(1, width - len(low) - len(high) - 2)} {high}", "")])
    return lines


def recommendation(outcomes: Sequence[Outcome], advice: Advice) -> str:
    """The recommendation, for people."""
    best, recommended = outcomes[advice.best], outcomes[advice.recommended]
    choice = f"Recommended: {recommended.contender.label} ({recommended.calls:.0f} model calls per text)."
    if advice.recommended == advice.best:
        return f"{choice} Its texts are the closest to real text, and no cheaper setting was measured to be as good."
    return (
        f"{choice} Its texts are as good as those of {best.contender.label}, the closest to real text, which takes "
        f"{best.calls:.0f} calls."
    )


def data(outcomes: Sequence[Outcome], task: Task, advice: Advice) -> dict[str, Any]:
    """Everything, for a program: the object that `tdiff compare --json` prints."""
    rows = []
    for n, outcome in enumerate(outcomes):
        difference = advice.differences[n]
        against_best = {
            name: {
                "mean": round(getattr(difference, name).mean, 6),
                "half_95": round(getattr(difference, name).half, 6),
            }
            for name in ("distance", "distinct", "words")
        }
        rows.append(
            {
                "label": outcome.contender.label,
                "model": outcome.contender.model.name,
                "settings": dataclasses.asdict(outcome.contender.settings),
                "calls": round(outcome.calls, 4),
                "forced": round(outcome.forced, 4),
                "tokens_a_call": round(outcome.tokens_a_call, 4),
                "tokens_per_second": round(outcome.tokens / outcome.seconds, 2),
                **_measures(outcome.summary, outcome.copied),
                "shortfall": round(advice.shortfalls[n], 4),
                "against_best": against_best,
                "texts": outcome.texts,
                "equal": n in advice.equal,
                "front": n in advice.front,
            }
        )
    return {
        "prompts": task.prompts,
        "real": _measures(task.summary, task.copied) | {"texts": task.real},
        "outcomes": rows,
        "best": advice.best,
        "taken": advice.recommended,
        "advice": recommendation(outcomes, advice),
    }


def page(outcomes: Sequence[Outcome], task: Task, advice: Advice) -> str:
    """The same as an HTML page, with the texts of the first prompts side by side."""
    classes = [
        "recommended" if n == advice.recommended else "equal" if n in advice.equal else ""
        for n in range(-1, len(outcomes))
    ]
    texts = ""
    for n, prompt in enumerate(task.prompts[:_PROMPTS_SHOWN]):
        columns = [("real text", task.real[n]), *((outcome.contender.label, outcome.texts[n]) for outcome in outcomes)]
        cells = "".join(
            f"<div><h3>{html.text(label)}</h3><pre><b>{html.text(prompt)}</b>"
            f"{html.text(text[len(prompt) :])}</pre></div>"
            for label, text in columns
        )
        texts += f'<section class="texts">{cells}</section>\n'
    body = f"""<h1>Generation settings compared</h1>
<p>{html.text(recommendation(outcomes, advice))}</p>
{html.table(_rows(outcomes, task), classes)}
<pre>{html.text(plain(plot(outcomes, advice)))}</pre>
<h2>Texts from the same prompts</h2>
{texts}"""
    return html.page("tdiff compare", body, _STYLE)


def _rows(outcomes: Sequence[Outcome], task: Task) -> list[tuple[str, ...]]:
    """The cells of the table: the header, real text, and each contender."""
    second = ("judge nats",) if task.summary.second is not None else ()
    rows: list[tuple[str, ...]] = [
        ("", "", "calls", "tok/call", "tok/s", "n-gram nats", *second, "distinct", "words", "copied"),
        ("", "real text", "", "", "", *_figures(task.summary, task.copied)),
    ]
    for letter, outcome in zip(LETTERS, outcomes, strict=False):
        speed = (f"{outcome.calls:.1f}", f"{outcome.tokens_a_call:.2f}", f"{outcome.tokens / outcome.seconds:,.0f}")
        rows.append((letter, outcome.contender.label, *speed, *_figures(outcome.summary, outcome.copied)))
    return rows


def _figures(summary: Summary, copied: str) -> tuple[str, ...]:
    second = () if summary.second is None else (summary.second,)
    return (
        *(f"{estimate.mean:.3f} ±{estimate.half:.3f}" for estimate in (summary.nats, *second, summary.distinct)),
        f"{summary.words.mean:.1%} ±{100 * summary.words.half:.1f}",
        f"{len(copied)}",
    )


def _measures(summary: Summary, copied: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in ("nats", "second", "distinct", "words"):
        if (estimate := getattr(summary, name)) is not None:
            values |= {name: round(estimate.mean, 6), f"{name}_half_95": round(estimate.half, 6)}
    return values | {"copied": len(copied), "copied_text": copied}
