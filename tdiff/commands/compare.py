"""`tdiff compare`: generate from the same prompts with several models or settings, and compare cost and quality."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.config.decoding import DecodeSettings, assignments, decode_value
from tdiff.config.options import DEVICES, argument, option
from tdiff.draw.render import plain
from tdiff.errors import TdiffError
from tdiff.report import comparison
from tdiff.report import html as pages
from tdiff.report.comparison import LETTERS
from tdiff.visible import json_line, visible_line

if TYPE_CHECKING:
    from tdiff.core.evaluation.compare import Contender, Outcome, Task
    from tdiff.core.evaluation.quality import Judge
    from tdiff.core.models.base import LoadedModel

_DEFAULT_GRIDS = (
    "decoder=confidence threshold=0.5,0.7,0.9",
    "decoder=schedule steps=32,64 temperature=0.7",
    "decoder=ancestral steps=64,128 temperature=0.7,1",
)
"""The grids to compare if the user sets none."""


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
    combinations = _combinations(request)

    from tdiff.commands.progress import fetching
    from tdiff.core import devices
    from tdiff.core.evaluation.causal_judge import CausalJudge
    from tdiff.core.evaluation.compare import Contender, advise, task
    from tdiff.core.evaluation.corpora import corpus_of
    from tdiff.core.evaluation.quality import Judge
    from tdiff.core.models.load import load_model

    device = devices.choose(request.device)
    models = []
    for name in request.models:
        with fetching(name) as progress:
            models.append(load_model(name, device, progress))
    corpus = corpus_of(models[0], request.data, request.text_field)
    parts = {"val": "tenth", "tuning": "tuning", None: models[0].origin.held_out}
    training, held_out = corpus.split(parts[request.split], models[0].origin.rows, models[0].origin.only)
    if not request.data and request.split == "tuning":
        _warn_of_training_text(models)
    causal_judge = None
    if request.judge is not None:
        with fetching(request.judge) as progress:
            causal_judge = CausalJudge(request.judge, device, progress)
    judge = Judge(training, causal_judge.nats if causal_judge else None)
    comparison_task = task(judge, held_out, request.prompts)
    contenders = [
        Contender(
            model,
            dataclasses.replace(settings, seed=request.seed),
            f"{visible_line(model.name)}: {label}" if len(models) > 1 else label,
        )
        for model in models
        for label, settings in _supported(model, combinations)
    ]
    outcomes = _outcomes(contenders, comparison_task, judge)
    advice = advise(outcomes, comparison_task)
    if request.html is not None:
        pages.save(request.html, comparison.page(outcomes, comparison_task, advice))
    if request.as_json:
        print(json_line(comparison.data(outcomes, comparison_task, advice)))
        return
    print(plain([*comparison.table(outcomes, comparison_task, advice), [], *comparison.picture(outcomes, advice), []]))
    print(comparison.sentence(outcomes, advice))


def _combinations(request: Request) -> list[tuple[str, DecodeSettings]]:
    """The decoding settings to compare, with their labels. Raises TdiffError for an invalid option."""
    if request.prompts < 2:
        raise TdiffError(f"--prompts must be at least 2, since a comparison needs two texts; got {request.prompts}")
    if request.split not in (None, "val", "tuning"):
        raise TdiffError(f"--split takes val or tuning; got {request.split!r}")
    combinations = list(parse(request.decoders, request.settings))
    if len(combinations) * len(request.models) > len(LETTERS):
        raise TdiffError(f"{len(combinations)} settings of {len(request.models)} models are more than {len(LETTERS)}")
    if request.html is not None and not request.html.parent.is_dir():
        raise TdiffError(f"the report {str(request.html)!r} cannot be written: {request.html.parent} is not a folder")
    return combinations


def _warn_of_training_text(models: Iterable[LoadedModel]) -> None:
    """Print a line for each model that was trained on the tuning part."""
    for model in models:
        if model.origin.held_out == "tenth":
            print(
                f"{visible_line(model.name)} was trained on the tuning part: use that part to choose its settings, "
                "not to compare it with other models",
                file=sys.stderr,
            )


def _outcomes(contenders: Sequence[Contender], comparison_task: Task, judge: Judge) -> list[Outcome]:
    """The texts and the cost of each contender."""
    from tdiff.commands.progress import progress_bar
    from tdiff.core.evaluation.compare import run as generate

    outcomes = []
    for n, contender in enumerate(contenders, 1):
        with progress_bar(f"{n}/{len(contenders)} {contender.label}") as bar:
            outcomes.append(generate(contender, comparison_task, judge, bar))
        if not sys.stderr.isatty():  # without a progress bar; the comparison may take an hour
            line = f"{n}/{len(contenders)} {contender.label}: {outcomes[-1].seconds:.0f} s"
            print(line, file=sys.stderr, flush=True)
    return outcomes


def _supported(model: LoadedModel, combinations: list[tuple[str, DecodeSettings]]) -> list[tuple[str, DecodeSettings]]:
    """The settings that a model supports: for a causal model the causal ones, or its default settings."""
    if not model.spec.causal:
        return combinations
    default = model.decode_settings({}, 0)
    return [pair for pair in combinations if pair[1].decoder == default.decoder] or [(label(default), default)]


def parse(decoders: str, settings: Sequence[str]) -> Iterator[tuple[str, DecodeSettings]]:
    """Yield a label and settings for each decoder by name, and for each combination of grids.

    A grid is text such as `decoder=topk k=4,8 temperature=0.7,1`. Raises TdiffError for an unknown decoder, an unknown
    setting or an invalid value.
    """
    names = [name.strip() for name in decoders.split(",") if name.strip()]
    grids = [*(f"decoder={name}" for name in names), *settings] or list(_DEFAULT_GRIDS)
    seen: dict[DecodeSettings, None] = {}
    for grid in grids:
        axes: list[list[tuple[str, Any]]] = []
        for name, values in assignments(grid.split(), "--settings"):
            axes.append([(name, decode_value(name, value)) for value in values.split(",")])
        for combination in itertools.product(*axes):
            combined = DecodeSettings(**dict(combination))
            if combined not in seen:
                seen[combined] = None
                yield label(combined), combined


def label(settings: DecodeSettings) -> str:
    """The decoder and the settings that differ from its defaults."""
    defaults = DecodeSettings(decoder=settings.decoder, remask=settings.remask)
    parts = [settings.decoder]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        always_shown = field.name == "remask" and settings.decoder == "remdm"
        if field.name not in ("decoder", "seed") and (always_shown or value != getattr(defaults, field.name)):
            parts.append(f"{field.name.replace('_', '-')} {value:g}" if not isinstance(value, str) else value)
    if settings.decoder == "confidence" and settings.threshold == defaults.threshold:
        parts.insert(1, f"threshold {settings.threshold:g}")
    return " ".join(parts)
