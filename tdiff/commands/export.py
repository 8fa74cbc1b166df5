"""`tdiff export`: a recorded generation as an animation, a player or a still; the curves of a run as a picture."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff import formatting
from tdiff.commands.progress import progress_bar
from tdiff.config.options import argument, option
from tdiff.draw import render
from tdiff.draw.palettes import BACKGROUNDS, PALETTES, Theme
from tdiff.errors import TdiffError, unknown
from tdiff.files import write_atomic

if TYPE_CHECKING:
    from tdiff.report.export.frames import Frame

EXAMPLES = (
    "tdiff export trace.jsonl trace.gif",
    "tdiff export confidence.jsonl race.html --beside entropy.jsonl",
    "tdiff export trace.jsonl step-20.png --step 20 --theme light",
    "tdiff export tale curve.svg --strips --captions",
)
FORMATS = ("cast", "gif", "html", "mp4", "png", "svg", "txt")
"""What a generation becomes."""
CURVE_FORMATS = ("csv", "png", "svg", "txt")
"""What the curves of a run become."""
_STILLS = ("svg", "png", "txt")
_FPS, _HOLD, _SMOOTH = 10.0, 3.0, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    trace: str = argument(
        help="A trace, as `tdiff generate --trace` writes it; or a run or a log, for its curves.", metavar="TRACE"
    )
    out: str = argument(help="The file to write: its ending names the format.", metavar="OUT")
    beside: str | None = option(
        None, "A second trace, beside the first and in step with it; or a second run.", metavar="TRACE"
    )
    sample: int | None = option(None, "Which generation of a file with several.", shown="default: 1")
    step: int | None = option(None, "A still after this step, for svg, png and txt.", shown="default: the last")
    size: str | None = option(
        None,
        "Columns and rows.",
        metavar="COLUMNSxROWS",
        shown="default: 80 and as many as needed, at most 24",
    )
    fps: float | None = option(None, "Steps shown in a second.", shown=f"default: {_FPS:g}")
    hold: float | None = option(None, "Seconds for which the finished text stays.", shown=f"default: {_HOLD:g}")
    theme: str = option("dark", "Background.", choices=BACKGROUNDS)
    palette: str | None = option(
        None, "Colours of confidence.", choices=tuple(PALETTES), shown="default: as the background"
    )
    title: str = option("", "Text before the counters, or above the curves.")
    smooth: float | None = option(
        None,
        "Weight of the past in the training curve, 0 to 0.999.",
        panel="Curves of a run",
        shown=f"default: {_SMOOTH:g}",
    )
    strips: bool = option(False, "Learning rate and gradient norm, below its loss.", panel="Curves of a run")
    captions: bool = option(False, "What the run generated on the way, below its curves.", panel="Curves of a run")


def run(request: Request) -> None:
    """Write the file. Raises TdiffError for a trace, a format or a file that does not fit."""
    out, draws = Path(request.out), not _is_trace(request.trace)
    ending = _check(request, out, CURVE_FORMATS if draws else FORMATS)
    _check_effects(request, ending, draws)
    if request.beside is not None and _is_trace(request.beside) == draws:
        kinds = ("a run or a log", "a trace") if draws else ("a trace", "a run or a log")
        raise TdiffError(f"{request.trace!r} is {kinds[0]}, --beside {request.beside!r} {kinds[1]}: name two of a kind")
    data = _curves(request, ending) if draws else _exported(request, ending)
    try:
        write_atomic(out, data)
    except OSError as error:
        raise TdiffError(f"{request.out!r} cannot be written: {error.strerror}") from None
    print(f"saved {request.out} ({formatting.size(len(data))})", file=sys.stderr)


def _is_trace(word: str) -> bool:
    """Whether the word names a file of generations rather than a run or a log."""
    from tdiff.protocol import events
    from tdiff.protocol.trace import TraceHeader

    path = Path(word)
    if not path.is_file():
        return word.endswith(".jsonl") and not path.exists()
    with path.open(encoding="utf-8", errors="replace") as file:
        return isinstance(events.parse(file.readline(1 << 20)), TraceHeader)


def _check(request: Request, out: Path, formats: tuple[str, ...]) -> str:
    """The format of the file; raises TdiffError for options that do not fit it, before anything is drawn."""
    ending = out.suffix.lower().removeprefix(".")
    if ending not in formats:
        raise unknown("format", ending or out.name, formats)
    if out.is_dir() or not out.parent.is_dir():
        raise TdiffError(f"{request.out!r} cannot be written: name a file in an existing folder")
    for name, value, low, high in (("fps", request.fps, 0.1, 60), ("hold", request.hold, 0.1, 600)):
        if value is not None and not low <= value <= high:
            raise TdiffError(f"--{name} must be {low:g} to {high:g}; got {value:g}")
    if request.smooth is not None and not 0 <= request.smooth <= 0.999:
        raise TdiffError(f"--smooth must be 0 to 0.999; got {request.smooth:g}")
    if request.step is not None and (ending not in _STILLS or request.step < 0):
        raise TdiffError(
            f"--step N makes a still after step N, 0 or more, as {', '.join(_STILLS)}; got {request.step} and {ending}"
        )
    if request.palette in BACKGROUNDS and request.palette != request.theme:
        raise TdiffError(
            f"--palette {request.palette} cannot be read on the {request.theme} background: "
            f"choose {request.theme} or traffic, or --theme {request.palette}"
        )
    return ending


def _check_effects(request: Request, ending: str, draws: bool) -> None:
    """Raise TdiffError for options that change nothing in this file."""
    if draws:
        useless, what = ["step", "fps", "hold", "sample", "palette"], "the curves of a run"
        if ending == "csv":
            useless, what = [*useless, "size", "smooth", "captions", "strips"], "a table of values"
    else:
        useless, what = ["smooth", "captions", "strips"], "a generation"
        if ending == "html":
            useless, what = [*useless, "size"], "a player of a generation"
        elif request.step is not None or ending in ("png", "txt"):
            useless, what = [*useless, "fps", "hold"], "a still"
        if ending == "txt" and request.palette:
            useless, what = ["palette"], "plain text"
    values = {name: getattr(request, name) for name in useless}
    given = [f"--{name}" for name, value in values.items() if value is not None and value is not False]
    if given:
        leave = "leave it out" if len(given) == 1 else "leave them out"
        raise TdiffError(f"{' and '.join(given)} {'has' if len(given) == 1 else 'have'} no effect on {what}: {leave}")


def _exported(request: Request, ending: str) -> bytes:
    from tdiff.report.export import cast, frames, html, svg, timeline

    if ending in ("gif", "mp4", "png"):
        _check_pillow()
    theme = Theme(palette=request.palette or request.theme, background=request.theme)
    words = [word for word in (request.trace, request.beside) if word is not None]
    recorded = [timeline.read(Path(word), 1 if request.sample is None else request.sample) for word in words]
    fps, hold = request.fps or _FPS, request.hold or _HOLD
    title = request.title or timeline.footer(recorded[0])
    if ending == "html":
        return html.document(recorded, theme, fps, hold, title).encode()
    size = frames.parse_size(request.size) if request.size else frames.default_size(recorded, theme)
    if request.step is not None or ending in ("png", "txt"):
        most = max(recording.steps for recording in recorded)
        if request.step is not None and request.step > most:
            raise TdiffError(f"--step {request.step}: the last step of the trace is {most}")
        moments = [timeline.moment_at(recorded, request.step)]
    else:
        moments = timeline.moments(recorded, fps, hold)
    drawn = list(frames.frames(recorded, moments, size, theme, request.title, legend=ending != "txt"))
    if ending == "txt":
        return _plain(drawn[0])
    if ending == "svg":
        return svg.document(drawn, size, theme.background, title).encode()
    if ending == "cast":
        return "".join(cast.lines(drawn, size, title)).encode()
    from tdiff.report.export import raster

    if ending == "png":
        return raster.png(drawn[0], size, theme.background)
    with progress_bar("drawing") as progress:
        report = progress or (lambda done, total: None)
        if ending == "gif":
            return raster.gif(drawn, size, theme.background, report)
        return raster.mp4(drawn, size, theme.background, fps, report)


def _curves(request: Request, ending: str) -> bytes:
    from tdiff.report.export import curve, frames, lines_svg

    if ending == "png":
        _check_pillow()
    runs = curve.read([word for word in (request.trace, request.beside) if word is not None])
    if ending == "csv":
        return curve.table(runs).encode()
    theme = Theme(palette=request.theme, background=request.theme)
    size = frames.parse_size(request.size) if request.size else frames.Size(frames.WIDTH, frames.MAX_HEIGHT)
    smooth = _SMOOTH if request.smooth is None else request.smooth
    drawing = curve.Drawing(size, theme, smooth, request.title, request.captions, request.strips)
    if ending == "txt":
        return _plain(curve.frame(runs, drawing))
    if ending == "svg":
        return lines_svg.document(curve.lines(runs, drawing), request.title or runs[0].name).encode()
    from tdiff.report.export import lines_png

    return lines_png.document(curve.lines(runs, drawing))


def _plain(frame: Frame) -> bytes:
    """The text of a frame, without blanks at the ends of its rows."""
    return "".join(f"{row.rstrip()}\n" for row in render.plain(frame.lines).split("\n")).encode()


def _check_pillow() -> None:
    if importlib.util.find_spec("PIL") is None:
        raise TdiffError(
            "gif, mp4 and png require the package Pillow: pip install 'tdiff-lm[export]', or, where pipx installed "
            "tdiff, pipx inject tdiff-lm pillow; svg, html, cast and txt require none"
        )
