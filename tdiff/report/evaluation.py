"""`tdiff classify --evaluate`: the quality of predictions as text, as JSON, and as an HTML page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from tdiff.draw.predictions import reliability
from tdiff.draw.render import Line, in_ascii, plain
from tdiff.draw.table import table
from tdiff.errors import TdiffError
from tdiff.formatting import probability
from tdiff.report import html as pages
from tdiff.terminal import detect
from tdiff.visible import json_line, visible, visible_line

if TYPE_CHECKING:
    from tdiff.core.evaluation.metrics import Assessment

_NAME = 14
"""Cells of a class's name in a table, at most."""
_CONFUSION = "rows: true class; columns: predicted class"
_COVERAGE = "accuracy on the most confident predictions alone"
_STYLE = "svg { max-width: 26rem; } svg text { font-size: 12px; fill: currentColor; }\n"


def show(lines: Sequence[Mapping[str, Any]], classes: Sequence[str], *, as_json: bool, html: Path | None) -> None:
    """Evaluate labelled predictions and print the result; predictions that abstain are counted, but not evaluated.

    Raises TdiffError if all of them abstain, or if the page cannot be written.
    """
    import torch

    from tdiff.core.evaluation.metrics import assess

    decided = [line for line in lines if line["label"] is not None]
    if not decided:
        threshold = lines[0]["settings"]["abstain_below"]
        raise TdiffError(f"nothing to evaluate: --abstain-below {threshold:g} rejected every prediction")
    posteriors = torch.tensor([[line["posterior"][name] for name in classes] for line in decided], dtype=torch.float64)
    assessment = assess(posteriors, [list(classes).index(line["truth"]) for line in decided], classes)
    details = {
        "abstained": len(lines) - len(decided),
        "texts_per_second": round(1000 * len(lines) / max(1e-9, sum(line["milliseconds"] for line in lines)), 2),
        "draws": round(sum(line["draws"] for line in lines) / len(lines), 2),
        "sure": round(sum(bool(line["sure"]) for line in lines) / len(lines), 4),
        "settings": lines[0]["settings"],
    }
    if as_json:
        print(json_line(dataclasses.asdict(assessment) | details), flush=True)
    else:
        theme = detect.this_terminal(ask=False).theme
        drawn = (in_ascii(line, theme) for line in report(assessment, details, ascii=theme.ascii))
        print(visible(plain(drawn)), flush=True)
    if html is not None:
        pages.save(html, page(assessment, details))


def report(assessment: Assessment, details: Mapping[str, Any], *, ascii: bool = False) -> list[Line]:
    """The whole evaluation as lines of text."""
    low, high = assessment.interval_95
    blank: Line = []
    headline = (
        f"{assessment.accuracy:.1%} accuracy on {assessment.texts:,} texts (95% interval {low:.1%} to {high:.1%})"
    )
    lines: list[Line] = [[(headline, "bold")]]
    if details["abstained"]:
        total = assessment.texts + details["abstained"]
        lines.append([(f"abstained on {details['abstained']:,} of {total:,} ({details['abstained'] / total:.1%})", "")])
    pace = f"{details['texts_per_second']:,.1f} texts a second, {details['draws']:.1f} mask samples a text"
    lines.append([(f"{pace}, {details['sure']:.0%} decided early", "")])
    lines += [blank, *table(_classes(assessment)), blank, [(_CONFUSION, "")], *table(_confusion(assessment)), blank]
    lines.append([(_calibration(assessment), "")])
    lines += reliability([(b.confidence, b.accuracy, b.count) for b in assessment.bins], ascii=ascii)
    return [*lines, blank, [(_COVERAGE, "")], *table(_risks(assessment), left=0)]


def page(assessment: Assessment, details: Mapping[str, Any]) -> str:
    """The same as an HTML page."""
    low, high = assessment.interval_95
    settings = details["settings"]
    body = f"""<h1>{assessment.accuracy:.1%} accuracy</h1>
<p>On {assessment.texts:,} texts; 95% interval {low:.1%} to {high:.1%}. {details["abstained"]:,} abstained.
{details["texts_per_second"]:,.1f} texts a second, {details["draws"]:.1f} mask samples a text.
Model {pages.text(str(settings["model"]))}, method {pages.text(str(settings["method"]))}.</p>
<h2>Classes</h2>
{pages.table(_classes(assessment))}
<h2>Confusion matrix</h2>
<p>{_sentence(_CONFUSION)}.</p>
{pages.table(_confusion(assessment))}
<h2>Calibration</h2>
<p>{_sentence(_calibration(assessment))}. On the diagonal a
probability equals the accuracy; the area of a circle is the number of texts.</p>
{_reliability_svg(assessment)}
<h2>{_sentence(_COVERAGE)}</h2>
{pages.table(_risks(assessment))}
"""
    return pages.page("tdiff classify --evaluate", body, _STYLE)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _calibration(assessment: Assessment) -> str:
    right, wrong = probability(assessment.confidence_right), probability(assessment.confidence_wrong)
    return (
        f"calibration error (ECE) {assessment.ece:.3f}, {assessment.nats:.3f} nats a text; "
        f"mean probability {right} when correct, {wrong} when wrong"
    )


def _classes(assessment: Assessment) -> list[list[str]]:
    rows = [["class", "precision", "recall", "F1", "texts"]]
    for score in assessment.classes:
        shares = (probability(share) for share in (score.precision, score.recall, score.f1))
        rows.append([_name(score.name), *shares, f"{score.texts:,}"])
    return [*rows, ["mean", "", "", probability(assessment.macro_f1), f"{assessment.texts:,}"]]


def _confusion(assessment: Assessment) -> list[list[str]]:
    names = [_name(score.name) for score in assessment.classes]
    return [["", *names], *([name, *map(str, row)] for name, row in zip(names, assessment.confusion, strict=True))]


def _risks(assessment: Assessment) -> list[list[str]]:
    rows = [["coverage", "probability from", "accuracy"]]
    return rows + [[f"{r.coverage:.0%}", f"{r.threshold:.3f}", f"{r.accuracy:.1%}"] for r in assessment.risks]


def _name(name: str) -> str:
    shown = visible_line(name)
    return shown if cell_len(shown) <= _NAME else set_cell_size(shown, _NAME - 1) + "…"


def _reliability_svg(assessment: Assessment) -> str:
    """The reliability diagram as SVG: accuracy against mean probability, a circle for each bin that has texts."""
    size, edge = 360, 40
    largest = max(b.count for b in assessment.bins)

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + x * size, edge / 2 + (1 - y) * size

    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    marks = f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="currentColor"/>'
    marks += f'<path d="M{x0} {y0}L{x1} {y1}" stroke="currentColor" stroke-dasharray="4 4" opacity=".5"/>'
    for b in assessment.bins:
        if b.count:
            x, y = at(b.confidence, b.accuracy)
            radius = 3 + 12 * (b.count / largest) ** 0.5
            tooltip = f"{b.count:,} texts, mean probability {b.confidence:.3f}, {b.accuracy:.1%} accuracy"
            marks += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#1f77b4" opacity=".7">'
                f"<title>{tooltip}</title></circle>"
            )
    for value in (0.0, 0.5, 1.0):
        x, y = at(value, 0)
        marks += f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{value:g}</text>'
        x, y = at(0, value)
        marks += f'<text x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>'
    x, y = at(0.5, 0)
    marks += f'<text x="{x:.0f}" y="{y + 34:.0f}" text-anchor="middle">probability</text>'
    width, height = size + edge + 20, size + edge + 20
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="accuracy against probability">{marks}</svg>'
