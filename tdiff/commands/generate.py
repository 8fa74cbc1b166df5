"""`tdiff generate`: a generation as a resolving canvas, as text, as JSON, or as its trace."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tdiff.config.decoding import PRODUCTS, DecodeSettings, label, no_effect
from tdiff.config.options import DEVICES, argument, decoding, option
from tdiff.errors import TdiffError
from tdiff.protocol import template as templates
from tdiff.schema import MOST
from tdiff.visible import json_line, visible, visible_line

if TYPE_CHECKING:
    from tdiff.core.models.base import LoadedModel
    from tdiff.protocol.trace import TraceEnd, TraceLine

_BATCH = 64
"""Samples per batch, without a live canvas."""
_FRAME = 1 / 24
"""Seconds between frames, at least."""


EXAMPLES = (
    'tdiff generate "KING RICHARD:" --decoder confidence --threshold 0.7 --seed 7',
    'tdiff generate --template "To be, or ____ to be: that is the {12}"',
    'tdiff generate --decoder "remdm remask=loop eta=0.02" --steps 68 --temperature 0.4',
    "tdiff generate --input prompts.jsonl --output texts.jsonl",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    prompt: str | None = argument(None, "Text to continue; without it, a default prompt of the model.")
    model: str = option(
        "shakespeare", "Model: a folder, a run, or a name on the Hugging Face hub.", panel="Input", complete="models"
    )
    length: int = option(
        0,
        "Tokens to generate (characters, for a character model).",
        panel="Input",
        shown="default: up to the context length",
    )
    template: str | None = option(
        None, 'Text with gaps to fill: underscores, or a length: "To be, or ____ {12}".', panel="Input"
    )
    prefix: str | None = option(None, "Text before a gap of --length tokens.", panel="Input")
    suffix: str | None = option(None, "Text after that gap.", panel="Input")
    input: str | None = option(
        None, "Read prompts and templates from FILE (JSON Lines): one text per line.", panel="Input", metavar="FILE"
    )
    kind: str | None = option(
        None, "Generate a text of this class, with a class-conditional model.", flag="--class", panel="Input"
    )
    guidance: float | None = option(
        None, "Classifier-free guidance scale (1: no guidance).", panel="Input", shown="default: 1"
    )
    samples: int = option(1, "Number of texts.", panel="Input")
    seed: int | None = option(None, "Seed, which reproduces a text.", panel="Input", shown="default: random")
    options: dict[str, Any] = decoding()
    """The fields of DecodeSettings that the user set."""
    output: Path | None = option(
        None, "Write the texts of --input to FILE. If FILE exists, resume it.", panel="Output", metavar="FILE"
    )
    as_json: bool = option(False, "Print one JSON object per text.", flag="--json", panel="Output")
    stream: bool = option(False, "Print the trace as JSON lines, step by step.", flag="--stream", panel="Output")
    trace: Path | None = option(None, "Save the trace.", panel="Output", metavar="FILE")
    device: str = option("auto", "Device.", choices=DEVICES, panel="Advanced")
    precision: str = option(
        "float32", "Precision of matrix products on CUDA; a CPU uses float32.", choices=PRODUCTS, panel="Advanced"
    )
    compile: bool = option(
        False, "Capture the model on CUDA: a slow first step, then fewer launches.", flag="--compile", panel="Advanced"
    )


def run(request: Request) -> None:
    """Generate for a file of prompts, or for the one on the command line."""
    if request.input is None and request.output is None:
        generate(request)
        return
    if request.input is None:
        raise TdiffError("--output requires --input FILE; for one text, redirect stdout")
    if request.stream or request.trace:
        raise TdiffError("--stream and --trace show one text; --input writes many")

    from tdiff.commands import generate_file

    generate_file.generate(request, request.input, request.output)


def generate(request: Request) -> None:
    """Generate and print. The seed goes to stderr, so that any text can be reproduced."""
    as_json, stream, trace = request.as_json, request.stream, request.trace
    check_sizes(request)
    if as_json and stream:
        raise TdiffError(
            "--json and --stream both take stdout: choose one (--trace FILE saves the trace beside --json)"
        )
    one_way(request)
    if request.template is not None:
        templates.parse(request.template)  # before a model is loaded
    import secrets

    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    DecodeSettings(**request.options)  # before a model is loaded

    from tdiff.core.diffusion.generate import narrate, told

    model = load(request)
    settings = model.decode_settings(request.options, seed)
    gaps = gaps_of(model, request)
    prompts = _prompts(model, request, seed, gaps)
    with ExitStack() as stack:
        file = stack.enter_context(_open(trace)) if trace else None
        say(settings, request.options)
        if stream or file or (sys.stdout.isatty() and not as_json):
            for row, prompt in enumerate(prompts):
                lines = narrate(model, prompt, settings, length=request.length, row=row, template=gaps)
                recorded = _recorded(lines, [f for f in (file, sys.stdout if stream else None) if f])
                watched = sys.stdout.isatty() and not as_json and not stream
                fills = not request.length and request.template is None
                end = _watch(recorded, settings, fills=fills) if watched else _last(recorded)
                if not stream:
                    metadata = told(model, settings, end.tokens, row)
                    _print(end, prompt, metadata, as_json, end.seconds, end.tokens)
        else:
            _batches(model, prompts, request.length, settings, as_json, gaps)


def say(settings: DecodeSettings, options: Mapping[str, Any]) -> None:
    """Print the seed, and the options that the decoder does not read, on stderr."""
    print(f"seed {settings.seed}", file=sys.stderr)
    for note in no_effect(settings.decoder, options):
        print(note, file=sys.stderr)
    sys.stderr.flush()


def check_sizes(request: Request) -> None:
    """Raises TdiffError for an invalid number of texts or tokens."""
    if request.samples < 1:
        raise TdiffError(f"--samples must be at least 1; got {request.samples}")
    if request.length < 0:
        raise TdiffError(f"--length must be at least 1, or 0 to write up to the context length; got {request.length}")
    if max(request.samples, request.length) > MOST:
        raise TdiffError(f"--samples and --length must be at most {MOST:,}")


def one_way(request: Request) -> None:
    """Raises TdiffError unless a prompt, a template, or a prefix and suffix, and no two of them, say what to write."""
    ends = request.prefix is not None or request.suffix is not None
    ways = {"a prompt": request.prompt is not None, "--template": request.template is not None}
    ways["--prefix and --suffix"] = ends
    used = [name for name, is_set in ways.items() if is_set]
    if len(used) > 1:
        raise TdiffError(f"set only one of {' and '.join(used)}")
    if request.template is not None and request.length:
        raise TdiffError(f"a template sets the length of its gaps: leave out --length {request.length}")


def gaps_of(model: LoadedModel, request: Request) -> templates.Template:
    """The requested text with gaps; empty for a prompt.

    The gap between prefix and suffix has the requested length, else the rest of the context length.
    """
    if request.template is not None:
        return templates.parse(request.template)
    if request.prefix is None and request.suffix is None:
        return ()
    from tdiff.core.diffusion.generate import filled

    ends = [request.prefix or "", request.suffix or ""]
    used = filled(model, templates.between(ends[0], 1, ends[1])).size(1) - 1
    window = model.spec.context
    if not request.length and used >= window:
        raise TdiffError(
            f"--prefix and --suffix have {used} tokens; the context length of {model.name} is {window}: "
            "set the number of tokens between them with --length"
        )
    return templates.between(ends[0], request.length or window - used, ends[1])


def load(request: Request) -> LoadedModel:
    """The requested model, conditioned on the requested class."""
    if request.kind is None and request.guidance is not None:
        raise TdiffError("--guidance requires --class")
    from tdiff.commands.progress import fetching
    from tdiff.core import devices
    from tdiff.core.diffusion.guidance import guided
    from tdiff.core.models.load import load_model

    device = devices.choose(request.device)
    with fetching(request.model) as progress:
        model = load_model(request.model, device, progress)
    devices.lower_precision(model.network, request.precision, device)
    if request.compile:
        from tdiff.core.diffusion.capture import capture

        if not capture(model.network, device):
            note = "--compile has no effect here: it captures tdiff's own models on CUDA"
            print(f"tdiff: {note}; this is {visible_line(model.name)} on {device}", file=sys.stderr)
    if request.kind is None:
        return model
    return guided(model, request.kind, 1.0 if request.guidance is None else request.guidance)


def _open(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as why:
        raise TdiffError(f"the trace file {str(path)!r} cannot be written: {why.strerror}") from None


def _prompts(model: LoadedModel, request: Request, seed: int, gaps: templates.Template) -> list[str]:
    """The prompt of each sample. Raises TdiffError, before anything is written, for one that the model refuses."""
    from tdiff.core.diffusion.generate import canvas, filled, opening

    if gaps:
        filled(model, gaps)
        return [templates.shown(gaps)] * request.samples
    prompt = request.prompt
    prompts = [opening(model, seed, row) if prompt is None else prompt for row in range(request.samples)]
    for prompt in dict.fromkeys(prompts):
        canvas(model, [prompt], request.length)
    return prompts


def _batches(
    model: LoadedModel,
    prompts: list[str],
    length: int,
    settings: DecodeSettings,
    as_json: bool,
    gaps: templates.Template,
) -> None:
    """Print all samples; those whose prompts have the same number of tokens are one batch."""
    from tdiff.core.diffusion.generate import generate as steps_of
    from tdiff.core.diffusion.generate import prompt_ids, told
    from tdiff.protocol.trace import TraceEnd

    sizes = [0 if gaps else len(prompt_ids(model, prompt)) for prompt in prompts]
    ends: dict[int, tuple[TraceEnd, float, int]] = {}
    printed = 0
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(size, []).append(row)
    chunks = [rows[i : i + _BATCH] for rows in groups.values() for i in range(0, len(rows), _BATCH)]
    for rows in sorted(chunks):
        start_time = time.perf_counter()
        steps = steps_of(model, [prompts[row] for row in rows], settings, length=length, rows=rows, template=gaps)
        step = deque(steps, maxlen=1).pop()
        seconds = time.perf_counter() - start_time
        written = sum(part for part in gaps if isinstance(part, int))
        tokens = written or int(step.tokens.size(1)) - sizes[rows[0]]
        for i, row in enumerate(rows):
            text = model.tokenizer.decode(step.tokens[i])
            calls, forced = int(step.calls[i]), int(step.forced[i])
            end = TraceEnd(text=text, model_calls=calls, forced=forced, tokens=tokens, seconds=round(seconds, 4))
            ends[row] = end, seconds, tokens * len(rows)
        while printed in ends:
            end, seconds, together = ends.pop(printed)
            metadata = told(model, settings, end.tokens, printed)
            _print(end, prompts[printed], metadata, as_json, seconds, together)
            printed += 1


def _print(end: TraceEnd, prompt: str, metadata: dict[str, Any], as_json: bool, seconds: float, together: int) -> None:
    """Print one text; `together` tokens were generated in `seconds`, with the other texts of its batch."""
    if not as_json:
        print(("\n" if metadata["row"] else "") + visible(end.text), flush=True)
        return
    print(json_line(as_data(end, prompt, metadata, seconds, together)), flush=True)


def as_data(end: TraceEnd, prompt: str, metadata: dict[str, Any], seconds: float, together: int) -> dict[str, Any]:
    """A text with its metadata; `together` tokens were generated in `seconds`."""
    return {
        "text": end.text,
        "prompt": prompt,
        "decoder": metadata["decoder"],
        "settings": {name: value for name, value in metadata.items() if name not in ("decoder", "seed")},
        "seed": metadata["seed"],
        "model_calls": end.model_calls,
        "forced": end.forced,
        "tokens": end.tokens,
        "seconds": round(seconds, 4),
        "tokens_per_second": round(together / seconds, 1) if seconds else None,
    }


def _recorded(lines: Iterator[TraceLine], files: Sequence[IO[str]]) -> Iterator[TraceLine]:
    """The lines as they come; each is written to the files and flushed first."""
    from tdiff.protocol.events import to_line

    for line in lines:
        for file in files:
            file.write(to_line(line))
            file.flush()
        yield line


def _last(lines: Iterator[TraceLine]) -> TraceEnd:
    from tdiff.protocol.trace import TraceEnd

    line = deque(lines, maxlen=1).pop()
    assert isinstance(line, TraceEnd), "a trace ends with its text"
    return line


def _watch(lines: Iterator[TraceLine], settings: DecodeSettings, *, fills: bool) -> TraceEnd:
    """Draw the canvas in place while it resolves, then clear it: the caller prints the text.

    `fills`: no length was requested and the text fills the model's context, which may take long; a note says so.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from tdiff.draw import render
    from tdiff.draw.layout import layout
    from tdiff.protocol.canvas import MASKED, Canvas
    from tdiff.protocol.trace import TraceEnd, TraceHeader
    from tdiff.terminal import detect

    terminal = detect.this_terminal(ask=False)
    theme, without_colour = terminal.look, terminal.colour == "none"
    system = detect.COLOUR_SYSTEMS[terminal.colour]
    console = Console(highlight=False, color_system=system, no_color=without_colour)  # type: ignore[arg-type]
    header = next(lines)
    assert isinstance(header, TraceHeader), "a trace begins with its header"
    canvas, cap, rule = (
        Canvas.begin(header),
        header.steps,
        visible_line(label(settings.decoder, dataclasses.asdict(settings))),
    )
    start_time = drawn = time.perf_counter()
    note = f"up to the context length: {canvas.maskable:,} tokens; --length N writes N" if fills else ""

    def frame() -> Group:
        width, room = max(1, console.width - 1), max(1, console.height - 4 - bool(note))
        laid = layout(render.drawn_texts(canvas, theme), width)
        # Where not all rows fit, follow the first place that is still masked.
        first = laid.row[canvas.confidence.index(MASKED)] if canvas.left else 0
        start = max(0, min(first - room // 2, len(laid.rows) - room))
        shown = [render.row_line(canvas, row, theme) for row in laid.rows[start : start + room]]
        counters = render.status(canvas, rule, cap, time.perf_counter() - start_time)
        notes: list[render.Line] = [[(text, "dim")] for text in (counters, note) if text]
        rows = [*shown, [("", "")], *notes, render.legend(theme, width)]
        in_ascii = (render.in_ascii(row, theme) for row in rows)
        return Group(*(Text.assemble(*row, no_wrap=True, overflow="crop") for row in in_ascii))

    with Live(frame(), console=console, transient=True, auto_refresh=False) as live:
        live.refresh()
        for line in lines:
            if isinstance(line, TraceEnd):
                return line
            canvas.apply(line)
            now = time.perf_counter()
            if now - drawn >= _FRAME or canvas.left == 0:
                live.update(frame(), refresh=True)
                drawn = now
    raise AssertionError("a trace ends with its text")
