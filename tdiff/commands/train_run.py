"""One training run, new or resumed: its settings from preset, file and options, its text and its folder."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tdiff import ranks
from tdiff.commands import detached
from tdiff.commands.progress import progress_bar
from tdiff.commands.train_display import FinalEvaluation, draw_bar, print_lines, say
from tdiff.commands.train_follow import follow
from tdiff.commands.train_records import reported, saying_what_is_safe
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings, read_layer
from tdiff.errors import TdiffError, unknown
from tdiff.files import write_atomic
from tdiff.formatting import duration
from tdiff.protocol.events import End, Eval, Heartbeat
from tdiff.runs import lookup, process
from tdiff.runs import run as runs
from tdiff.runs.index import forget, remember
from tdiff.runs.per_class import MANIFEST
from tdiff.runs.retention import best_bound, has_save
from tdiff.runs.run import Run
from tdiff.schema import Layer

if TYPE_CHECKING:
    from tdiff.corpus.corpus import Corpus

_FAILED = 1
_SAME_SIGNAL = 3.0
"""Seconds within which a second Ctrl-C of a run of several processes is the first one, passed on."""


def start(config: str | None, preset: str | None, run: str | None, layers: list[Layer]) -> None:
    """Start a run with the settings of preset, file and options, each over the one before."""
    from tdiff.core.training import processes

    world = processes.join()
    with world.together():
        settings, preset_label, has_source = resolve_settings(config, preset, layers)
        world.passes(settings.train.batch_size, settings.train.accumulate)
        if run is not None:
            runs.check_free(run)
        settings, corpus = (settings, corpus_of(settings)) if has_source else _default_corpus(settings)
        name = run or runs.free_name(folder_name(corpus.name, settings.preset))
    folder = Run(runs.ROOT / world.agreed(name))
    if "-" in settings.data.sources:  # stdin cannot be read again, so the text is saved
        settings = _with_source(settings, str(folder.corpus))
    heading = f"{preset_label} {describe_run(settings, corpus)} -> {folder.path}"
    train_and_report(folder, settings, corpus, heading, resumed=False)


def resolve_settings(config: str | None, preset: str | None, layers: list[Layer]) -> tuple[Settings, str, bool]:
    """The resolved settings, a label for their preset, and whether the user has set the source of the text."""
    file = read_layer(lookup.find_config(config)) if config else {}
    initial_model, sizes = _initial_model(file, layers), {}
    preset_name = preset or next((layer["preset"] for layer in (*reversed(layers), file) if layer.get("preset")), None)
    if initial_model:
        from tdiff import hub
        from tdiff.commands.progress import download_progress
        from tdiff.core.training import initialize, processes

        with processes.join().in_turn(), download_progress(initial_model) as progress:
            model_folder = str(hub.find(initial_model, progress))
        sizes = initialize.sizes(model_folder)
        if not preset_name and initialize.is_pretrained(model_folder):
            preset_name = "finetune"
    name = str(preset_name or _default_preset(file, layers))
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    settings = Settings.of([PRESETS[name], sizes, file, *layers, {"preset": name}])
    has_source = any("sources" in table for layer in (file, *layers) if isinstance(table := layer.get("data"), dict))
    return settings, name if preset_name else f"{name} (the default here)", has_source


def describe_run(settings: Settings, corpus: Corpus) -> str:
    """The corpus and the budget of a run, in a line."""
    rows = settings.data.rows != "packed" or settings.preset == "finetune"
    return f"on {corpus.name}{f', {settings.data.rows} rows' * rows}, {_budget(settings)}"


def resume(name: str, changes: dict[str, Any] | None = None) -> None:
    """Resume a stopped run, with `changes` to its training settings, such as {"steps": 20000}."""
    from tdiff.core.training import processes

    world = processes.join()
    with world.together():
        folder = lookup.find_run(name)
        settings = folder.settings()
        if changes:
            changed = Settings.of([settings.as_layer(), {"train": changes}])
            _check_rows(folder, settings, changed)
            settings = changed
        world.passes(settings.train.batch_size, settings.train.accumulate, resumed=folder.name)
        last = next((r for r in reversed(folder.history()) if not isinstance(r, (Eval, Heartbeat))), None)
        new_end = settings.train.budget != folder.settings().train.budget
        if isinstance(last, End) and last.reason == "finished" and not new_end:
            raise TdiffError(
                f"run {folder.name!r} is finished (step {last.step:,}); resume it with --steps N to train to step N, "
                "or start a new --run"
            )
        corpus = corpus_of(settings)
    again = "resuming" if has_save(folder) else "no save yet: beginning again in"
    heading = f"{again} {folder.path} ({settings.preset} on {corpus.name}, {_budget(settings)})"
    train_and_report(folder, settings, corpus, heading, resumed=True)


def _check_rows(folder: Run, saved: Settings, changed: Settings) -> None:
    """Raise TdiffError if a step has another number of rows than before: only its passes may change."""
    before, after = (options.batch_size * options.accumulate for options in (saved.train, changed.train))
    if before == after:
        return
    size = changed.train.batch_size
    nearest = max(n for n in range(1, min(size, before) + 1) if before % n == 0)
    raise TdiffError(
        f"a step of run {folder.name!r} has {before:,} rows (--batch-size x --accumulate), also after a resume; got "
        f"{after:,}: use --batch-size {nearest} --accumulate {before // nearest}"
    )


def _initial_model(file: Layer, layers: list[Layer]) -> str:
    """The model that a run is initialized from, which sets the sizes; empty for none."""
    tables = (layer.get("train") for layer in (*reversed(layers), file))
    return next((str(table["init"]) for table in tables if isinstance(table, dict) and "init" in table), "")


def _default_preset(file: Layer, layers: list[Layer]) -> str:
    """char-10m with an accelerator, else char-1m."""
    from tdiff.core import devices

    tables = [layer.get("train") for layer in (file, *layers)]
    named = [table.get("device") for table in tables if isinstance(table, dict)]
    device = next((d for d in reversed(named) if d), "auto")
    return "char-1m" if devices.choose(str(device)) == "cpu" else "char-10m"


def _budget(settings: Settings) -> str:
    train = settings.train
    if train.minutes:
        return f"{duration(60 * train.minutes)} of training"
    if train.epochs:
        amount = f"{train.epochs:g} pass{'es' * (train.epochs != 1)} over the text"
    else:
        amount = f"{train.steps:,} step{'s' * (train.steps != 1)}"
    return f"{amount}, ETA after the first steps"


def folder_name(corpus: str, preset: str) -> str:
    """The default name of a run's folder, from the names of corpus and preset."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in corpus.rsplit("/", 1)[-1].split(".")[0])
    return f"{safe.strip('-')[:40] or 'text'}-{preset}"


def _with_source(settings: Settings, source: str) -> Settings:
    """The settings with another text source."""
    return replace(settings, data=replace(settings.data, sources=(source,)))


def _default_corpus(settings: Settings) -> tuple[Settings, Corpus]:
    """The default corpus, or a substitute where it is not available, and settings that name it."""
    from tdiff.corpus.named import Absent

    try:
        return settings, corpus_of(settings)
    except Absent as absent:
        settings = _with_source(settings, "python")
        corpus = corpus_of(settings)
        say(
            f"{absent.reason}; the corpus is python, the language reference "
            "(TDIFF_SHAKESPEARE=FILE names a copy of shakespeare)"
        )
        return settings, corpus


def corpus_of(settings: Settings) -> Corpus:
    """The corpus that the settings name."""
    from tdiff.core.training import processes
    from tdiff.corpus import corpus as data
    from tdiff.corpus import stream
    from tdiff.corpus.named import Absent

    world = processes.join()
    if world.size > 1 and "-" in settings.data.sources:
        raise TdiffError(f"--data -: {world.size} processes cannot read one stdin: give a file")
    turn = world.in_turn() if "shakespeare" in settings.data.sources else nullcontext()  # which is fetched once
    absent: Absent | None = None
    with turn, progress_bar("fetching the corpus", of_bytes=True) as progress:
        if settings.data.token_files:
            return stream.sample(settings.data.sources, settings.data.text_field)
        labelled = settings.data.label_field if settings.data.classes or settings.data.only else None
        try:
            corpus = data.load(
                settings.data.sources, settings.data.text_field, progress, labelled, settings.data.evaluation
            )
        except Absent as error:  # no error of the turn, since the caller may have another corpus
            absent = error
    if absent is not None:
        raise absent
    if corpus.note:
        say(corpus.note)
    return corpus


def train_and_report(
    folder: Run,
    settings: Settings,
    corpus: Corpus,
    heading: str,
    *,
    resumed: bool,
    may_exist: bool = False,
    on_created: Callable[[], None] = lambda: None,
) -> End:
    """Train with progress on the terminal, and return the last event.

    The folder of a run that is not `resumed` is created, unless it exists and `may_exist`; then `on_created` is called.
    """
    from tdiff.core import devices
    from tdiff.core.training import initialize, processes
    from tdiff.core.training.loop import train
    from tdiff.runs.trackers import base, select

    world = processes.join()
    on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    final_evaluation = FinalEvaluation()
    with ExitStack() as stack:
        stop = stack.enter_context(_stopping(b"\r\x1b[2K" if on_terminal else b""))
        stack.enter_context(saying_what_is_safe(folder))
        # What the first process alone does can fail as well, and must not while the others train.
        with world.together():
            select.check(settings)
            device = devices.choose(settings.train.device)
            if world.leads and resumed:
                stack.enter_context(folder.locked())
                stack.enter_context(process.beating(folder.path, device, devices.gpu_name(device)))
        with progress_bar("writing token files", of_bytes=True) as writing:
            records = train(
                settings,
                folder,
                corpus,
                resume=resumed,
                stop=stop.is_set,
                progress=final_evaluation,
                world=world,
                writing=writing if world.leads else None,
            )
        with world.together():
            if world.leads:
                created = not resumed and not (may_exist and folder.path.exists())
                if resumed and settings != folder.settings():
                    folder.keep(settings)
                if not resumed:  # only now, so that a refused run leaves no folder
                    if created:
                        remember(runs.create(folder.name, settings, folder.path.parent))
                    on_created()
                    stack.enter_context(folder.locked())
                    if str(folder.corpus) in settings.data.sources:
                        # Without the text of --eval-data, which the corpus holds after two line feeds.
                        text = corpus.text[: -corpus.reserved].removesuffix("\n\n") if corpus.reserved else corpus.text
                        write_atomic(folder.corpus, text.encode())
                    stack.enter_context(process.beating(folder.path, device, devices.gpu_name(device)))
                of_classes = (folder.path.parent / MANIFEST).is_file()
                detached.report(
                    run=str((folder.path.parent if of_classes else folder.path).absolute()), pid=os.getpid()
                )
                say(heading)
                if settings.train.fsdp and world.size == 1:
                    say("train.fsdp has no effect in one process: torchrun --nproc-per-node N -m -- tdiff train ...")
                if unread := initialize.unread_settings(settings) if not resumed else []:
                    say(f"ignored for the autoregressive model {settings.train.init}: {', '.join(unread)}")
                try:
                    trackers = select.open_trackers(folder, settings)
                except TdiffError:
                    if created:  # its name stays free
                        shutil.rmtree(folder.path, ignore_errors=True)
                        forget(folder.path)
                    raise
        if not world.leads:
            return follow(records)
        events = reported(stack.enter_context(closing(base.tracked(folder.recorded(records), trackers, say))))
        end = draw_bar(events, folder, final_evaluation) if on_terminal else print_lines(events, stop)
    if end.reason == "nan":
        sys.exit(_FAILED)
    best = best_bound(folder)
    if best is not None and best.step < end.step:
        bound = f"the lowest bound of the evaluations during training was {best.nats_per_token:.4f}"
        say(f"{bound}, at step {best.step:,}; its model is {folder.called}:best")
    if end.reason == "stopped":
        say(f"stopped at step {end.step:,}; everything is saved. Resume with: tdiff train --resume {folder.called}")
    else:
        command = f"classify --model {folder.called} 'some text'" if settings.data.classes else ""
        say(f"done. Try it: tdiff {command or f'generate --model {folder.called}'}")
    return end


@contextmanager
def _stopping(clear: bytes = b"") -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a hang-up set: the run then saves and stops. A second Ctrl-C quits at once.

    `clear` is written before the message, which may come in the middle of a bar.
    """
    requested = threading.Event()

    first = 0.0

    def request_stop(number: int, _frame: object) -> None:
        nonlocal first
        if requested.is_set() and number == signal.SIGINT:
            # torchrun passes the terminal's Ctrl-C on to processes that have got it already.
            if ranks.size() > 1 and time.monotonic() - first < _SAME_SIGNAL:
                return
            raise KeyboardInterrupt
        first = time.monotonic()
        requested.set()
        # The signal may arrive within a print, which is not reentrant.
        with suppress(OSError):
            if not ranks.talks():
                return
            os.write(2, clear + b"stopping after this step, and saving (Ctrl-C again to quit at once)\n")

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, request_stop) for number in numbers}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
