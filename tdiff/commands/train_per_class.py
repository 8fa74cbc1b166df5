"""`tdiff train --per-class`: one run per class, one after another, in one folder with a classes.json that lists them.

The tokenizer is trained on all the text, so that the models' likelihoods of a text can be compared by position.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.commands import train_run
from tdiff.commands.progress import progress_bar
from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.protocol.describe import describe
from tdiff.protocol.events import End
from tdiff.runs import run as runs
from tdiff.runs.per_class import PerClassRun
from tdiff.runs.run import Run
from tdiff.schema import Layer
from tdiff.visible import visible_line

if TYPE_CHECKING:
    from tdiff.corpus.corpus import Corpus

_ANY = "?"
"""In place of a class while the labels are read; each run has its class."""


def start(config: str | None, preset: str | None, run: str | None, layers: list[Layer]) -> None:
    """Train a model of each class of the corpus."""
    settings, called, named = train_run.settled(config, preset, layers)
    if not named or "-" in settings.data.sources:
        raise TdiffError("--per-class requires files of texts with classes: --data FILE")
    if run is not None:
        runs.check_free(run)
    settings = replace(settings, data=replace(settings.data, only=_ANY))
    corpus = train_run.corpus_of(settings)
    before, after = corpus.split_indices(settings.data.held_out)
    for label in corpus.classes:
        if not all(any(corpus.labels[n] == label for n in part) for part in (before, after)):
            raise TdiffError(f"class {label!r} has too few texts for a training and a held-out part: add texts")
    each = PerClassRun(
        classes=corpus.classes,
        runs=_folder_names(corpus.classes),
        counts=tuple(sum(corpus.labels[n] == label for n in before) for label in corpus.classes),
        settings=settings.as_layer(),
    )
    name = run or runs.free_name(train_run.stem(corpus.name, settings.preset))
    _train_classes(runs.ROOT / name, each, corpus, called)


def resume(folder: Path) -> None:
    """Resume with the classes that are not finished."""
    each = PerClassRun.read(folder)
    corpus = train_run.corpus_of(Settings.of([each.settings]))
    if corpus.classes != each.classes:
        raise TdiffError(
            f"{folder.name!r} was trained on texts of the classes {', '.join(each.classes)}; there are now "
            f"{', '.join(corpus.classes)}"
        )
    _train_classes(folder, each, corpus, each.settings.get("preset", ""))


def _train_classes(folder: Path, each: PerClassRun, corpus: Corpus, called: str) -> None:
    common, trained = Settings.of([each.settings]), False
    for n, (label, name) in enumerate(zip(each.classes, each.runs, strict=True), 1):
        run = Run(folder / name)
        settings = replace(common, data=replace(common.data, only=label))
        last = next((r for r in reversed(run.history()) if isinstance(r, End)), None)
        if last is not None and last.reason == "finished":
            continue
        of = f"class {visible_line(label)}, {n} of {len(each.classes)}: {called}"
        again = run.state.exists()
        if again:
            settings = run.settings()
        title = f"{of} {train_run.title(settings, corpus)} -> {run.path}"
        end = train_run.follow(run, settings, corpus, title, again=again, started=True, made=lambda: each.write(folder))
        trained = True
        if end.reason != "finished":
            train_run.say(f"resume all classes with: tdiff train --resume {folder.name}")
            return
    if trained or not each.texts:
        each = _calibrated(folder, each, corpus)
    train_run.say(f"done. Try it: tdiff classify --model {folder.name} 'some text'")


def _calibrated(folder: Path, each: PerClassRun, corpus: Corpus) -> PerClassRun:
    """Calibrate the temperature on held-out texts and save it."""
    from tdiff.commands.classify_models import Request, load
    from tdiff.core.classification.classifier import calibrate
    from tdiff.core.training.reports import calibration_record

    settings = Settings.of([each.settings])
    if not settings.train.calibrate:
        return each
    train_run.say("scoring held-out texts ...")
    classifier = load(Request(models=(str(folder),), device=settings.train.device))
    _, after = corpus.split_indices(settings.data.held_out)
    texts = [classifier.encode(corpus.texts[n]) for n in after]
    labels = [each.classes.index(corpus.labels[n]) for n in after]
    options = settings.train
    seconds = 60.0 * options.minutes * options.final_share * len(each.classes) or None
    with progress_bar("scoring") as bar:
        calibration = calibrate(
            classifier, texts, labels, options.calibrate, seed=options.seed, progress=bar, seconds=seconds
        )
    if calibration is None:
        return each
    _, _, line = (describe(calibration_record(calibration, 0)) or "").partition(
        "  "
    )  # without the step, since each run has another
    print(line, flush=True)
    each = replace(each, temperature=calibration.temperature, texts=calibration.assessment.texts)
    each.write(folder)
    return each


def _folder_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Folder names of the classes: the classes' names, with a number where they would be empty or equal."""

    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in text).strip("-").lower()[:40]

    names = [safe(label) for label in labels]
    if not all(names) or len(set(names)) < len(names):
        names = [f"{n}-{name}".strip("-") for n, name in enumerate(names, 1)]
    return tuple(names)
