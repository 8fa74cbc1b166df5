"""`tdiff generate`: a generation as a resolving canvas, as text, as JSON, or as its trace."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tdiff import ranks
from tdiff.commands.generate_request import (
    Request,
    as_data,
    check_input,
    check_sizes,
    decoding_options,
    in_plain_spelling,
    load,
    print_note,
    print_notes,
    print_respelled,
    print_unknown,
    requested_template,
    text_end,
    with_length,
)
from tdiff.config.decoding import DecodeSettings, label
from tdiff.errors import TdiffError
from tdiff.protocol import template as templates
from tdiff.visible import json_line, visible, visible_line

if TYPE_CHECKING:
    from tdiff.core.models.base import LoadedModel
    from tdiff.draw.palettes import Theme
    from tdiff.draw.render import Line
    from tdiff.protocol.canvas import Canvas
    from tdiff.protocol.trace import TraceEnd, TraceLine

_BATCH = 64
"""Samples per batch, without a live canvas."""
_FRAME = 1 / 24
"""Seconds between frames, at least."""

EXAMPLES = (
    'tdiff generate "The dragon said" --decoder confidence --threshold 0.7 --seed 7',
    'tdiff generate --template "To be, or ____ to be: that is the {12}"',
    'tdiff generate --decoder "remdm remask=loop eta=0.02" --steps 68 --temperature 0.4',
    "tdiff generate --input prompts.jsonl --output texts.jsonl",
)


def run(request: Request) -> None:
    """Generate for a file of prompts, or for the one on the command line."""
    if request.input is None and request.output is None:
        generate(request)
        return
    if request.input is None:
        raise TdiffError("--output requires --input FILE; for one text, redirect stdout")
    if request.stream or request.trace or request.detail:
        raise TdiffError("--stream, --trace and --detail show one text; --input writes many")

    from tdiff.commands import generate_file

    generate_file.generate(request, request.input, request.output)


def generate(request: Request) -> None:
    """Generate and print. The seed goes to stderr, so that any text can be reproduced."""
    ranks.check_alone("generate without --input")
    request = with_length(request)
    as_json, stream, trace = request.as_json, request.stream, request.trace
    check_sizes(request)
    if as_json and stream:
        raise TdiffError(
            "--json and --stream both take stdout: choose one (--trace FILE saves the trace beside --json)"
        )
    if request.detail and not (stream or trace):
        raise TdiffError("--detail adds to a trace: it requires --trace FILE or --stream")
    check_input(request)
    if request.template is not None:
        templates.parse(request.template)  # before a model is loaded
    import secrets

    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    options = decoding_options(request)

    from tdiff.core.diffusion.generate import generation_metadata, narrate

    model = load(request)
    settings = model.decode_settings(options, seed)
    written = in_plain_spelling(model, request)
    if written != request:
        print_respelled(model, "the prompt")
    request = written
    print_unknown(model, request)
    template = requested_template(model, request)
    prompts = _prompts(model, request, seed, template)
    with ExitStack() as stack:
        file = stack.enter_context(_open(trace)) if trace else None
        print_notes(settings, request.options)
        if stream or file or (sys.stdout.isatty() and not as_json):
            for row, prompt in enumerate(prompts):
                lines = narrate(
                    model,
                    prompt,
                    settings,
                    length=request.length,
                    row=row,
                    template=template,
                    until=request.until,
                    detail=request.detail,
                )
                recorded = _recorded(lines, [f for f in (file, sys.stdout if stream else None) if f])
                watched = sys.stdout.isatty() and not as_json and not stream
                fills = not request.length and request.template is None
                end = _watch(recorded, settings, fills=fills) if watched else _last(recorded)
                if not stream:
                    metadata = generation_metadata(model, settings, _most(request, template, end), row, request.until)
                    _print(end, prompt, metadata, as_json, end.seconds, end.tokens)
        else:
            _batches(model, prompts, request, settings, template)


def _open(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise TdiffError(f"the trace file {str(path)!r} cannot be written: {error.strerror}") from None


def _prompts(model: LoadedModel, request: Request, seed: int, template: templates.Template) -> list[str]:
    """The prompt of each sample. Raises TdiffError, before anything is written, for one that the model refuses."""
    from tdiff.core.diffusion.endings import check_ending
    from tdiff.core.diffusion.generate import canvas, default_prompt, template_canvas

    if template:
        start = template_canvas(model, template)
        if request.until:
            check_ending(start[0], model.spec.mask_id)
        return [templates.shown(template)] * request.samples
    prompt = request.prompt
    prompts = [default_prompt(model, seed, row) if prompt is None else prompt for row in range(request.samples)]
    for prompt in dict.fromkeys(prompts):
        canvas(model, [prompt], request.length)
    return prompts


def _batches(
    model: LoadedModel,
    prompts: list[str],
    request: Request,
    settings: DecodeSettings,
    template: templates.Template,
) -> None:
    """Print all samples; those whose prompts have the same number of tokens are one batch."""
    from tdiff.core.diffusion.generate import canvas, generation_metadata, prompt_ids, resolve, template_canvas
    from tdiff.core.memory import Portions

    length, until = request.length, request.until
    sizes = [0 if template else len(prompt_ids(model, prompt)) for prompt in prompts]
    ends: dict[int, tuple[TraceEnd, float, int]] = {}
    printed = 0
    groups: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(size, []).append(row)
    chunks = [rows[i : i + _BATCH] for rows in groups.values() for i in range(0, len(rows), _BATCH)]
    portions = Portions(model.device.type, "a text of that length", "texts", print_note)

    def texts_of(rows: Sequence[int]) -> dict[int, tuple[TraceEnd, float, int]]:
        start_time = time.perf_counter()
        texts = [prompts[row] for row in rows]
        start = template_canvas(model, template).repeat(len(rows), 1) if template else canvas(model, texts, length)
        step = deque(resolve(model, start, settings, rows, until=until), maxlen=1).pop()
        seconds = time.perf_counter() - start_time
        written = sum(part for part in template if isinstance(part, int))
        tokens = written or int(step.tokens.size(1)) - sizes[rows[0]]
        batch = [text_end(model, step, i, tokens, seconds, start[i], until) for i in range(len(rows))]
        batch_tokens = sum(end.tokens for end in batch)
        return {row: (end, seconds, batch_tokens) for row, end in zip(rows, batch, strict=True)}

    for rows in sorted(chunks):
        for finished in portions(rows, texts_of):
            ends |= finished
        while printed in ends:
            end, seconds, batch_tokens = ends.pop(printed)
            metadata = generation_metadata(model, settings, _most(request, template, end), printed, until)
            _print(end, prompts[printed], metadata, request.as_json, seconds, batch_tokens)
            printed += 1


def _most(request: Request, template: templates.Template, end: TraceEnd) -> int:
    """The number of tokens that were requested; with --until a text may have fewer."""
    if not request.until:
        return end.tokens
    return sum(part for part in template if isinstance(part, int)) or request.length


def _print(
    end: TraceEnd, prompt: str, metadata: dict[str, Any], as_json: bool, seconds: float, batch_tokens: int
) -> None:
    """Print one text; its batch of `batch_tokens` generated tokens took `seconds`."""
    if not as_json:
        print(("\n" if metadata["row"] else "") + visible(end.text), flush=True)
        return
    print(json_line(as_data(end, prompt, metadata, seconds, batch_tokens)), flush=True)


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
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from tdiff.draw import render
    from tdiff.protocol.canvas import Canvas
    from tdiff.protocol.trace import TraceEnd, TraceHeader
    from tdiff.terminal import detect
    from tdiff.terminal.console import console

    terminal = detect.this_terminal(ask=False)
    output = console(terminal)
    header = next(lines)
    assert isinstance(header, TraceHeader), "a trace begins with its header"
    canvas = Canvas.begin(header)
    decoder = visible_line(label(settings.decoder, dataclasses.asdict(settings)))
    note = f"up to the context length: {canvas.maskable:,} tokens; --length N generates N" if fills else ""
    start_time = drawn = time.perf_counter()

    def frame() -> Group:
        status = render.status(canvas, decoder, header.steps, time.perf_counter() - start_time)
        notes = [text for text in (status, note) if text]
        rows = _frame_lines(canvas, terminal.theme, notes, max(1, output.width - 1), output.height)
        return Group(*(Text.assemble(*row, no_wrap=True, overflow="crop") for row in rows))

    with Live(frame(), console=output, transient=True, auto_refresh=False) as live:
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


def _frame_lines(canvas: Canvas, theme: Theme, notes: Sequence[str], width: int, height: int) -> list[Line]:
    """The rows of a canvas that fit into a window, the notes and the legend."""
    from tdiff.draw import render
    from tdiff.draw.canvas_layout import lay_out
    from tdiff.protocol.canvas import MASKED

    room = max(1, height - 3 - len(notes))
    layout = lay_out(render.drawn_texts(canvas, theme), width)
    # If not all rows fit, follow the first masked position.
    first = layout.row[canvas.confidence.index(MASKED)] if canvas.left else 0
    start = max(0, min(first - room // 2, len(layout.rows) - room))
    shown = [render.row_line(canvas, row, theme) for row in layout.rows[start : start + room]]
    dim: list[Line] = [[(note, "dim")] for note in notes]
    return [render.in_ascii(row, theme) for row in (*shown, [("", "")], *dim, render.legend(theme, width))]
