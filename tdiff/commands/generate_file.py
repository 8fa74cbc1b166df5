"""`tdiff generate --input FILE`: a text for each line of a file, as JSON Lines that can be resumed.

The output is written in the order of the input. Finished lines stay: an interrupted command resumes where it stopped,
and a line that was invalid and has been corrected since is added at the end.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.commands import sharded
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
    requested_template,
    text_end,
    with_length,
)
from tdiff.commands.progress import progress_bar
from tdiff.commands.resumable import Saved, Skipped, check_names, check_settings, writer
from tdiff.config.decoding import DecodeSettings
from tdiff.errors import TdiffError
from tdiff.protocol import template as templates
from tdiff.schema import MOST

if TYPE_CHECKING:
    from torch import Tensor

    from tdiff.core.diffusion.denoise import Step
    from tdiff.core.models.base import LoadedModel

_BATCH = 64
"""Texts generated together, of one length."""
_AHEAD = 8 * _BATCH
"""Lines read together, so that enough have the same length."""
_FIELDS = ("prompt", "template", "prefix", "suffix", "length")
_SETTINGS = frozenset(field.name for field in fields(DecodeSettings))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input that the model can take."""

    number: int
    content: Any
    """Its content."""
    shown: str
    """Its prompt or template."""
    canvas: Tensor
    """(L,) int64."""
    respelled: bool = False
    """Whether plain characters replace some that the model has no token for."""


def generate(request: Request, source: str, output: Path | None) -> None:
    """Generate a text for each line of `source`, a file or `-`, to `output` or stdout.

    A line is a JSON object with prompt, template, or prefix and suffix, and perhaps a length; or a prompt as a string.
    Other fields are copied to the output. Invalid lines are reported by number and skipped; the exit code is 1 then.
    """
    request = with_length(request)
    check_sizes(request)
    if request.samples != 1:
        raise TdiffError("--input writes one text per line: repeat a line instead of using --samples")
    if any(value is not None for value in (request.prompt, request.template, request.prefix, request.suffix)):
        raise TdiffError("--input FILE has the prompts and templates: leave out the one on the command line")
    if output is not None:
        check_names(source, output)
    world = sharded.join(source, output)
    with world.together(), world.in_turn():
        lines = _read(source)
        options = decoding_options(request)
        done = Saved.read(output, _is_record, "tdiff generate --input")
        if output is not None:
            done.check_input({number: _parsed(text) for number, text in lines}, output)
        last = done.lines[-1] if done.lines else None
        model = load(request)
    first_seed: int = last["seed"] if last is not None else world.agreed(secrets.randbelow(2**31))
    settings = model.decode_settings(options, first_seed if request.seed is None else request.seed)
    if last is not None and output is not None:
        _check_settings(last, model, request, settings, output)
    todo = [(number, text) for number, text in lines if number not in done.numbers]
    skipped = Skipped(source)
    with ExitStack() as stack:
        write = writer(sys.stdout)
        if output is not None and world.leads:
            write = stack.enter_context(done.opened(output, len(done.numbers), len(lines), "texts"))
        if world.leads:
            print_notes(settings, request.options)
        progress = stack.enter_context(progress_bar("generating"))
        finished = len(lines) - len(todo)
        remaining, noted = iter(todo), False
        while chunk := list(islice(remaining, _AHEAD)):
            good, bad = _split(model, request, sharded.own(world, chunk))
            if not noted and (line := next((line for line in good if line.respelled), None)):
                noted = True
                print_respelled(model, f"line {line.number}, and perhaps of later ones")
            order = [number for number, _ in chunk]
            reasons, records = sharded.merged(world, order, bad, _texts(model, settings, good, request.until))
            for number, error in reasons:
                skipped.report(number, error)
            for record in records:
                write(record)
            finished += len(chunk)
            if progress:
                progress(finished, len(lines))
    sharded.leave()
    skipped.exit(len(lines), "lines")


def _split(
    model: LoadedModel, request: Request, lines: Sequence[tuple[int, str]]
) -> tuple[list[Line], list[tuple[int, str]]]:
    """The lines that the model can take, and the numbers of the others with their errors."""
    good, bad = list[Line](), list[tuple[int, str]]()
    for number, text in lines:
        try:
            good.append(_line(model, request, number, text))
        except TdiffError as error:
            bad.append((number, str(error)))
    return good, bad


def _read(source: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise TdiffError(f"the input {source!r} cannot be read: {error.strerror}") from None
    lines = [(n, line) for n, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1) if line.strip()]
    if not lines:
        raise TdiffError(f"the input {source!r} has no lines")
    return lines


def _parsed(text: str) -> Any:
    """The content of a line; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line(model: LoadedModel, request: Request, number: int, text: str) -> Line:
    """Parse a line. Raises TdiffError for an invalid line, or one that the model refuses."""
    from tdiff.core.diffusion.endings import check_ending
    from tdiff.core.diffusion.generate import canvas, template_canvas

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TdiffError(f"it is not JSON ({error})") from None
    entry = {"prompt": content} if isinstance(content, str) else content
    if not isinstance(entry, Mapping):
        raise TdiffError("a line must be a JSON object or string")
    for name in entry:
        if name.replace("-", "_") in _SETTINGS:
            raise TdiffError(f"{name} applies to all texts: set it with an option")
    values = {name: entry[name] for name in _FIELDS if entry.get(name) is not None}
    if not values.keys() - {"length"}:
        raise TdiffError("it has none of prompt, template, prefix and suffix")
    for name, value in values.items():
        if name == "length":
            if type(value) is not int or not 0 <= value <= MOST:
                raise TdiffError(f"length must be a whole number from 0 to {MOST:,}")
        elif not isinstance(value, str):
            raise TdiffError(f"{name} must be text")
        elif any("\ud800" <= c <= "\udfff" for c in value):
            raise TdiffError(f"{name} is not UTF-8")
    overrides: dict[str, Any] = ({"length": 0} if "template" in values else {}) | values
    line_request = replace(request, **overrides)
    check_input(line_request)
    written = in_plain_spelling(model, line_request)
    respelled, line_request = written != line_request, written
    template = requested_template(model, line_request)
    prompt = line_request.prompt or ""
    start = template_canvas(model, template) if template else canvas(model, [prompt], line_request.length)
    if request.until:
        check_ending(start[0], model.spec.mask_id)
    return Line(number, content, templates.shown(template) if template else prompt, start[0], respelled)


def _texts(model: LoadedModel, settings: DecodeSettings, lines: list[Line], until: str) -> Iterator[dict[str, Any]]:
    """The output for the lines, in their order; those of one length are generated together."""
    from tdiff.core.diffusion.generate import generation_metadata, resolve
    from tdiff.core.memory import Portions

    portions = Portions(model.device.type, "a text of that length", "texts", print_note)

    def generated(part: Sequence[Line]) -> tuple[Sequence[Line], Tensor, Step, float]:
        start_time = time.perf_counter()
        canvases, numbers = _stacked([line.canvas for line in part]), [line.number - 1 for line in part]
        step = deque(resolve(model, canvases, settings, numbers, until=until), maxlen=1).pop()
        return part, canvases, step, time.perf_counter() - start_time

    groups: dict[int, list[Line]] = {}
    for line in lines:
        groups.setdefault(len(line.canvas), []).append(line)
    records: dict[int, dict[str, Any]] = {}
    numbers = deque(line.number for line in lines)
    # Groups are in the order of their first lines, so that the next line to write is never far.
    for group in groups.values():
        batches = [group[i : i + _BATCH] for i in range(0, len(group), _BATCH)]
        for part, canvases, step, seconds in chain.from_iterable(portions(batch, generated) for batch in batches):
            written = (canvases == model.spec.mask_id).sum(1).tolist()
            ends = [text_end(model, step, n, written[n], seconds, canvases[n], until) for n in range(len(part))]
            tokens = sum(end.tokens for end in ends)
            for n, (line, end) in enumerate(zip(part, ends, strict=True)):
                metadata = generation_metadata(model, settings, written[n], line.number - 1, until)
                record = as_data(end, line.shown, metadata, seconds, tokens)
                records[line.number] = {"line": line.number, "input": line.content} | record
            while numbers and numbers[0] in records:
                yield records.pop(numbers.popleft())


def _stacked(canvases: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(canvases)


def _is_record(line: Any) -> bool:
    match line:
        case {"line": int(), "input": _, "seed": int(), "decoder": str(), "settings": dict(), "tokens": int()}:
            return True
    return False


def _check_settings(
    last: dict[str, Any], model: LoadedModel, request: Request, settings: DecodeSettings, output: Path
) -> None:
    """Raise TdiffError if the output was written with other settings, or another length, than requested now."""
    from tdiff.core.diffusion.generate import generation_metadata

    per_text = ("length", "row")
    now = {
        name: value
        for name, value in generation_metadata(model, settings, 0, 0, request.until).items()
        if name not in per_text
    }
    # An output of an earlier version lacks the settings that did not exist then.
    before = dataclasses.asdict(DecodeSettings()) | dict(last["settings"], decoder=last["decoder"], seed=last["seed"])
    check_settings({name: before.get(name) for name in now}, now, output)
    line = _line(model, request, last["line"], json.dumps(last["input"]))
    length = int((line.canvas == model.spec.mask_id).sum())
    if length != last["settings"].get("length", last["tokens"]):
        raise TdiffError(
            f"settings mismatch: {str(output)!r} was written with another --length: its line {last['line']} has "
            f"{last['tokens']} generated tokens, not {length}; use the same settings, or another --output"
        )
