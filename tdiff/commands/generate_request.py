"""The request of `tdiff generate`, and what its two forms share: one text from options, or a file of inputs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.config.decoding import PRODUCTS, DecodeSettings, no_effect
from tdiff.config.decoding_presets import chosen_preset, preset_help
from tdiff.config.options import DEVICES, MODEL_HELP, argument, decoding, option
from tdiff.errors import TdiffError
from tdiff.protocol import template as templates
from tdiff.protocol.endings import ENDINGS, MOST_TOKENS
from tdiff.runs.lookup import DEFAULT_MODEL
from tdiff.schema import MOST
from tdiff.visible import visible, visible_line

if TYPE_CHECKING:
    from torch import Tensor

    from tdiff.core.diffusion.denoise import Step
    from tdiff.core.models.base import LoadedModel
    from tdiff.protocol.trace import TraceEnd

_MOST_NAMED = 8
"""Characters that a message names."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    prompt: str | None = argument(None, "Text to continue; without it, a default prompt of the model.")
    model: str = option(DEFAULT_MODEL, MODEL_HELP, panel="Input", complete="models")
    length: int = option(
        0,
        "Tokens to generate (characters, for a character model).",
        panel="Input",
        shown="default: up to the context length",
    )
    until: str = option(
        "",
        "Stop at the end of a `paragraph` (a line break) or a `story` (a blank line), and leave out what follows; "
        f"without --length after {MOST_TOKENS:,} tokens at the latest.",
        panel="Input",
        choices=("", *ENDINGS),
        metavar="ENDING",
    )
    template: str | None = option(
        None, "Text with gaps to fill: ____ (a token per underscore) or {12} (12 tokens).", panel="Input"
    )
    prefix: str | None = option(None, "Text before a gap of --length tokens.", panel="Input")
    suffix: str | None = option(None, "Text after a gap of --length tokens.", panel="Input")
    input: str | None = option(
        None,
        "Read prompts or templates from FILE (JSON Lines), and generate a text for each line.",
        panel="Input",
        metavar="FILE",
    )
    kind: str | None = option(
        None,
        "Generate a text of this class, with a class-conditional model.",
        flag="--class",
        panel="Input",
        metavar="CLASS",
    )
    guidance: float | None = option(
        None, "Scale of classifier-free guidance for --class; 1: no guidance.", panel="Input", shown="default: 1"
    )
    samples: int = option(1, "Number of texts.", panel="Input")
    seed: int | None = option(None, "Seed; the same seed gives the same text.", panel="Input", shown="default: random")
    fast: bool = option(False, preset_help("fast"), flag="--fast", panel="Decoding")
    best: bool = option(False, preset_help("best"), flag="--best", panel="Decoding")
    options: dict[str, Any] = decoding()
    """The fields of DecodeSettings that the user set."""
    output: Path | None = option(
        None, "Write the texts of --input to FILE. If FILE exists, resume it.", panel="Output", metavar="FILE"
    )
    as_json: bool = option(False, "Print one JSON object per text.", flag="--json", panel="Output")
    stream: bool = option(False, "Print the trace as JSON lines, step by step.", flag="--stream", panel="Output")
    trace: Path | None = option(None, "Save the trace, the JSON lines of --stream.", panel="Output", metavar="FILE")
    detail: bool = option(
        False,
        "Add the predictions at masked positions to the trace of --trace or --stream, for the lens of `tdiff watch`.",
        panel="Output",
    )
    device: str = option("auto", "Device.", choices=DEVICES, panel="Advanced")
    precision: str = option(
        "float32", "Precision of matrix products on CUDA; a CPU uses float32.", choices=PRODUCTS, panel="Advanced"
    )
    compile: bool = option(
        False, "Capture the model on CUDA: a slow first step, then fewer launches.", flag="--compile", panel="Advanced"
    )


def decoding_options(request: Request) -> dict[str, Any]:
    """The requested fields of DecodeSettings, with the preset. Raises TdiffError for invalid ones, before a model is
    loaded.
    """
    options = chosen_preset(request.fast, request.best, request.options) | request.options
    DecodeSettings(**options)
    return options


def with_length(request: Request) -> Request:
    """The request with the length that an ending has at most, where it sets none."""
    needs = request.until and not request.length and request.template is None
    return dataclasses.replace(request, length=MOST_TOKENS) if needs else request


def check_sizes(request: Request) -> None:
    """Raises TdiffError for an invalid number of texts or tokens."""
    if request.samples < 1:
        raise TdiffError(f"--samples must be at least 1; got {request.samples}")
    if request.length < 0:
        raise TdiffError(f"--length must be at least 1, or 0 to write up to the context length; got {request.length}")
    if max(request.samples, request.length) > MOST:
        raise TdiffError(f"--samples and --length must be at most {MOST:,}")


def check_input(request: Request) -> None:
    """Raise TdiffError if two of prompt, template, and prefix or suffix are set, or a template and a length."""
    ends = request.prefix is not None or request.suffix is not None
    ways = {"a prompt": request.prompt is not None, "--template": request.template is not None}
    ways["--prefix and --suffix"] = ends
    used = [name for name, is_set in ways.items() if is_set]
    if len(used) > 1:
        raise TdiffError(f"set only one of {' and '.join(used)}")
    if request.template is not None and request.length:
        raise TdiffError(f"a template sets the length of its gaps: leave out --length {request.length}")


def load(request: Request) -> LoadedModel:
    """The requested model, conditioned on the requested class."""
    if request.kind is None and request.guidance is not None:
        raise TdiffError("--guidance requires --class")
    from tdiff.commands.progress import load_model
    from tdiff.core import devices
    from tdiff.core.diffusion.guidance import guided

    device = devices.choose(request.device)
    model = load_model(request.model, device)
    devices.lower_precision(model.network, request.precision, device)
    if request.compile:
        from tdiff.core.diffusion.capture import capture

        if not capture(model.network, device):
            note = "--compile has no effect here: it captures tdiff's own models on CUDA"
            print(f"tdiff: {note}; this is {visible_line(model.name)} on {device}", file=sys.stderr)
    if request.kind is None:
        return model
    return guided(model, request.kind, 1.0 if request.guidance is None else request.guidance)


def in_plain_spelling(model: LoadedModel, request: Request) -> Request:
    """The request with typographic characters that the model's vocabulary lacks in plain spelling."""
    from tdiff.core.models.spelling import plain_spelling

    texts = {name: getattr(request, name) for name in ("prompt", "template", "prefix", "suffix")}
    changed: dict[str, Any] = {name: plain_spelling(model, text) for name, text in texts.items() if text is not None}
    return dataclasses.replace(request, **changed)


def print_respelled(model: LoadedModel, where: str) -> None:
    """Say that plain characters replace those of `where` that the model has no token for."""
    name = visible_line(model.name)
    print(f"{name} has no token for some characters of {where}; plain ones replace them", file=sys.stderr)


def print_unknown(model: LoadedModel, request: Request) -> None:
    """Name the characters of the requested texts that the vocabulary lacks: the model cannot tell them apart."""
    unknown_id = getattr(model.tokenizer, "unknown_id", None)
    if unknown_id is None:  # then they are refused
        return
    given: list[str | int | None] = [request.prompt, request.prefix, request.suffix]
    given += templates.parse(request.template) if request.template is not None else ()
    text = "".join(part for part in given if isinstance(part, str))  # without gaps
    found = [
        repr(c) for c in dict.fromkeys(text) if not c.isspace() and unknown_id in model.tokenizer.encode(c).tolist()
    ]
    if found:
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        named = visible_line(", ".join(found[:_MOST_NAMED]))
        print(f"{visible_line(model.name)} has no token for {named}{more}; it reads each as �", file=sys.stderr)


def requested_template(model: LoadedModel, request: Request) -> templates.Template:
    """The requested template; empty for a prompt.

    The gap between prefix and suffix has the requested length, else the rest of the context length.
    """
    if request.template is not None:
        return templates.parse(request.template)
    if request.prefix is None and request.suffix is None:
        return ()
    from tdiff.core.diffusion.generate import template_canvas

    ends = [request.prefix or "", request.suffix or ""]
    used = template_canvas(model, templates.between(ends[0], 1, ends[1])).size(1) - 1
    window = model.spec.context
    if not request.length and used >= window:
        raise TdiffError(
            f"--prefix and --suffix have {used} tokens; the context length of {model.name} is {window}: "
            "set the number of tokens between them with --length"
        )
    return templates.between(ends[0], request.length or window - used, ends[1])


def print_notes(settings: DecodeSettings, options: Mapping[str, Any]) -> None:
    """Print the seed, and the options that the decoder does not read, on stderr."""
    print(f"seed {settings.seed}", file=sys.stderr)
    for note in no_effect(settings.decoder, options):
        print(note, file=sys.stderr)
    sys.stderr.flush()


def print_note(text: str) -> None:
    """Print a message on stderr."""
    print(visible(text), file=sys.stderr, flush=True)


def text_end(
    model: LoadedModel, step: Step, n: int, tokens: int, seconds: float, start: Tensor | None = None, until: str = ""
) -> TraceEnd:
    """The text of row `n` of a batch after its last step; `tokens` of it were generated, in `seconds`.

    With `until`, the text up to its end; `start` (L,) int64 is the row's canvas before generation.
    """
    from tdiff.protocol.trace import TraceEnd

    text = model.tokenizer.decode(step.tokens[n])
    if until and start is not None:
        from tdiff.core.diffusion.endings import ended_text

        ended = ended_text(model, start, step.tokens[n].tolist(), until)
        text, tokens = ended.text, ended.tokens
    return TraceEnd(
        text=text,
        model_calls=int(step.calls[n]),
        forced=int(step.forced[n]),
        tokens=tokens,
        seconds=round(seconds, 4),
    )


def as_data(end: TraceEnd, prompt: str, metadata: dict[str, Any], seconds: float, batch_tokens: int) -> dict[str, Any]:
    """A text with its metadata, as --json prints it; its batch of `batch_tokens` took `seconds`."""
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
        "tokens_per_second": round(batch_tokens / seconds, 1) if seconds else None,
    }
