"""A run's folder: its paths, creation, lock and event log. No torch.

checkpoints/RUN/
    config.toml      all settings
    events.jsonl     the records of training, append-only, one flushed line each
    samples/         traces of the texts sampled during training
    model/           the averaged weights, their config and tokenizer, as Hugging Face lays out a model
    resume/          what `--resume` needs, and the run's lock
    earlier/, best/  earlier saves, and the model with the lowest held-out bound; see `retention`
    process.json     the process that trains, with its heartbeat
    log              what a training in the background prints
    trackers.json    the runs of other trackers that record this one
    events.out.tfevents.*  its metrics for TensorBoard
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from tdiff.errors import TdiffError
from tdiff.files import CannotWrite, write_atomic
from tdiff.runs import lock

if TYPE_CHECKING:  # a viewer needs neither settings nor records to find a run
    from tdiff.config.settings import Settings
    from tdiff.protocol.events import Event

ROOT = Path("checkpoints")
"""Where runs are written, relative to the current folder."""
E = TypeVar("E", bound="Event")


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a training run."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def called(self) -> str:
        """The name that the commands take: with the folders between ROOT and the run, if there are any."""
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.name

    @property
    def model(self) -> Path:
        """The folder of the averaged weights."""
        return self.path / "model"

    @property
    def state(self) -> Path:
        """The state that a resume needs."""
        return self.path / "resume" / "state.safetensors"

    @property
    def corpus(self) -> Path:
        """A copy of the text, if it came through stdin and cannot be read again."""
        return self.path / "resume" / "corpus.txt"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    def settings(self) -> Settings:
        """Read the run's settings."""
        from tdiff.config.settings import Settings, read_layer

        return Settings.of([read_layer(self.path / "config.toml")])

    def keep(self, settings: Settings) -> None:
        """Write the run's settings."""
        import tomli_w

        write_atomic(self.path / "config.toml", tomli_w.dumps(settings.as_layer()).encode())

    def history(self) -> list[Event]:
        """The events so far, folded over resumes; a torn last line is skipped."""
        from tdiff.protocol.events import fold, parse

        if not self.events.exists():
            return []
        with self.events.open(encoding="utf-8", errors="replace") as file:
            return list(fold(parse(line) for line in file if line.endswith("\n")))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock. Raises TdiffError if another process trains this run."""
        with lock.held(self.path):
            yield

    @property
    def is_locked(self) -> bool:
        """Whether a process holds the run's lock; False where that cannot be found out."""
        return lock.is_held(self.path)

    @contextmanager
    def log(self) -> Iterator[IO[str]]:
        """The event log, open for appending; a torn last line, left by a crash, is ended first."""
        try:
            with self.events.open("a+b") as last:
                if last.tell() and (last.seek(-1, os.SEEK_END), last.read(1))[1] != b"\n":
                    last.write(b"\n")
            file = self.events.open("a", encoding="utf-8")
        except OSError as error:
            raise CannotWrite(self.events, error) from error
        try:
            yield file
        finally:
            with suppress(OSError):  # after a write that failed, closing tries it again
                file.close()

    def recorded(self, records: Iterable[E]) -> Iterator[E]:
        """Yield `records` as they come, each after it is appended to the event log and flushed.

        Raises CannotWrite, for example for a full disk.
        """
        from tdiff.protocol.events import to_line

        with self.log() as file:
            for record in records:
                line = to_line(record)
                try:
                    file.write(line)
                    file.flush()
                except OSError as error:
                    raise CannotWrite(self.events, error, len(line)) from error
                yield record

    def sync_events(self) -> None:
        """Have the records so far survive a power cut, so that none is missing before a save that does."""
        with suppress(OSError), self.events.open("rb") as file:
            os.fsync(file.fileno())


def check_free(name: str, root: Path = ROOT) -> None:
    """Raise TdiffError if `name` cannot name a new run: a run is never overwritten."""
    if name != Path(name).name or name in ("", ".", ".."):
        raise TdiffError(f"a run's name is one folder under {root}/, without slashes; got {name!r}")
    if os.path.lexists(root / name):
        raise TdiffError(
            f"run {name!r} exists already ({root / name}) and is not overwritten; resume it with --resume {name}, "
            "or choose another --run"
        )


def create(name: str, settings: Settings, root: Path = ROOT) -> Run:
    """Create a run's folder with its config.toml. Raises TdiffError if it exists or cannot be created."""
    check_free(name, root)
    run = Run(root / name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A process that is killed here leaves no folder of that name without settings.
        unfinished = root / f".{name}.{secrets.token_hex(4)}"
        unfinished.mkdir()
        try:
            Run(unfinished).keep(settings)
            unfinished.rename(run.path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        reason = str(error) if isinstance(error, CannotWrite) else error.strerror
        raise TdiffError(f"the run folder {run.path} cannot be created: {reason}") from None
    return run


def free_name(stem: str, root: Path = ROOT) -> str:
    """`stem`, or the first of `stem-2`, `stem-3`, ... that is not taken."""
    names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, 1_000_000))
    return next(name for name in names if not (root / name).exists())
