"""One training run: settings from preset, file and options; its events as a progress bar or as plain lines."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from tdiff.commands.progress import progress_bar
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings, read_layer
from tdiff.errors import TdiffError, unknown
from tdiff.files import write_atomic
from tdiff.formatting import duration
from tdiff.protocol.describe import describe
from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Event, Heartbeat, Resume, Sample, Start, Train, Verdicts
from tdiff.protocol.metrics import METRICS
from tdiff.runs import lookup, process
from tdiff.runs import run as runs
from tdiff.runs.index import remember
from tdiff.runs.run import Run
from tdiff.schema import Layer
from tdiff.visible import visible

if TYPE_CHECKING:
    from tdiff.corpus.corpus import Corpus

_FAILED = 1


def start(config: str | None, preset: str | None, run: str | None, layers: list[Layer]) -> None:
    """Start a run with the settings of preset, file and options, each over the one before."""
    settings, called, named = settled(config, preset, layers)
    if run is not None:
        runs.check_free(run)
    settings, corpus = _or_another(settings) if not named else (settings, corpus_of(settings))
    folder = Run(runs.ROOT / (run or runs.free_name(stem(corpus.name, settings.preset))))
    if "-" in settings.data.sources:  # stdin cannot be read again, so the text is saved
        settings = _reading(settings, str(folder.corpus))
    follow(folder, settings, corpus, f"{called} {title(settings, corpus)} -> {folder.path}", again=False)


def settled(config: str | None, preset: str | None, layers: list[Layer]) -> tuple[Settings, str, bool]:
    """The resolved settings, the name of their preset, and whether they name a text."""
    file = read_layer(lookup.find_config(config)) if config else {}
    initial_model, sizes = _initial_model(file, layers), {}
    preset_name = preset or next((layer["preset"] for layer in (*reversed(layers), file) if layer.get("preset")), None)
    if initial_model:
        from tdiff import hub
        from tdiff.commands.progress import fetching
        from tdiff.core.training import initialize

        with fetching(initial_model) as progress:
            folder_name = str(hub.find(initial_model, progress))
        sizes = initialize.sizes(folder_name)
        if not preset_name and initialize.is_pretrained(folder_name):
            preset_name = "finetune"
    name = str(preset_name or _default_preset(file, layers))
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    settings = Settings.of([PRESETS[name], sizes, file, *layers, {"preset": name}])
    named = any("sources" in table for layer in (file, *layers) if isinstance(table := layer.get("data"), dict))
    return settings, name if preset_name else f"{name} (the default here)", named


def title(settings: Settings, corpus: Corpus) -> str:
    """The corpus and the budget of a run, on one line."""
    rows = settings.data.rows != "packed" or settings.preset == "finetune"
    return f"on {corpus.name}{f', {settings.data.rows} rows' * rows}, {_budget(settings)}"


def resume(name: str, budget: dict[str, float] | None = None) -> None:
    """Resume a stopped run, to a new end where there is a `budget`, such as {"steps": 20000}."""
    folder = lookup.find_run(name)
    settings = folder.settings()
    if budget:
        settings = Settings.of([settings.as_layer(), {"train": budget}])
    if not folder.state.exists():
        raise TdiffError(f"run {folder.name!r} stopped before its first save; there is nothing to resume")
    last = next((r for r in reversed(folder.history()) if not isinstance(r, (Eval, Heartbeat))), None)
    if isinstance(last, End) and last.reason == "finished" and settings == folder.settings():
        raise TdiffError(
            f"run {folder.name!r} is finished (step {last.step:,}); resume it with --steps N to train to step N, or "
            "start a new --run"
        )
    corpus = corpus_of(settings)
    heading = f"resuming {folder.path} ({settings.preset} on {corpus.name}, {_budget(settings)})"
    follow(folder, settings, corpus, heading, again=True)


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


def stem(corpus: str, preset: str) -> str:
    """A folder name from corpus and preset."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in corpus.rsplit("/", 1)[-1].split(".")[0])
    return f"{safe.strip('-')[:40] or 'text'}-{preset}"


def _reading(settings: Settings, source: str) -> Settings:
    """The settings with another text source."""
    return replace(settings, data=replace(settings.data, sources=(source,)))


def _or_another(settings: Settings) -> tuple[Settings, Corpus]:
    """The default corpus, or a substitute where it is not available, and settings that name it."""
    from tdiff.corpus.named import Absent

    try:
        return settings, corpus_of(settings)
    except Absent as absent:
        settings = _reading(settings, "python")
        corpus = corpus_of(settings)
        say(
            f"{absent.reason}; python, the language reference, stands in "
            "(TDIFF_SHAKESPEARE=FILE names a copy of shakespeare)"
        )
        return settings, corpus


def corpus_of(settings: Settings) -> Corpus:
    """The corpus that the settings name."""
    from tdiff.corpus import corpus as data

    with progress_bar("fetching the corpus", of_bytes=True) as progress:
        labelled = settings.data.label_field if settings.data.classes or settings.data.only else None
        corpus = data.load(
            settings.data.sources, settings.data.text_field, progress, labelled, settings.data.evaluation
        )
    if corpus.note:
        say(corpus.note)
    return corpus


def follow(
    folder: Run,
    settings: Settings,
    corpus: Corpus,
    title: str,
    *,
    again: bool,
    started: bool = False,
    made: Callable[[], None] = lambda: None,
) -> End:
    """Train with progress on the terminal, and return the last event.

    `made` is called after the folder of a new run was made, which may exist where the run was `started` before.
    """
    from tdiff.core import devices
    from tdiff.core.training import initialize
    from tdiff.core.training.loop import train

    on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    device = devices.choose(settings.train.device)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopping(b"\r\x1b[2K" if on_terminal else b""))
        if again:
            stack.enter_context(folder.locked())
            stack.enter_context(process.beating(folder.path, device, devices.gpu_name(device)))
        after = _After()
        records = train(settings, folder, corpus, resume=again, stop=stop.is_set, progress=after)
        if again and settings != folder.settings():
            folder.keep(settings)
            stack.enter_context(folder.locked())  # the locked file has been replaced
        if not again:  # only now, so that a refused run leaves no folder
            if not (started and folder.path.exists()):
                remember(runs.create(folder.name, settings, folder.path.parent))
            made()
            stack.enter_context(folder.locked())
            if str(folder.corpus) in settings.data.sources:
                read = corpus.text[: len(corpus.text) - corpus.reserved] if corpus.reserved else corpus.text
                write_atomic(folder.corpus, read.removesuffix("\n\n" * bool(corpus.reserved)).encode())
            stack.enter_context(process.beating(folder.path, device, devices.gpu_name(device)))
        say(title)
        if moot := initialize.unread_settings(settings) if not again else []:
            say(f"ignored for the autoregressive model {settings.train.init}: {', '.join(moot)}")
        events = folder.recorded(records)
        end = _bar(events, folder, after) if on_terminal else _lines(events, stop)
    if end.reason == "nan":
        sys.exit(_FAILED)
    if end.reason == "stopped":
        say(f"stopped at step {end.step:,}; everything is saved. Resume with: tdiff train --resume {folder.called}")
    else:
        asks = f"classify --model {folder.called} 'some text'"
        say(f"done. Try it: tdiff {asks if settings.data.classes else f'generate --model {folder.called}'}")
    return end


@contextmanager
def _stopping(clear: bytes = b"") -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a hang-up set: the run then saves and stops. A second Ctrl-C quits at once.

    `clear` is written before the message, which may come in the middle of a bar.
    """
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        # The signal may arrive within a print, which is not reentrant.
        with suppress(OSError):
            os.write(2, clear + b"stopping after this step, and saving (Ctrl-C again to quit at once)\n")

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(events: Iterator[Event], stop: threading.Event) -> End:
    """Print events as plain lines on stdout, which are data. If the reader closes the pipe, the run saves and stops."""
    waiting = True
    for record in events:
        text = describe(record)
        waiting = waiting and not isinstance(record, Train)
        if isinstance(record, Alert):
            say(text or "")
        elif isinstance(record, Heartbeat) and waiting:  # later the lines of losses show progress
            say(f"{record.doing} ...")
        elif text:
            try:
                print(visible(text), flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                stop.set()
        if isinstance(record, End):
            return record
    raise AssertionError("the last event of a run is End")


class _After:
    """Progress of the evaluation after training, drawn where there is a bar."""

    def __init__(self) -> None:
        self.draw: Callable[[int, int], None] = lambda done, total: None

    def __call__(self, done: int, total: int) -> None:
        self.draw(done, total)


def _bar(events: Iterator[Event], folder: Run, after: _After) -> End:
    """A progress bar on stderr, with samples, bounds and alerts printed above it; it stays at the end.

    The bar of a resumed run starts with the figures of its log.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("[bold]{task.fields[step]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    newest: dict[str, str] = {"bound": "no bound yet"}

    def figures(record: Event) -> str:
        match record:
            case Train():
                newest["loss"] = f"loss {METRICS['train/loss'].text(record.loss)}"
                newest["pace"] = f"{record.tokens_per_second:,.0f} tok/s · ETA {duration(record.eta)}"
            case Eval():
                newest["bound"] = f"bound {record.nats_per_char:.3f}"
            case Heartbeat():
                return f"{record.doing} ..."
            case Verdicts():
                newest["verdicts"] = f"{record.accuracy:.1%} right"
            case Resume() | Start():
                newest["pace"] = "ETA after the first steps"
            case End():
                newest["pace"] = ""
            case Sample() | Checkpoint() | Alert():
                pass
            case _:
                assert_never(record)
        return " · ".join(newest[name] for name in ("loss", "bound", "verdicts", "pace") if newest.get(name))

    with Progress(*columns, console=console, transient=False, expand=True, refresh_per_second=4) as bar:
        task = bar.add_task("", total=1.0, step="step 0", figures="starting ...")
        final = bar.add_task("", total=1.0, step="after training", figures="", visible=False)
        after.draw = lambda done, total: bar.update(final, completed=done, total=total, visible=done < total)
        for record in events:
            for earlier in folder.history() if isinstance(record, Resume) else []:
                figures(earlier)
                bar.update(task, completed=getattr(earlier, "progress", None))
            bar.update(task, figures=figures(record))
            if not isinstance(record, Start):
                bar.update(task, step=f"step {record.step:,}")
            if isinstance(record, Train):
                bar.update(task, completed=record.progress)
                continue
            if isinstance(record, End) and record.reason == "finished":
                bar.update(task, completed=1.0)  # the clock may have run out after the last record of a loss
            bar.update(final, visible=False)  # it may have been cut short
            text = describe(record)
            if text and not isinstance(record, Checkpoint):
                bar.refresh()  # the bar under a line is as new as the line, however seldom the clock redraws it
                bar.console.print(Text(visible(text)), soft_wrap=True)
            if isinstance(record, End):
                return record
    raise AssertionError("the last event of a run is End")


def say(text: str) -> None:
    """Print a message on stderr."""
    print(visible(text), file=sys.stderr, flush=True)
