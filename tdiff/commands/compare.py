"""`tdiff compare`: ways of generating as a table, a picture of quality against calls, JSON, and a report in HTML."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.config.decoding import DecodeSettings, assignments, decode_value
from tdiff.config.options import DEVICES, argument, option
from tdiff.draw.render import Line, plain
from tdiff.errors import TdiffError
from tdiff.runs.run import write_whole
from tdiff.visible import json_line, visible, visible_line

if TYPE_CHECKING:
    from tdiff.core.evaluation.compare import Advice, Outcome, Task
    from tdiff.core.models.folder import LoadedModel

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_USUAL = (
    "decoder=confidence threshold=0.5,0.7,0.9",
    "decoder=schedule steps=32,64 temperature=0.7",
    "decoder=ancestral steps=64,128 temperature=0.7,1",
)
"""Compared where nothing is said."""


EXAMPLES = (
    "tdiff compare shakespeare --decoders confidence,remdm",
    'tdiff compare mine --settings "schedule steps=32,64 temperature=0.7,1" --html report.html',
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    models: Sequence[str] = argument(help="Models by folder or name.", metavar="MODEL...", complete="models")
    decoders: str = option(
        "", "Decoders with their default settings, separated by commas.", panel="Settings to compare"
    )
    settings: Sequence[str] = option(
        (),
        'A grid of settings: "decoder=confidence threshold=0.5,0.7 temperature=0.7,1"; repeatable.',
        panel="Settings to compare",
        metavar="GRID",
        complete="decoders",
    )
    data: Sequence[str] = option(
        (),
        "Text whose held-out part gives the prompts.",
        panel="Input",
        shown="default: the first model's corpus",
    )
    text_field: str | None = option(None, "Field of .jsonl and .csv rows that holds the text.", panel="Input")
    split: str | None = option(
        None,
        "Part of the text that gives the prompts.",
        panel="Input",
        metavar="[val|tuning]",
        shown="default: what the first model held out",
    )
    judge: str | None = option(
        None, "A causal model, such as gpt2, that scores the texts beside the n-gram model.", metavar="MODEL"
    )
    prompts: int = option(64, "Number of prompts; each has 16 characters and gets 240 more.", panel="Input")
    seed: int = option(0, "Seed of all texts.")
    device: str = option("auto", "Device.", choices=DEVICES, panel="Advanced")
    as_json: bool = option(False, "Print one JSON object, with all texts.", flag="--json", panel="Output")
    html: Path | None = option(None, "Save a report.", panel="Output", metavar="FILE")


def run(request: Request) -> None:
    """Generate with all settings and print the comparison; progress bars and messages go to stderr."""
    as_json, html = request.as_json, request.html
    if request.prompts < 2:
        raise TdiffError(f"--prompts must be at least 2, or there is nothing to compare; got {request.prompts}")
    if request.split not in (None, "val", "tuning"):
        raise TdiffError(f"--split takes val or tuning; got {request.split!r}")
    chosen = list(parse(request.decoders, request.settings))
    if len(chosen) * len(request.models) > len(_LETTERS):
        raise TdiffError(f"{len(chosen)} settings of {len(request.models)} models are more than {len(_LETTERS)}")
    if html is not None and not html.parent.is_dir():
        raise TdiffError(f"the report {str(html)!r} cannot be written: {html.parent} is not a folder")

    from tdiff.commands.progress import fetching, progress_bar
    from tdiff.core import devices
    from tdiff.core.evaluation.causal_judge import CausalJudge
    from tdiff.core.evaluation.compare import Contender, advise, task
    from tdiff.core.evaluation.compare import run as generate
    from tdiff.core.evaluation.likelihood import corpus_of
    from tdiff.core.evaluation.quality import Judge
    from tdiff.core.models.folder import load_model

    device = devices.choose(request.device)
    models = []
    for name in request.models:
        with fetching(name) as progress:
            models.append(load_model(name, device, progress))
    corpus = corpus_of(models[0], request.data, request.text_field)
    parts = {"val": "tenth", "tuning": "tuning", None: models[0].origin.held_out}
    training, held_out = corpus.split(parts[request.split], models[0].origin.rows, models[0].origin.only)
    if not request.data and request.split == "tuning":
        for model in models:
            if model.origin.held_out == "tenth":
                print(
                    f"{visible_line(model.name)} was trained on the tuning part: its settings may be chosen by it, but "
                    "not it by them",
                    file=sys.stderr,
                )
    second = None
    if request.judge is not None:
        with fetching(request.judge) as progress:
            second = CausalJudge(request.judge, device, progress)
    judge = Judge(training, second.nats if second else None)
    asked = task(judge, held_out, request.prompts)
    several = len(models) > 1
    contenders = [
        Contender(
            model,
            dataclasses.replace(settings, seed=request.seed),
            f"{visible_line(model.name)}: {label}" if several else label,
        )
        for model in models
        for label, settings in _fitting(model, chosen)
    ]
    outcomes = []
    for n, contender in enumerate(contenders):
        with progress_bar(f"{n + 1}/{len(contenders)} {contender.label}") as bar:
            outcomes.append(generate(contender, asked, judge, bar))
        if not sys.stderr.isatty():  # where no bar is drawn, and it may take an hour
            print(
                f"{n + 1}/{len(contenders)} {contender.label}: {outcomes[-1].seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    advice = advise(outcomes, asked)
    if html is not None:
        try:
            write_whole(html, report(outcomes, asked, advice).encode())
        except OSError as why:
            raise TdiffError(f"the report {str(html)!r} cannot be written: {why.strerror}") from None
        print(f"saved {html}", file=sys.stderr)
    if as_json:
        print(json_line(data(outcomes, asked, advice)))
        return
    print(plain([*table(outcomes, asked, advice), [], *picture(outcomes, asked, advice), []]))
    print(sentence(outcomes, advice))


def _fitting(model: LoadedModel, chosen: list[tuple[str, DecodeSettings]]) -> list[tuple[str, DecodeSettings]]:
    """The settings that a model supports: for a causal model the causal ones, or its default settings."""
    if not model.causal:
        return chosen
    own = model.decode_settings({}, 0)
    return [one for one in chosen if one[1].decoder == own.decoder] or [(label(own), own)]


def parse(decoders: str, settings: Sequence[str]) -> Iterator[tuple[str, DecodeSettings]]:
    """A label and settings for each: decoders by name, and grids such as `decoder=topk k=4,8 temperature=0.7,1`.

    Raises TdiffError where one is not known or takes no such value.
    """
    names = [name.strip() for name in decoders.split(",") if name.strip()]
    grids = [*(f"decoder={name}" for name in names), *settings] or list(_USUAL)
    seen: dict[DecodeSettings, None] = {}
    for grid in grids:
        axes: list[list[tuple[str, Any]]] = []
        for name, values in assignments(grid.split(), "--settings"):
            axes.append([(name, decode_value(name, value)) for value in values.split(",")])
        for combination in itertools.product(*axes):
            made = DecodeSettings(**dict(combination))
            if made not in seen:
                seen[made] = None
                yield label(made), made


def label(settings: DecodeSettings) -> str:
    """The decoder, and what is not as usual."""
    usual = DecodeSettings(decoder=settings.decoder, remask=settings.remask)
    parts = [settings.decoder]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        own = field.name == "remask" and settings.decoder == "remdm"
        if field.name not in ("decoder", "seed") and (own or value != getattr(usual, field.name)):
            parts.append(f"{field.name.replace('_', '-')} {value:g}" if not isinstance(value, str) else value)
    if settings.decoder == "confidence" and settings.threshold == usual.threshold:
        parts.insert(1, f"threshold {settings.threshold:g}")
    return " ".join(parts)


def _heads(task: Task) -> tuple[str, ...]:
    second = ("2nd judge",) if task.qualities[0].second is not None else ()
    return ("", "", "calls", "tok/call", "tok/s", "judge", *second, "distinct", "words", "copied")


def _rows(outcomes: Sequence[Outcome], task: Task) -> list[tuple[str, ...]]:
    from tdiff.core.evaluation.quality import estimate

    def figures(qualities: Sequence[Any], copied: str) -> tuple[str, ...]:
        nats, distinct, words = (
            estimate([getattr(quality, name) for quality in qualities]) for name in ("nats", "distinct", "words")
        )
        asked = [quality.second for quality in qualities if quality.second is not None]
        second = [estimate(asked)] if asked else []
        return (
            *(f"{one.mean:.3f} ±{one.half:.3f}" for one in (nats, *second, distinct)),
            f"{words.mean:.1%} ±{100 * words.half:.1f}",
            f"{len(copied)}",
        )

    rows = [("", "real text", "", "", "", *figures(task.qualities, task.copied))]
    for letter, one in zip(_LETTERS, outcomes, strict=False):
        speed = (f"{one.calls:.1f}", f"{one.tokens_a_call:.2f}", f"{one.tokens / one.seconds:,.0f}")
        rows.append((letter, one.contender.label, *speed, *figures(one.qualities, one.copied)))
    return rows


def table(outcomes: Sequence[Outcome], task: Task, advice: Advice) -> list[Line]:
    """A row for each, real text first; * for those as good as the best, > for the one to take."""
    rows = [_heads(task), *_rows(outcomes, task)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines: list[Line] = []
    for number, row in enumerate(rows, -2):
        mark = ">" if number == advice.taken else "*" if number in advice.equal else " "
        cells = [f"{row[0]:<{widths[0]}}", f"{row[1]:<{widths[1]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append([(f"{mark} " + "  ".join(cells).rstrip(), "bold" if number == advice.taken else "")])
    return lines


def picture(outcomes: Sequence[Outcome], task: Task, advice: Advice, width: int = 72, height: int = 14) -> list[Line]:
    """Shortfall (up) against model calls (right): lower left is better. The front is in brackets."""
    from tdiff.core.evaluation.compare import shortfall
    from tdiff.draw.axes import Scale, scale, tick_labels, ticks

    calls, far = [one.calls for one in outcomes], [shortfall(one, task) for one in outcomes]
    x, y = scale(min(calls), max(calls), True), scale(0.0, max(far), False)
    cells = [[" "] * width for _ in range(height)]

    def place(on: Scale, value: float, size: int) -> int:
        return round(min(1.0, max(0.0, on.share(value))) * (size - 1))

    for n in sorted(range(len(outcomes)), key=lambda n: n in advice.front):
        column, row = 1 + place(x, calls[n], width - 2), height - 1 - place(y, far[n], height)
        marked = f"[{_LETTERS[n]}]" if n in advice.front else f" {_LETTERS[n]} "
        for k, character in enumerate(marked, -1):
            if 0 <= column + k < width and (character != " " or k == 0):
                cells[row][column + k] = character
    values = ticks(y, 0.3)
    labels = {height - 1 - place(y, v, height): text for v, text in zip(values, tick_labels(y, values), strict=True)}
    left = max(map(len, labels.values()), default=0)
    lines: list[Line] = [[("shortfall from real text (0: as good); [ ]: none is both better and cheaper", "")]]
    for row, one in enumerate(cells):
        lines.append([(f"{labels.get(row, ''):>{left}}{'┤' if row in labels else '│'}{''.join(one)}".rstrip(), "")])
    ends = f"{min(calls):.0f}", f"{max(calls):.0f} model calls a text"
    lines.append(
        [(" " * left + "└" + f"{ends[0]} {'─' * max(1, width - len(ends[0]) - len(ends[1]) - 2)} {ends[1]}", "")]
    )
    return lines


def sentence(outcomes: Sequence[Outcome], advice: Advice) -> str:
    """What to do, in one sentence."""
    best, taken = outcomes[advice.best], outcomes[advice.taken]
    if advice.taken == advice.best:
        return (
            f"Take {taken.contender.label}: it is nearest to real text, and no cheaper one is shown to be as good "
            f"({taken.calls:.0f} model calls a text)."
        )
    return (
        f"Take {taken.contender.label}: {taken.calls:.0f} model calls a text, as good as "
        f"{best.contender.label}, which takes {best.calls:.0f}."
    )


def data(outcomes: Sequence[Outcome], task: Task, advice: Advice) -> dict[str, Any]:
    """All of it, for a program."""
    from tdiff.core.evaluation.compare import shortfall
    from tdiff.core.evaluation.quality import estimate

    def measures(qualities: Sequence[Any], copied: str) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for name in ("nats", "second", "distinct", "words"):
            if getattr(qualities[0], name) is None:
                continue
            found = estimate([getattr(quality, name) for quality in qualities])
            told[name] = round(found.mean, 6)
            told[f"{name}_half_95"] = round(found.half, 6)
        return told | {"copied": len(copied), "copied_text": copied}

    rows = []
    for n, one in enumerate(outcomes):
        difference = advice.differences[n]
        against = {
            name: {
                "mean": round(getattr(difference, name).mean, 6),
                "half_95": round(getattr(difference, name).half, 6),
            }
            for name in ("distance", "distinct", "words")
        }
        speed = {
            "calls": round(one.calls, 4),
            "forced": round(one.forced, 4),
            "tokens_a_call": round(one.tokens_a_call, 4),
            "tokens_per_second": round(one.tokens / one.seconds, 2),
        }
        rows.append(
            {"label": one.contender.label, "model": one.contender.model.name}
            | {"settings": dataclasses.asdict(one.contender.settings)}
            | speed
            | measures(one.qualities, one.copied)
            | {"shortfall": round(shortfall(one, task), 4), "against_best": against, "texts": one.texts}
            | {"equal": n in advice.equal, "front": n in advice.front}
        )
    real = measures(task.qualities, task.copied) | {"texts": task.real}
    return {"prompts": task.prompts, "real": real, "outcomes": rows, "best": advice.best, "taken": advice.taken,
            "advice": sentence(outcomes, advice)}  # fmt: skip


def report(outcomes: Sequence[Outcome], task: Task, advice: Advice, shown: int = 12) -> str:
    """The same as a page of HTML that needs nothing else, with texts side by side."""
    from html import escape

    heads = "".join(f"<th>{escape(head)}</th>" for head in _heads(task))
    body = ""
    for number, row in enumerate(_rows(outcomes, task), -1):
        kind = "taken" if number == advice.taken else "equal" if number in advice.equal else ""
        body += f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n"
    texts = ""
    for n, prompt in enumerate(task.prompts[:shown]):
        columns = [("real text", task.real[n]), *((one.contender.label, one.texts[n]) for one in outcomes)]
        cells = "".join(
            f"<div><h3>{escape(visible(head))}</h3><pre><b>{escape(visible(prompt))}</b>"
            f"{escape(visible(text[len(prompt) :]))}</pre></div>"
            for head, text in columns
        )
        texts += f'<section class="texts">{cells}</section>\n'
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>tdiff compare</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; max-width: 100rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #8884; }}
td:nth-child(2) {{ text-align: left; }}
.taken {{ font-weight: bold; background: #8f82; }} .equal {{ background: #8f81; }}
.texts {{ display: flex; gap: 1rem; overflow-x: auto; }} .texts div {{ flex: 0 0 22rem; }}
pre {{ white-space: pre-wrap; font-size: 13px; }} h3 {{ font-size: 13px; margin: 1rem 0 0; }}
</style>
<h1>Ways of generating, side by side</h1>
<p>{escape(sentence(outcomes, advice))}</p>
<table><tr>{heads}</tr>
{body}</table>
<pre>{escape(plain(picture(outcomes, task, advice)))}</pre>
<h2>The same prompts</h2>
{texts}</html>
"""
