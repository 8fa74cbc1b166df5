"""`tdiff compare`: generate from the same prompts with several models or settings, and compare cost and quality."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff import ranks
from tdiff.config.decoding import DecodeSettings, assignments, decode_value
from tdiff.config.options import DEVICES, TEXT_FIELD_HELP, argument, option
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
    from tdiff.core.training.distributed import World

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
        "",
        "Decoders with their default settings, separated by commas.",
        panel="Settings to compare",
        metavar="NAME,...",
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
        metavar="SOURCE",
        shown="default: the first model's corpus",
    )
    text_field: str | None = option(None, TEXT_FIELD_HELP, panel="Input", metavar="NAME", shown="default: text")
    split: str | None = option(
        None,
        "Part of the text that gives the prompts.",
        panel="Input",
        metavar="[val|tuning]",
        shown="default: what the first model held out",
    )
    judge: str | None = option(
        None,
        "A causal model, such as gpt2, that scores the texts beside the n-gram model.",
        panel="Scoring",
        metavar="MODEL",
    )
    prompts: int = option(64, "Number of prompts of 16 characters; 240 are generated after each.", panel="Input")
    seed: int = option(0, "Seed of all texts.", panel="Settings to compare", shown="default: 0")
    device: str = option("auto", "Device.", choices=DEVICES, panel="Advanced")
    as_json: bool = option(False, "Print one JSON object that includes all texts.", flag="--json", panel="Output")
    html: Path | None = option(None, "Save an HTML report with the texts side by side.", panel="Output", metavar="FILE")


def run(request: Request) -> None:
    """Generate with all settings and print the comparison; progress bars and messages go to stderr."""
    combinations = list(parse(request.decoders, request.settings))
    _check(request, len(combinations))

    from tdiff.commands.progress import load_model
    from tdiff.core import devices
    from tdiff.core.evaluation.compare import advise
    from tdiff.core.training import processes

    world = processes.join()
    with world.together(), world.in_turn():
        device = devices.choose(request.device)
        world.check_device(device)
        models = [load_model(name, device) for name in request.models]
        task, judge = _task(request, models, device)
    contenders = _contenders(models, combinations, request.seed)
    outcomes = _generate(contenders, task, judge, world)
    processes.leave()
    if not world.leads:
        return
    advice = advise(outcomes, task)
    if request.html is not None:
        pages.save(request.html, comparison.page(outcomes, task, advice))
    if request.as_json:
        print(json_line(comparison.data(outcomes, task, advice)))
        return
    print(plain([*comparison.table(outcomes, task, advice), [], *comparison.plot(outcomes, advice), []]))
    print(comparison.recommendation(outcomes, advice))


def _check(request: Request, settings: int) -> None:
    """Raise TdiffError for invalid options, before a model is loaded; `settings` is the number of combinations."""
    if request.prompts < 2:
        raise TdiffError(f"--prompts must be at least 2, since a comparison needs two texts; got {request.prompts}")
    if request.split not in (None, "val", "tuning"):
        raise TdiffError(f"--split takes val or tuning; got {request.split!r}")
    if settings * len(request.models) > len(LETTERS):
        count = f"{settings} settings x {len(request.models)} models = {settings * len(request.models)}"
        raise TdiffError(f"at most {len(LETTERS)} combinations of settings and models can be compared; got {count}")
    if request.html is not None:
        pages.check_file(request.html)


def _task(request: Request, models: Sequence[LoadedModel], device: str) -> tuple[Task, Judge]:
    """The prompts from held-out text, and what measures the quality of the texts."""
    from tdiff.commands.progress import download_progress
    from tdiff.core.evaluation.causal_judge import CausalJudge
    from tdiff.core.evaluation.compare import task
    from tdiff.core.evaluation.corpora import corpus_of
    from tdiff.core.evaluation.quality import Judge

    origin = models[0].origin
    corpus = corpus_of(models[0], request.data, request.text_field)
    part = {"val": "tenth", "tuning": "tuning", None: origin.held_out}[request.split]
    training, held_out = corpus.split(part, origin.rows, origin.only)
    if not request.data and request.split == "tuning":
        for model in models:
            if ranks.talks() and model.origin.held_out == "tenth":
                print(
                    f"{visible_line(model.name)} was trained on the tuning part: use that part to choose its settings, "
                    "not to compare it with other models",
                    file=sys.stderr,
                )
    causal_judge = None
    if request.judge is not None:
        with download_progress(request.judge) as progress:
            causal_judge = CausalJudge(request.judge, device, progress)
    judge = Judge(training, causal_judge.nats if causal_judge else None)
    return task(judge, held_out, request.prompts), judge


def _contenders(
    models: Sequence[LoadedModel], combinations: Sequence[tuple[str, DecodeSettings]], seed: int
) -> list[Contender]:
    """Each model with each setting that it supports; labels name the model where there are several."""
    from tdiff.core.evaluation.compare import Contender

    return [
        Contender(
            model,
            dataclasses.replace(settings, seed=seed),
            f"{visible_line(model.name)}: {name}" if len(models) > 1 else name,
        )
        for model in models
        for name, settings in _supported(model, combinations)
    ]


def _generate(contenders: Sequence[Contender], task: Task, judge: Judge, world: World) -> list[Outcome]:
    """The texts of every contender, with a progress bar, or a line each where stderr is not a terminal."""
    from tdiff.commands.progress import progress_bar
    from tdiff.core.evaluation.compare import run as generate

    outcomes: list[Outcome] = []
    for n, contender in enumerate(contenders, 1):
        heading = f"{n}/{len(contenders)} {contender.label}"
        with progress_bar(heading) as bar:
            outcomes.append(generate(contender, task, judge, bar, world))
        if world.leads and not sys.stderr.isatty():  # the comparison may take an hour
            print(f"{heading}: {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def _supported(
    model: LoadedModel, combinations: Sequence[tuple[str, DecodeSettings]]
) -> Sequence[tuple[str, DecodeSettings]]:
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
