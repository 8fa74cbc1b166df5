"""A snapshot of a watched run: as plain text for people, and as data for programs.

Both are pure functions of a run state and the time; nothing here reads, waits or prints.
"""

from __future__ import annotations

import math
import re
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from tdiff import formatting
from tdiff.draw.ascii_only import ascii_text
from tdiff.draw.render import plain
from tdiff.protocol.events import Verdicts
from tdiff.protocol.metrics import METRICS, value_text
from tdiff.protocol.trace import TraceEnd, TraceHeader
from tdiff.report.flow import flow
from tdiff.series.series import Series
from tdiff.visible import finite, visible_line
from tdiff.watch.alerts import Notice
from tdiff.watch.attempts import Attempt
from tdiff.watch.run_state import RunState

if TYPE_CHECKING:
    from tdiff.watch.devices.reading import Devices, RunProcesses

SMOOTHING = 0.6
"""The weight of the past in smoothed values."""
_CURVE_ROWS = 9
_MAX_NOTICES, _MAX_SAMPLE_LINES, _MAX_LOG_LINES, _MAX_OTHERS = 5, 6, 6, 8
_HIDDEN_SUFFIXES = ("_runtime", "_per_second")
"""Suffixes of metrics that the text omits."""
_SHOWN = ("train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second", "eval/loss", "eval/nats_per_char")
_CLASSIFICATION_METRICS = ("eval/accuracy", "eval/calibration_error")


def data(run: RunState, now: float, devices: tuple[Devices, RunProcesses] | None = None) -> dict[str, Any]:
    """The run at `now` (s since the epoch), ready for `json_line`: unknown and non-finite values are None.

    `devices`: the GPUs of its host, and its processes there; None if they were not read. Units: seconds, bytes of
    memory, shares in 0..1, losses as the source reports them. Also checks for a stall and a death.
    """
    run.check(now)
    values: dict[str, Any] = {
        "name": run.name,
        "format": run.format,
        "state": run.state(now),
        "doing": run.doing or None,
        "reason": run.failure or None,
        "failed": run.state(now) == "failed",
        "points": _points(run, "train/loss"),
        "eval_points": _points(run, "eval/loss"),
        "note": run.note or None,
        "step": run.step,
        "total": run.total,
        "progress": run.progress,
        "eta_seconds": run.left(now),
        "train": _train(run),
        "eval": _eval(run),
        "verdicts": _classification(run),
        "best": _best(run),
        "gpu": {name.removeprefix("gpu/"): _last(run, name) for name in run.metrics if name.startswith("gpu/")},
        **_devices(devices),
        "metrics": {name: _last(run, name) for name in _others(run)},
        "alerts": [asdict(notice) for notice in run.alerts],
        "sample": _sample(run),
        "last_record_age_seconds": _age(run, now),
        "resets": run.resets,
        "restarts": run.attempts.count,
        "attempts": [_attempt(attempt) for attempt in run.attempts.stored],
        "source": run.source or None,
        "job": _job(run, now),
    }
    finite_values: dict[str, Any] = finite(values)
    return finite_values


def text(
    runs: Sequence[RunState],
    now: float,
    width: int = 80,
    *,
    ascii: bool = False,
    devices: Sequence[tuple[Devices, RunProcesses]] = (),
) -> str:
    """The runs at `now` (s since the epoch), one below the other, in lines of at most `width` columns.

    `devices`: for each run the GPUs of its host, and its processes there; empty if they were not read.
    """
    if devices:
        from tdiff.report.devices import device_lines
    blocks = []
    for number, run in enumerate(runs):
        run.check(now)
        under = device_lines(*devices[number], width) if number < len(devices) else []
        lines = [
            line if cell_len(line) <= width else set_cell_size(line, width)
            for line in _lines(run, now, width, ascii, under)
        ]
        lines = [line.rstrip() for line in lines]
        blocks.append("\n".join(ascii_text(line, True) if ascii else line for line in lines))
    return "\n\n".join(blocks)


def _lines(run: RunState, now: float, width: int, ascii: bool, under: Sequence[str]) -> Iterator[str]:
    state = f"{run.state(now)}, {run.doing}" if run.doing and run.ended is None else run.state(now)
    right = f"{state} · {run.format}" if run.format else state
    yield f"{run.name}{' ' * max(2, width - cell_len(run.name) - cell_len(right))}{right}"
    for label, parts in (*_origin(run, now), *_figures(run, now)):
        if shown := [part for part in parts if part]:
            yield from flow(label, shown, width)
    yield from under
    yield from _curve(run, width, ascii)
    if run.note:
        yield ""
        yield from textwrap.wrap(run.note, width)
    if run.alerts:
        yield ""
        newest = run.alerts[-_MAX_NOTICES:]
        today = all(n.time is not None and time.localtime(n.time)[:3] == time.localtime(now)[:3] for n in newest)
        for notice in newest:
            line = _notice(notice, "%H:%M" if today else "%Y-%m-%d %H:%M")
            yield from textwrap.wrap(line, width, subsequent_indent="       ", break_on_hyphens=False)
        if (older := len(run.alerts) - _MAX_NOTICES) > 0:
            yield f"({older} older)"
    if (sample := _sample(run)) is not None:
        yield ""
        yield f"sample at step {sample['step']:,}:"
        lines = [line.replace("\t", "    ") for line in sample["text"].split("\n")]
        yield from (f"  {line}" for line in lines[:_MAX_SAMPLE_LINES])
        if len(lines) > _MAX_SAMPLE_LINES:
            yield f"  ({len(lines) - _MAX_SAMPLE_LINES} more lines)"
    elif run.format == "log":
        yield ""
        yield from list(run.log)[-_MAX_LOG_LINES:]


def _origin(run: RunState, now: float) -> Iterator[tuple[str, list[str]]]:
    """(label, parts) of the lines about the file that is read, and the job that writes it."""
    if run.source:
        yield "source", re.split("[;,] ", run.source)
    if run.job is not None:
        yield "job", [run.job.line(now), run.job.shortfall(run.left(now), now)]


def _figures(run: RunState, now: float) -> Iterator[tuple[str, list[str]]]:
    """(label, parts) of each line; unknown parts are empty."""
    age, eta = _age(run, now), run.left(now)
    count = f"{run.step:,}" + (f" of {run.total:,}" if run.total else "")
    percent = "" if run.progress is None else f"{run.progress:.1%}"
    to_go = "" if eta is None else f"ETA {formatting.duration(eta)}"
    last = "" if age is None else f"last record {formatting.age(age)} ago" if age >= 1 else "last record just now"
    if run.format not in ("", "log") or run.total:
        yield "step", [count, percent, to_go, last]
    elif last:
        yield "", [last]
    if (start := run.start) is not None:
        size = f"{formatting.short(start.parameters)} parameters on {visible_line(start.corpus)}"
        yield "run", [size, visible_line(start.device)]
    train, evaluation, best = _train(run), _eval(run), _best(run)
    if "loss" in train:
        tokens = f"{formatting.short(train['tokens'])} tokens" if train.get("tokens") else ""
        loss = METRICS["train/loss"]
        yield "train", [loss.text(train["loss"]), f"smoothed {loss.text(train['smoothed'])}", tokens]
    if evaluation:
        yield "validation", _validation_parts(run, evaluation)
    if (event := run.verdicts) is not None:
        yield "classifier", classification_parts(event)
    if run.attempts.stored:
        yield "attempts", [str(run.attempts), run.attempts.stored[-1].reason]
    if best:
        split = " of training" if best["metric"] != "eval/loss" else ""
        yield "best", [f"{METRICS[best['metric']].text(best['loss'])}{split} at step {best['step']:,.0f}"]
    rate, norm, speed = (METRICS[f"train/{name}"] for name in ("lr", "grad_norm", "tokens_per_second"))
    tokens_per_second = train.get("tokens_per_second")
    yield (
        "pace",
        [
            f"{rate.label} {rate.text(train['lr'])}" if train.get("lr") is not None else "",
            f"gradient norm {norm.text(train['grad_norm'])}" if "grad_norm" in train else "",
            speed.full_text(tokens_per_second) if math.isfinite(tokens_per_second or math.nan) else "",
        ],
    )
    gpu = [metric for name, metric in METRICS.items() if name.startswith("gpu/")]
    yield "GPU", [metric.full_text(value) for metric in gpu if (value := _last(run, metric.name)) is not None]
    others = [
        f"{name} {value_text(name, _last(run, name))}" for name in _others(run) if not name.endswith(_HIDDEN_SUFFIXES)
    ]
    yield "also", [*others[:_MAX_OTHERS], f"{len(others) - _MAX_OTHERS} more" if len(others) > _MAX_OTHERS else ""]
    if not run.format:
        yield "", ["no data yet"]


def _validation_parts(run: RunState, evaluation: Mapping[str, Any]) -> list[str]:
    interval, chars = evaluation.get("interval_95"), evaluation.get("nats_per_char")
    return [
        formatting.loss(evaluation["loss"]),
        "nats a token" if run.format == "tdiff" else "",
        f"95%: {formatting.loss(interval[0])} to {formatting.loss(interval[1])}" if interval else "",
        f"{formatting.loss(chars)} a character" if chars is not None and chars != evaluation["loss"] else "",
    ]


def _curve(run: RunState, width: int, ascii: bool) -> Iterator[str]:
    from tdiff.draw.chart import draw
    from tdiff.draw.curves import Curve, View

    curves = [
        Curve(series, "", label)
        for name, label in (("train/loss", "train"), ("eval/loss", "validation"))
        if (series := run.metrics.get(name)) is not None and len(series.steps) > 1
    ]
    if curves and width >= 20:
        yield ""
        yield from plain(draw(curves, View(smoothing=SMOOTHING), width, _CURVE_ROWS, ascii=ascii, colour=False)).split(
            "\n"
        )


def _notice(notice: Notice, time_format: str) -> str:
    date = "" if notice.time is None else f"{time.strftime(time_format, time.localtime(notice.time))}  "
    return f"{date}{notice.what}: {notice.text} (step {notice.step:,})"


def _attempt(attempt: Attempt) -> dict[str, Any]:
    """An earlier attempt; its newest steps are those that the restart at `restart_step` discarded."""
    return {
        "number": attempt.number,
        "restart_step": attempt.restart,
        "last_step": attempt.last_step,
        "loss": attempt.loss,
        "records": attempt.records,
        "time": attempt.time,
        "reason": attempt.reason or None,
    }


def _devices(devices: tuple[Devices, RunProcesses] | None) -> dict[str, Any]:
    if devices is None:
        return {"gpus": [], "gpus_problem": None, "processes": []}
    from tdiff.watch.devices.reading import as_data

    host, processes = devices
    return {
        "gpus": [as_data(gpu, processes) for gpu in host.gpus],
        "gpus_problem": host.problem or None,
        "processes": [asdict(process) for process in processes.processes],
    }


def _job(run: RunState, now: float) -> dict[str, Any] | None:
    """The scheduler's job; None if there is none, or if it is not known."""
    job = run.job
    if job is None:
        return None
    values = {name: getattr(job, name) or None for name in ("id", "name", "state", "reason", "nodes", "exit_code")}
    return values | {
        "limit_seconds": job.limit,
        "left_seconds": job.left(now),
        "starts": job.starts if job.waits else None,
    }


def _train(run: RunState) -> dict[str, Any]:
    values = {
        name.removeprefix("train/"): _last(run, name)
        for name in run.metrics
        if name in _SHOWN and name.startswith("train/")
    }
    loss = run.metrics.get("train/loss")
    if loss is not None:
        smooth = loss.smoothed(SMOOTHING)
        values["smoothed"] = smooth[-1] if smooth else None
    if run.tokens.last is not None:
        values["tokens"] = run.tokens.last[1]
    return values


def _eval(run: RunState) -> dict[str, Any]:
    loss = run.metrics.get("eval/loss")
    if loss is None:
        return {}
    values: dict[str, Any] = {"loss": _last(run, "eval/loss"), "step": int(loss.last[0]) if loss.last else None}
    if (chars := _last(run, "eval/nats_per_char")) is not None:
        values["nats_per_char"] = chars
    if (event := run.evaluation) is not None:
        values |= {"interval_95": _interval(event.interval_95), "tokens": event.tokens, "whole": event.final}
    return values


def _classification(run: RunState) -> dict[str, Any] | None:
    """The newest evaluation of the classifier; None if there is none."""
    event = run.verdicts
    if event is None:
        return None
    values = {name: getattr(event, name) for name in ("step", "texts", "accuracy", "ece", "temperature")}
    return values | {"interval_95": _interval(event.interval_95)}


def classification_parts(event: Verdicts) -> list[str]:
    """How well the model classified held-out texts, in short parts."""
    interval = _interval(event.interval_95)
    return [
        f"accuracy {formatting.percent(event.accuracy)} on {event.texts:,} texts",
        f"95%: {interval[0]:.1%} to {interval[1]:.1%}" if interval else "",
        f"calibration error {formatting.short(event.ece)}",
        f"temperature {formatting.short(event.temperature)}",
    ]


def _interval(ends: Sequence[Any]) -> list[float] | None:
    """The two ends of an interval; None if they are invalid, since a record may contain anything."""
    valid = len(ends) == 2 and all(isinstance(end, (int, float)) for end in ends)
    return list(ends) if valid else None


def _best(run: RunState) -> dict[str, Any]:
    for name in ("eval/loss", "train/loss"):
        series = run.metrics.get(name)
        if series is not None and series.best is not None:
            return {"metric": name, "loss": series.best[0], "step": series.best[1]}
    return {}


def _sample(run: RunState) -> dict[str, Any] | None:
    if run.samples:
        newest = run.samples[-1]
        return {"step": newest.step, "time": newest.time, "prompt": newest.prompt, "text": newest.text}
    header, end = (
        next((line for line in reversed(run.trace) if isinstance(line, kind)), None) for kind in (TraceHeader, TraceEnd)
    )
    if not isinstance(header, TraceHeader) or not isinstance(end, TraceEnd):
        return None
    return {"step": run.step, "time": None, "prompt": header.prompt, "text": end.text}


def _points(run: RunState, name: str) -> int:
    """How many finite values a metric has had."""
    series = run.metrics.get(name)
    return 0 if series is None else series.count


def _others(run: RunState) -> list[str]:
    """Metrics that no other line shows."""
    shown = _SHOWN if run.verdicts is None else (*_SHOWN, *_CLASSIFICATION_METRICS)
    return [name for name in run.metrics if name not in shown and not name.startswith(("gpu/", "mask/"))]


def _last(run: RunState, name: str) -> float | None:
    """The newest value of a metric; NaN if it was not finite, None if there is none."""
    series = run.metrics.get(name)
    return None if series is None else _newest(series)


def _newest(series: Series) -> float | None:
    broken, last = series.broken, series.last
    if broken and (last is None or broken[-1] > last[0]):
        return math.nan
    return None if last is None else last[1]


def _age(run: RunState, now: float) -> float | None:
    return None if run.last_time is None else max(0.0, now - run.last_time)
