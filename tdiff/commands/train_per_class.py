"""`tdiff train --per-class`: one run per class, one after another, in one folder with a classes.json that lists them.

The tokenizer is trained on all the text, so that the models' likelihoods of a text can be compared by position.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff import ranks
from tdiff.commands import train_run
from tdiff.commands.progress import progress_bar
from tdiff.commands.train_display import say
from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.protocol.describe import describe
from tdiff.protocol.events import End
from tdiff.runs import run as runs
from tdiff.runs.per_class import PerClassRun
from tdiff.runs.retention import has_save
from tdiff.runs.run import Run
from tdiff.schema import Layer
from tdiff.visible import visible_line

if TYPE_CHECKING:
    from tdiff.corpus.corpus import Corpus

_NO_CLASS = "?"
"""Stands for the class of a run while the labels of all texts are read."""


def start(config: str | None, preset: str | None, run: str | None, layers: list[Layer]) -> None:
    """Train a model of each class of the corpus."""
    from tdiff.core.training import processes

    with processes.join().together():
        settings, preset_label, has_source = train_run.resolve_settings(config, preset, layers)
        per_class, corpus, name = _planned(settings, has_source, run)
    _train_classes(runs.ROOT / processes.join().agreed(name), per_class, corpus, preset_label)


def _planned(settings: Settings, has_source: bool, run: str | None) -> tuple[PerClassRun, Corpus, str]:
    """The runs to train, their text, and the name of their folder."""
    if not has_source or "-" in settings.data.sources:
        raise TdiffError("--per-class requires files of texts with classes: --data FILE")
    if run is not None:
        runs.check_free(run)
    settings = replace(settings, data=replace(settings.data, only=_NO_CLASS))
    corpus = train_run.corpus_of(settings)
    training, held_out = corpus.split_indices(settings.data.held_out)
    for label in corpus.classes:
        if not all(any(corpus.labels[n] == label for n in part) for part in (training, held_out)):
            raise TdiffError(f"class {label!r} has too few texts for a training and a held-out part: add texts")
    per_class = PerClassRun(
        classes=corpus.classes,
        runs=_folder_names(corpus.classes),
        counts=tuple(sum(corpus.labels[n] == label for n in training) for label in corpus.classes),
        settings=settings.as_layer(),
    )
    return per_class, corpus, run or runs.free_name(train_run.folder_name(corpus.name, settings.preset))


def resume(folder: Path) -> None:
    """Resume with the classes that are not finished."""
    from tdiff.core.training import processes

    world = processes.join()
    with world.together():
        per_class = PerClassRun.read(folder)
        train = Settings.of([per_class.settings]).train
        world.passes(train.batch_size, train.accumulate, resumed=folder.name)
        corpus = train_run.corpus_of(Settings.of([per_class.settings]))
        if corpus.classes != per_class.classes:
            raise TdiffError(
                f"{folder.name!r} was trained on texts of the classes {', '.join(per_class.classes)}; there are now "
                f"{', '.join(corpus.classes)}"
            )
    _train_classes(folder, per_class, corpus, per_class.settings.get("preset", ""))


def _train_classes(folder: Path, per_class: PerClassRun, corpus: Corpus, preset_label: str) -> None:
    common, trained = Settings.of([per_class.settings]), False
    for n, (label, name) in enumerate(zip(per_class.classes, per_class.runs, strict=True), 1):
        run = Run(folder / name)
        settings = replace(common, data=replace(common.data, only=label))
        last = next((r for r in reversed(run.history()) if isinstance(r, End)), None)
        if last is not None and last.reason == "finished":
            continue
        position = f"class {visible_line(label)}, {n} of {len(per_class.classes)}: {preset_label}"
        resumed = has_save(run)
        if resumed:
            settings = run.settings()
        heading = f"{position} {train_run.describe_run(settings, corpus)} -> {run.path}"
        end = train_run.train_and_report(
            run, settings, corpus, heading, resumed=resumed, may_exist=True, on_created=lambda: per_class.write(folder)
        )
        trained = True
        if end.reason != "finished":
            say(f"resume all classes with: tdiff train --resume {folder.name}")
            return
    if ranks.talks() and (trained or not per_class.texts):
        per_class = _calibrated(folder, per_class, corpus)
    say(f"done. Try it: tdiff classify --model {folder.name} 'some text'")


def _calibrated(folder: Path, per_class: PerClassRun, corpus: Corpus) -> PerClassRun:
    """Calibrate the temperature on held-out texts and save it."""
    from tdiff.commands.classify_models import Request, load
    from tdiff.core.classification.classifier import calibrate
    from tdiff.core.training.reports import calibration_record

    settings = Settings.of([per_class.settings])
    if not settings.train.calibrate:
        return per_class
    say("scoring held-out texts ...")
    classifier = load(Request(models=(str(folder),), device=settings.train.device))
    _, held_out = corpus.split_indices(settings.data.held_out)
    texts = [classifier.encode(corpus.texts[n]) for n in held_out]
    labels = [per_class.classes.index(corpus.labels[n]) for n in held_out]
    options = settings.train
    seconds = 60.0 * options.minutes * options.final_share * len(per_class.classes) or None
    with progress_bar("scoring") as bar:
        calibration = calibrate(
            classifier, texts, labels, options.calibrate, seed=options.seed, progress=bar, seconds=seconds
        )
    if calibration is None:
        return per_class
    line = describe(calibration_record(calibration, 0)) or ""
    print(line.partition("  ")[2], flush=True)  # without the step, since each run has another
    per_class = replace(per_class, temperature=calibration.temperature, texts=calibration.assessment.texts)
    per_class.write(folder)
    return per_class


def _folder_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Folder names of the classes: the classes' names, with a number where they would be empty or equal."""

    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in text).strip("-").lower()[:40]

    names = [safe(label) for label in labels]
    if not all(names) or len(set(names)) < len(names):
        names = [f"{n}-{name}".strip("-") for n, name in enumerate(names, 1)]
    return tuple(names)
