"""`tdiff classify --evaluate`: how good verdicts are, as text, as JSON, and as a page of HTML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from tdiff.draw.predictions import columns, reliability
from tdiff.draw.render import Line, in_ascii, plain
from tdiff.errors import TdiffError
from tdiff.report.predictions import save
from tdiff.terminal import detect
from tdiff.visible import json_line, visible, visible_line

if TYPE_CHECKING:
    from tdiff.core.evaluation.metrics import Assessment

_WIDE = 14
"""Cells of a class's name in a table."""


def show(lines: Sequence[Mapping[str, Any]], classes: Sequence[str], *, as_json: bool, html: Path | None) -> None:
    """Judge the lines, whose truth is known, and print it; those that abstain are counted, and not judged."""
    import torch

    from tdiff.core.evaluation.metrics import assess

    given = [line for line in lines if line["label"] is not None]
    speed = 1000 * len(lines) / max(1e-9, sum(line["milliseconds"] for line in lines))
    draws = sum(line["draws"] for line in lines) / len(lines)
    sure = sum(bool(line["sure"]) for line in lines) / len(lines)
    if not given:
        raise TdiffError(f"--abstain-below {lines[0]['settings']['abstain_below']:g} leaves no verdict to judge")
    posteriors = torch.tensor([[line["posterior"][name] for name in classes] for line in given], dtype=torch.float64)
    found = assess(posteriors, [list(classes).index(line["truth"]) for line in given], classes)
    more = {
        "abstained": len(lines) - len(given),
        "texts_per_second": round(speed, 2),
        "draws": round(draws, 2),
        "sure": round(sure, 4),
        "settings": lines[0]["settings"],
    }
    if as_json:
        print(json_line(dataclasses.asdict(found) | more), flush=True)
    else:
        look = detect.this_terminal(ask=False).look
        drawn = (in_ascii(line, look) for line in report(found, more, ascii=look.ascii))
        print(visible(plain(drawn)), flush=True)
    if html is not None:
        save(html, page(found, more))


def report(found: Assessment, more: Mapping[str, Any], *, ascii: bool = False) -> list[Line]:
    """All of it as lines."""
    low, high = found.interval_95
    blank: Line = []
    lines: list[Line] = [
        [(f"{found.accuracy:.1%} right of {found.texts:,} texts (95% interval {low:.1%} to {high:.1%})", "bold")],
    ]
    if more["abstained"]:
        every = found.texts + more["abstained"]
        lines.append([(f"abstained on {more['abstained']:,} of {every:,} ({more['abstained'] / every:.1%})", "")])
    lines.append(
        [
            (
                f"{more['texts_per_second']:,.1f} texts a second, {more['draws']:.1f} draws a text, "
                f"{more['sure']:.0%} decided early",
                "",
            )
        ]
    )
    lines += [blank, *columns(_classes(found)), blank, [("said ->, is of the class of the row", "")]]
    lines += [*columns(_confusion(found)), blank]
    lines.append(
        [
            (
                f"calibration error (ECE) {found.ece:.3f}, {found.nats:.3f} nats a text; mean probability "
                f"{_share(found.confidence_right)} when right, {_share(found.confidence_wrong)} when wrong",
                "",
            )
        ]
    )
    lines += reliability([(b.confidence, b.accuracy, b.count) for b in found.bins], ascii=ascii)
    return [*lines, blank, [("where only the surest verdicts are given", "")], *columns(_risks(found), left=0)]


def _name(name: str) -> str:
    short = visible_line(name)
    return short if cell_len(short) <= _WIDE else set_cell_size(short, _WIDE - 1) + "…"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _classes(found: Assessment) -> list[list[str]]:
    rows = [["class", "precision", "recall", "F1", "texts"]]
    rows += [
        [_name(c.name), _share(c.precision), _share(c.recall), _share(c.f1), f"{c.texts:,}"] for c in found.classes
    ]
    return [*rows, ["mean", "", "", _share(found.macro_f1), f"{found.texts:,}"]]


def _confusion(found: Assessment) -> list[list[str]]:
    names = [_name(c.name) for c in found.classes]
    return [["", *names], *([name, *map(str, row)] for name, row in zip(names, found.confusion, strict=True))]


def _risks(found: Assessment) -> list[list[str]]:
    rows = [["given", "probability from", "right"]]
    return rows + [[f"{r.coverage:.0%}", f"{r.threshold:.3f}", f"{r.accuracy:.1%}"] for r in found.risks]


def page(found: Assessment, more: Mapping[str, Any]) -> str:
    """The same as a page of HTML that needs nothing else."""
    from html import escape

    def table(rows: Sequence[Sequence[str]]) -> str:
        first, *rest = [[escape(visible(cell)) for cell in row] for row in rows]
        heads = "".join(f"<th>{cell}</th>" for cell in first)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rest)
        return f"<table><tr>{heads}</tr>\n{body}</table>"

    low, high = found.interval_95
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>tdiff classify --evaluate</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; color-scheme: light dark; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }}
th, td {{ padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #8884; }}
th:first-child, td:first-child {{ text-align: left; }}
svg {{ max-width: 26rem; }} svg text {{ font-size: 12px; fill: currentColor; }}
</style>
<h1>{found.accuracy:.1%} right</h1>
<p>Of {found.texts:,} texts; 95% interval {low:.1%} to {high:.1%}. {more["abstained"]:,} abstained.
{more["texts_per_second"]:,.1f} texts a second, {more["draws"]:.1f} draws a text.
By {escape(visible(str(more["settings"]["model"])))}, method {escape(str(more["settings"]["method"]))}.</p>
<h2>Classes</h2>
{table(_classes(found))}
<h2>Said (columns) and true (rows)</h2>
{table(_confusion(found))}
<h2>Probability and truth</h2>
<p>Calibration error (ECE) {found.ece:.3f}; {found.nats:.3f} nats a text; mean probability
{_share(found.confidence_right)} when right, {_share(found.confidence_wrong)} when wrong. On the diagonal doubt is
honest; a circle's area is the number of texts.</p>
{_picture(found)}
<h2>Where only the surest verdicts are given</h2>
{table(_risks(found))}
</html>
"""


def _picture(found: Assessment) -> str:
    """The reliability picture as SVG."""
    size, edge = 360, 40
    most = max(b.count for b in found.bins)

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + x * size, edge / 2 + (1 - y) * size

    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    marks = f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="currentColor"/>'
    marks += f'<path d="M{x0} {y0}L{x1} {y1}" stroke="currentColor" stroke-dasharray="4 4" opacity=".5"/>'
    for b in found.bins:
        if b.count:
            x, y = at(b.confidence, b.accuracy)
            radius = 3 + 12 * (b.count / most) ** 0.5
            told = f"{b.count:,} texts, mean probability {b.confidence:.3f}, {b.accuracy:.1%} right"
            marks += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#1f77b4" opacity=".7">'
                f"<title>{told}</title></circle>"
            )
    for value in (0.0, 0.5, 1.0):
        x, y = at(value, 0)
        marks += f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{value:g}</text>'
        x, y = at(0, value)
        marks += f'<text x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>'
    x, y = at(0.5, 0)
    marks += f'<text x="{x:.0f}" y="{y + 34:.0f}" text-anchor="middle">probability</text>'
    wide, high = size + edge + 20, size + edge + 20
    return f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="probability against the share right">{marks}</svg>'
