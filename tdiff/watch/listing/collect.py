"""What is known of all runs of a folder: which bytes of which files it needs next, and the rows of the table.

It reads nothing itself: `here` reads files of this host, `there` those of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tdiff.runs import process as processes
from tdiff.runs.process import Machine, TrainingProcess
from tdiff.watch.listing.entries import TENSORBOARD, Entry, FileInfo, entries
from tdiff.watch.listing.rows import Row, row
from tdiff.watch.listing.tails import TailLog
from tdiff.watch.run_state import RunState

MAX_ENTRIES = 1_000
"""Runs and logs of a table; of more, those that were written last."""


_ENDED = ("finished", "failed", "died")
"""States that last until something is written."""
_MAX_LOGS = 6
"""Files of one training in which a loss is searched."""


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes of a file that are needed."""

    file: FileInfo
    offset: int
    count: int
    take: Callable[[bytes], None]
    """Takes them."""


class _Run:
    """One entry of the table with what was read of it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.process: TrainingProcess | None = None
        self._process_file: tuple[int, int] | None = None  # inode and size of the file that was read
        self._logs: dict[str, TailLog] = {}
        self._chosen = ""  # the path of the log that is shown
        self.cached: tuple[object, Row] | None = None
        """The row of a run that has ended, with what it was made of."""

    @property
    def is_read(self) -> bool:
        """Whether its process.json and the end of its log have been read, as far as that is possible."""
        if self.entry.process is not None and self._process_file is None:
            return False
        file, log = self.file, self.log
        return file is None or not file.size or (log is not None and (log.is_read or bool(log.problem)))

    @property
    def has_ended(self) -> bool:
        """Whether its log says that it has ended."""
        return self.log is not None and self.log.state.ended is not None

    @property
    def file(self) -> FileInfo | None:
        """The log that is shown."""
        logs = self.entry.logs
        return next((file for file in logs if file.path == self._chosen), logs[0] if logs else None)

    @property
    def log(self) -> TailLog | None:
        """What the log that is shown says."""
        return self._logs.get(self.file.path) if self.file else None

    def update(self, entry: Entry) -> None:
        """The folder was searched again."""
        self.entry = entry
        paths = {file.path for file in entry.logs}
        self._logs = {path: log for path, log in self._logs.items() if path in paths}
        self._chosen = self._chosen if self._chosen in paths else ""

    def requests(self) -> Iterator[Request]:
        """The bytes that are needed next. Of several logs, the first one with a loss is shown from then on."""
        file = self.entry.process
        if file is not None and (file.inode, file.size) != self._process_file:
            yield Request(file, 0, min(file.size, 1 << 16), self._take_process)
        logs = [self.file] if self._chosen and self.file else self.entry.logs[:_MAX_LOGS]
        for log_file in logs:
            if (log := self._logs.get(log_file.path)) is None:
                log = self._logs[log_file.path] = TailLog(self.entry.name)
            needed = log.needs(log_file)
            if needed is not None:

                def take(data: bytes, log: TailLog = log, file: FileInfo = log_file, at: int = needed[0]) -> None:
                    log.take(file, at, data)

                yield Request(log_file, *needed, take)
                return
            if log.has_loss:
                self._chosen = log_file.path
                return

    def _take_process(self, data: bytes) -> None:
        file = self.entry.process
        assert file is not None
        self.process, self._process_file = processes.parse(data), (file.inode, file.size)


class Collection:
    """All runs of one folder."""

    def __init__(self, root_name: str, where: Callable[[Entry, FileInfo | None], str]) -> None:
        """`root_name` is the name of the folder; `where` gives the path or address by which a run is opened."""
        self._root_name, self._where = root_name, where
        self._runs: dict[str, _Run] = {}
        self.searched = False
        """Whether the folder has been searched."""
        self.left_out = 0
        """Runs and logs beyond the largest number."""

    def update(self, files: Iterable[FileInfo], more: Iterable[Entry] = ()) -> None:
        """A search has found these files; `more` are entries that were found elsewhere."""
        found = [*entries(files, self._root_name), *more]
        found.sort(key=lambda entry: -_written(entry))
        self.left_out = max(0, len(found) - MAX_ENTRIES)
        runs: dict[str, _Run] = {}
        for entry in found[:MAX_ENTRIES]:
            key = f"{entry.folder}\0{entry.name}"
            if known := self._runs.get(key):
                known.update(entry)
            runs[key] = known or _Run(entry)
        self._runs, self.searched = runs, True

    def requests(self) -> Iterator[Request]:
        """The bytes that are needed, those of the newest logs first."""
        for run in self._runs.values():
            yield from run.requests()

    def requests_in_turn(self) -> Iterator[Request]:
        """As `requests`, for a caller that takes the bytes before the next step: one log after another is read."""
        for run in self._runs.values():
            pending = True
            while pending:
                pending = False
                for request in run.requests():
                    pending = True
                    yield request

    @property
    def processes(self) -> list[TrainingProcess]:
        """The processes of all runs whose end is not recorded."""
        return [run.process for run in self._runs.values() if run.process is not None and not run.has_ended]

    @property
    def without_loss(self) -> int:
        """Logs in which no loss was found."""
        return sum(not _is_shown(run) for run in self._runs.values())

    def settle(self, now: float) -> None:
        """Report what waits for the next line of logs at rest."""
        for run in self._runs.values():
            if run.log is not None:
                run.log.settle(now)

    def rows(
        self,
        now: float,
        machine: Machine | None,
        sizes: Callable[[Entry], int | None] | None = None,
        *,
        looked_up: Callable[[int], bool] = lambda pid: True,
        seen_until: float | None = None,
    ) -> list[Row]:
        """A row for each run and each log with a loss, at `now` (s since the epoch, by the clock of their host).

        `looked_up` says whether a process id of the machine has been looked up. What happened after `seen_until` is
        unknown, and no silence.
        """
        seen = now if seen_until is None else min(now, seen_until)
        return [self._row(run, now, seen, machine, sizes, looked_up) for run in self._runs.values() if _is_shown(run)]

    def _row(
        self,
        run: _Run,
        now: float,
        seen: float,
        machine: Machine | None,
        sizes: Callable[[Entry], int | None] | None,
        looked_up: Callable[[int], bool],
    ) -> Row:
        entry, file, log = run.entry, run.file, run.log
        made_of = (log, log.version if log else 0, run.process, sizes is None)
        if run.cached and run.cached[0] == made_of:
            return replace(run.cached[1], age=max(0.0, now - run.cached[1].time))
        size = sizes(entry) if sizes else None
        process = run.process
        is_here = process is not None and machine is not None and process.host == machine.host
        sought = process is not None and is_here and not run.has_ended and not looked_up(process.pid)
        if log is not None:
            log.state.seen_until = seen if seen < now else None
        made = row(
            log.state if log and log.is_read else RunState(entry.name),
            name=entry.name,
            where=self._where(entry, file),
            now=now,
            machine=machine,
            process=process,
            heartbeat=None if entry.process is None else max(0.0, seen - entry.process.modified),
            modified=_written(entry),
            skipped=log.skipped if log else False,
            size=size if size is not None else file.size if file else 0,
            problem="" if log is None else log.problem,
            reading=sought or not run.is_read,
        )
        run.cached = (made_of, made) if made.state in _ENDED else None
        return made


def _is_shown(run: _Run) -> bool:
    if run.entry.is_run or run.log is None:
        return run.entry.is_run
    return run.log.has_loss or (bool(run.log.problem) and run.file is not None and TENSORBOARD in run.file.path)


def _written(entry: Entry) -> float:
    files: Sequence[FileInfo] = entry.logs or ((entry.process,) if entry.process else ())
    return max((file.modified for file in files), default=0.0)
