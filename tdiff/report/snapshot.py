"""What is known of a watched thing at one moment: as plain text for a person, and as data for a program.

Both are pure functions of a story and the time; nothing here reads, waits or prints.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len, set_cell_size

from tdiff import formatting
from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.render import plain
from tdiff.protocol.events import TraceEnd, TraceHeader, Verdicts
from tdiff.series.series import Series
from tdiff.visible import finite, visible_line
from tdiff.watch.alerts import Notice
from tdiff.watch.run_state import RunState

SMOOTHING = 0.6
"""Share of the past in what is called smoothed."""
_CURVE_ROWS = 9
_NOTICES, _SAMPLE_LINES, _LOG_LINES, _OTHERS = 5, 6, 6, 8
_LABEL = 12
_DULL = ("_runtime", "_per_second")
"""How names of metrics end that a person need not see."""
_TOLD = ("train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second", "eval/loss", "eval/nats_per_char")
_OF_VERDICTS = ("eval/accuracy", "eval/calibration_error")
_UNITS = {"gpu/load": "{:.0f}%", "gpu/memory": "{:.1f} GiB", "gpu/temperature": "{:.0f} °C", "gpu/power": "{:.0f} W"}


def data(story: RunState, now: float) -> dict[str, Any]:
    """The story at `now` (s since the epoch), ready for `json_line`: what is not known or not finite is None.

    Seconds, shares of 0..1, losses as the source gives them. Looks for a stall and a death too.
    """
    story.check(now)
    told: dict[str, Any] = {
        "name": story.name,
        "format": story.format,
        "state": story.state(now),
        "doing": story.doing or None,
        "reason": story.failure or None,
        "step": story.step,
        "total": story.total,
        "progress": story.progress,
        "eta_seconds": story.left(now),
        "train": _train(story),
        "eval": _eval(story),
        "verdicts": _verdicts(story),
        "best": _best(story),
        "gpu": {name.removeprefix("gpu/"): _last(story, name) for name in story.metrics if name.startswith("gpu/")},
        "metrics": {name: _last(story, name) for name in _others(story)},
        "alerts": [asdict(notice) for notice in story.alerts],
        "sample": _sample(story),
        "last_record_age_seconds": _age(story, now),
        "resets": story.resets,
    }
    clean: dict[str, Any] = finite(told)
    return clean


def text(stories: Sequence[RunState], now: float, width: int = 80, *, ascii: bool = False) -> str:
    """The stories at `now` (s since the epoch), one below the other, in lines of at most `width` cells."""
    blocks = []
    for story in stories:
        story.check(now)
        lines = [
            line if cell_len(line) <= width else set_cell_size(line, width) for line in _lines(story, now, width, ascii)
        ]
        lines = [line.rstrip() for line in lines]
        blocks.append("\n".join(ascii_text(line, True) if ascii else line for line in lines))
    return "\n\n".join(blocks)


def _lines(story: RunState, now: float, width: int, ascii: bool) -> Iterator[str]:
    state = f"{story.state(now)}, {story.doing}" if story.doing and story.ended is None else story.state(now)
    right = f"{state} · {story.format}" if story.format else state
    yield f"{story.name}{' ' * max(2, width - cell_len(story.name) - cell_len(right))}{right}"
    for label, parts in _figures(story, now):
        if shown := [part for part in parts if part]:
            yield from _flow(label, shown, width)
    yield from _curve(story, width, ascii)
    if story.alerts:
        yield ""
        newest = story.alerts[-_NOTICES:]
        today = all(n.time is not None and time.localtime(n.time)[:3] == time.localtime(now)[:3] for n in newest)
        yield from (_notice(notice, "%H:%M" if today else "%Y-%m-%d %H:%M") for notice in newest)
        if (more := len(story.alerts) - _NOTICES) > 0:
            yield f"({more} older)"
    if (sample := _sample(story)) is not None:
        yield ""
        yield f"sample at step {sample['step']:,}:"
        lines = [line.replace("\t", "    ") for line in sample["text"].split("\n")]
        yield from (f"  {line}" for line in lines[:_SAMPLE_LINES])
        if len(lines) > _SAMPLE_LINES:
            yield f"  ({len(lines) - _SAMPLE_LINES} more lines)"
    elif story.format == "log":
        yield ""
        yield from list(story.log)[-_LOG_LINES:]


def _flow(label: str, parts: list[str], width: int) -> Iterator[str]:
    """The parts of a figure, on as many lines as they take."""
    line = f"{label:<{_LABEL}}{parts[0]}"
    for part in parts[1:]:
        if cell_len(line) + cell_len(part) + 3 > width:
            yield line
            line = f"{'':<{_LABEL}}{part}"
        else:
            line += f" · {part}"
    yield line


def _figures(story: RunState, now: float) -> Iterator[tuple[str, list[str]]]:
    """(label, parts) of each line; a part that is not known is empty."""
    age, eta = _age(story, now), story.left(now)
    count = f"{story.step:,}" + (f" of {story.total:,}" if story.total else "")
    percent = "" if story.progress is None else f"{story.progress:.1%}"
    to_go = "" if eta is None else f"ETA {formatting.duration(eta)}"
    last = "" if age is None else f"last record {formatting.age(age)} ago" if age >= 1 else "last record just now"
    if story.format not in ("", "log") or story.total:
        yield "step", [count, percent, to_go, last]
    elif last:
        yield "", [last]
    if (start := story.start) is not None:
        size = f"{formatting.short(start.parameters)} parameters on {visible_line(start.corpus)}"
        yield "run", [size, visible_line(start.device)]
    train, held, best = _train(story), _eval(story), _best(story)
    if "loss" in train:
        tokens = f"{formatting.short(train['tokens'])} tokens" if train.get("tokens") else ""
        yield "train", [formatting.loss(train["loss"]), f"smoothed {formatting.loss(train['smoothed'])}", tokens]
    if held:
        interval = held.get("interval_95")
        sure = f"95%: {formatting.loss(interval[0])} to {formatting.loss(interval[1])}" if interval else ""
        chars = held.get("nats_per_char")
        same = chars is None or chars == held["loss"]
        unit = "nats a token" if story.format == "tdiff" else ""
        yield (
            "validation",
            [formatting.loss(held["loss"]), unit, sure, "" if same else f"{formatting.loss(chars)} a character"],
        )
    if (event := story.verdicts) is not None:
        yield "verdicts", verdict_parts(event)
    if best:
        what = " of training" if best["metric"] != "eval/loss" else ""
        yield "best", [f"{formatting.loss(best['loss'])}{what} at step {best['step']:,.0f}"]
    speed = train.get("tokens_per_second")
    yield (
        "pace",
        [
            f"lr {formatting.short(train['lr'])}" if train.get("lr") is not None else "",
            f"gradient norm {formatting.short(train['grad_norm'])}" if "grad_norm" in train else "",
            f"{speed:,.0f} tokens/s" if speed is not None and math.isfinite(speed) else "",
        ],
    )
    yield "GPU", [form.format(value) for name, form in _UNITS.items() if (value := _last(story, name)) is not None]
    told = [f"{name} {formatting.short(_last(story, name))}" for name in _others(story) if not name.endswith(_DULL)]
    yield "also", [*told[:_OTHERS], f"{len(told) - _OTHERS} more" if len(told) > _OTHERS else ""]
    if not story.format:
        yield "", ["nothing has come yet"]


def _curve(story: RunState, width: int, ascii: bool) -> Iterator[str]:
    from tdiff.draw.chart import draw
    from tdiff.draw.curves import Curve, View

    curves = [
        Curve(series, "", label)
        for name, label in (("train/loss", "train"), ("eval/loss", "validation"))
        if (series := story.metrics.get(name)) is not None and len(series.steps) > 1
    ]
    if curves and width >= 20:
        yield ""
        yield from plain(draw(curves, View(smoothing=SMOOTHING), width, _CURVE_ROWS, ascii=ascii, colour=False)).split(
            "\n"
        )


def _notice(notice: Notice, form: str) -> str:
    when = "" if notice.time is None else f"{time.strftime(form, time.localtime(notice.time))}  "
    return f"{when}{notice.what}: {notice.text} (step {notice.step:,})"


def _train(story: RunState) -> dict[str, Any]:
    values = {
        name.removeprefix("train/"): _last(story, name)
        for name in story.metrics
        if name in _TOLD and name.startswith("train/")
    }
    loss = story.metrics.get("train/loss")
    if loss is not None:
        smooth = loss.smoothed(SMOOTHING)
        values["smoothed"] = smooth[-1] if smooth else None
    if story.tokens.last is not None:
        values["tokens"] = story.tokens.last[1]
    return values


def _eval(story: RunState) -> dict[str, Any]:
    held = story.metrics.get("eval/loss")
    if held is None:
        return {}
    values: dict[str, Any] = {"loss": _last(story, "eval/loss"), "step": int(held.last[0]) if held.last else None}
    if (chars := _last(story, "eval/nats_per_char")) is not None:
        values["nats_per_char"] = chars
    if (event := story.evaluation) is not None:
        values |= {"interval_95": _interval(event.interval_95), "tokens": event.tokens, "whole": event.final}
    return values


def _verdicts(story: RunState) -> dict[str, Any] | None:
    """What the newest record of verdicts tells; None where there is none."""
    event = story.verdicts
    if event is None:
        return None
    told = {name: getattr(event, name) for name in ("step", "texts", "accuracy", "ece", "temperature")}
    return told | {"interval_95": _interval(event.interval_95)}


def verdict_parts(event: Verdicts) -> list[str]:
    """How well the classes of held-out texts were told, in short parts."""
    interval = _interval(event.interval_95)
    return [
        f"{formatting.percent(event.accuracy)} right of {event.texts:,} texts",
        f"95%: {interval[0]:.1%} to {interval[1]:.1%}" if interval else "",
        f"calibration error {formatting.short(event.ece)}",
        f"temperature {formatting.short(event.temperature)}",
    ]


def _interval(ends: Sequence[Any]) -> list[float] | None:
    """The two ends of an interval; None where they are none, as a record's may be."""
    sure = len(ends) == 2 and all(isinstance(end, (int, float)) for end in ends)
    return list(ends) if sure else None


def _best(story: RunState) -> dict[str, Any]:
    for name in ("eval/loss", "train/loss"):
        series = story.metrics.get(name)
        if series is not None and series.best is not None:
            return {"metric": name, "loss": series.best[0], "step": series.best[1]}
    return {}


def _sample(story: RunState) -> dict[str, Any] | None:
    if story.samples:
        newest = story.samples[-1]
        return {"step": newest.step, "time": newest.time, "prompt": newest.prompt, "text": newest.text}
    header, end = (
        next((line for line in reversed(story.trace) if isinstance(line, kind)), None)
        for kind in (TraceHeader, TraceEnd)
    )
    if not isinstance(header, TraceHeader) or not isinstance(end, TraceEnd):
        return None
    return {"step": story.step, "time": None, "prompt": header.prompt, "text": end.text}


def _others(story: RunState) -> list[str]:
    """Metrics that have no place of their own."""
    own = _TOLD if story.verdicts is None else (*_TOLD, *_OF_VERDICTS)
    return [name for name in story.metrics if name not in own and not name.startswith(("gpu/", "mask/"))]


def _last(story: RunState, name: str) -> float | None:
    """The newest value of a metric; NaN where that was not finite, None where there is none."""
    series = story.metrics.get(name)
    return None if series is None else _newest(series)


def _newest(series: Series) -> float | None:
    broken, last = series.broken, series.last
    if broken and (last is None or broken[-1] > last[0]):
        return math.nan
    return None if last is None else last[1]


def _age(story: RunState, now: float) -> float | None:
    return None if story.last_time is None else max(0.0, now - story.last_time)
