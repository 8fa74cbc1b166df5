"""`tdiff train`: settings from presets, files and options; the records of a run as a progress bar or plain lines."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tdiff import runs
from tdiff.config import PRESETS, Settings, read_layer
from tdiff.errors import unknown
from tdiff.records import Event, to_line
from tdiff.visible import visible


def start(config: str | None, preset: str | None, run: str | None, layers: list[dict[str, Any]]) -> None:
    """Begin a run."""
    from tdiff.core import data
    from tdiff.core.trainer import train

    file = read_layer(runs.find_config(config)) if config else {}
    name = preset or file.get("preset") or "char-1m"
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    settings = Settings.of([PRESETS[name], file, *layers, {"preset": name}])
    corpus = data.load(settings.data.sources, settings.data.text_field)
    folder = runs.create(run or runs.free_name(f"{corpus.name}-{name}"), settings)
    with _stopping() as stop:
        for record in folder.recorded(train(settings, folder, corpus, stop=stop)):
            _print(record)


def resume(name: str) -> None:
    """Go on with a run."""
    from tdiff.core import data
    from tdiff.core.trainer import train

    folder = runs.find_run(name)
    settings = folder.settings()
    corpus = data.load(settings.data.sources, settings.data.text_field)
    with _stopping() as stop:
        for record in folder.recorded(train(settings, folder, corpus, resume=True, stop=stop)):
            _print(record)


def _print(record: Event) -> None:
    print(visible(to_line(record)), end="", flush=True)


@contextmanager
def _stopping() -> Iterator[Any]:
    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    yield event.is_set
