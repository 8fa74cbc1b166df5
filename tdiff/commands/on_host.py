"""`tdiff train --on`: prepare a folder of another machine, start the training there, and say how to reach it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.commands.progress import progress_bar
from tdiff.config.presets import PRESETS
from tdiff.config.settings import read_layer
from tdiff.corpus import named
from tdiff.errors import TdiffError, unknown
from tdiff.formatting import size
from tdiff.remote import copy, data, install, known, place, wheel
from tdiff.remote.link import ConnectionLost, Link
from tdiff.runs import lookup
from tdiff.runs.run import ROOT, check_free
from tdiff.schema import Layer
from tdiff.visible import visible
from tdiff.watch.sources.address import Address

if TYPE_CHECKING:
    from tdiff.commands.train import Request

_FAILED, _INTERRUPTED = 1, 130
_ATTEMPTS = 5
"""Connections that are tried for one copy, as long as each brings something."""
_NOT_A_FOLDER = Path("/dev/null")
_REPORT = ("  watch ", "  attach ", "  follow ", "  stop ", "  log ")
"""How the lines of `--detach` begin that are true on the other machine only."""


def start(request: Request, submit: Callable[[place.Place, Request, Plan], None]) -> None:
    """Do what `--on` asks; `submit` hands the training to Slurm.

    Raises TdiffError for bad input, and for what the other machine lacks.
    """
    where = place.parse(str(request.on))
    if request.resume is not None:
        raise TdiffError("--on starts a run; tdiff resume ssh://host/folder/checkpoints/RUN resumes one")
    if request.run is not None:
        check_free(request.run, _NOT_A_FOLDER)  # only its form: the name may be taken on this machine
    if request.sbatch and not where.slurm:
        raise TdiffError("--sbatch is an option of --on slurm:// and slurm+ssh://")
    if request.detach is not None and where.slurm:
        raise TdiffError("--detach is not for Slurm: a job has a session of its own")
    plan = Plan(request)
    if where.slurm:
        submit(where, request, plan)
        return
    assert where.address is not None
    plan.collect()
    with prepared(where.address, plan, request.run) as link:
        begin(link, where.address, [*plan.arguments(request.run), f"--detach={request.detach or 'auto'}"])


class Plan:
    """The settings of a training, and what it reads from this machine."""

    def __init__(self, request: Request) -> None:
        """Raises TdiffError for invalid settings."""
        self._request = request
        self.config: Layer = read_layer(lookup.find_config(request.config)) if request.config else {}
        self.layers = request.layers()
        preset = request.preset or next(
            (str(layer["preset"]) for layer in (*reversed(self.layers), self.config) if layer.get("preset")), ""
        )
        if preset and preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        data.check([PRESETS.get(preset, {}), self.config, *self.layers])
        self.sets: list[data.Set] = []
        self.config_name = request.config or ""

    @property
    def shakespeare(self) -> bool:
        """Whether Tiny Shakespeare is read."""
        layers = [self.config, *self.layers]
        sources = [s for layer in layers if isinstance(t := layer.get("data"), dict) for s in t.get("sources", ())]
        return "shakespeare" in sources or not data.has_source(layers)

    @property
    def stem(self) -> str:
        """A name for the run, if it has none yet."""
        from tdiff.commands.train_run import folder_name

        tables = [t for layer in (self.config, *self.layers) if isinstance(t := layer.get("data"), dict)]
        sources = next((t["sources"] for t in reversed(tables) if t.get("sources")), ["shakespeare"])
        return folder_name(str(sources[0]).rstrip("/"), self._request.preset or "run")

    def collect(self) -> None:
        """Find the files to copy, and name them as they are named there. Raises TdiffError for one that is missing."""
        with progress_bar("checksums of the data", of_bytes=True) as progress:
            collector = data.Collector(progress)
            self.config = collector.rewritten(self.config)
            self.layers = [collector.rewritten(layer) for layer in self.layers]
            self.sets = collector.sets
        if self.config:
            self.config_name = f".tdiff/configs/{hashlib.sha256(self.toml()).hexdigest()[:16]}.toml"

    def toml(self) -> bytes:
        """The config file."""
        import tomli_w

        return tomli_w.dumps(self.config).encode()

    def arguments(self, run: str | None) -> list[str]:
        """The arguments of tdiff that start the training."""
        words = ["train"]
        for flag, value in (("config", self.config_name), ("preset", self._request.preset), ("run", run)):
            words += [f"--{flag}={value}"] if value else []
        words += ["--per-class"] * self._request.per_class
        for layer in self.layers:
            words += [f"--set={name}={_toml(value)}" for name, value in _leaves(layer)]
        return words


@contextmanager
def prepared(address: Address, plan: Plan, run: str | None, *, for_other_machines: bool = False) -> Iterator[Link]:
    """A connection to a folder that has this version of tdiff and the data; see `install.install`.

    Raises TdiffError if the run exists.
    """
    with ExitStack() as stack:
        link = stack.enter_context(Link(address, create=True))
        check_new(link, run)
        say(f"{link.host}: {link.root} ({size(int(link.facts['free']))} free)")
        with _last_line() as on_line:
            found = install.install(link, wheel.build(), say, on_line, for_other_machines=for_other_machines)
        for line in found.lines():
            say(line)
        if plan.config:
            link.ask("put", plan.toml(), path=plan.config_name, mode=0o644)
        if plan.shakespeare and not link.ask("exists", paths=[".tdiff/shakespeare.txt"])["there"][0]:
            with suppress(named.Absent):  # then the other machine fetches it
                text, _ = named.shakespeare(None)
                link.ask("put", text, path=".tdiff/shakespeare.txt", mode=0o644)
        for files in plan.sets:
            link = _copy(link, files, stack)
        check_new(link, run)
        yield link


def check_new(link: Link, run: str | None) -> None:
    """Raise TdiffError if the folder has a run of that name."""
    if run is not None and link.ask("exists", paths=[f"{place.RUNS}/{run}"])["there"][0]:
        url = place.of_run(link.address, run)
        raise TdiffError(
            f"run {run!r} exists already on {link.host} ({link.root}/{place.RUNS}/{run}) and is not overwritten; "
            f"resume it with tdiff resume {shlex.quote(url)}, or choose another --run"
        )


def _copy(link: Link, files: data.Set, stack: ExitStack) -> Link:
    """Copy a set; a connection that breaks is made again while that brings something. Returns the connection."""
    reached, attempts = -1, 0
    while True:
        now = reached

        def note(done: int, total: int) -> None:
            nonlocal now
            now = done
            if bar:
                bar(done, total)

        try:
            with progress_bar(f"copying {visible(files.label)}", of_bytes=True) as bar:
                copied = copy.upload(link, files, note)
            break
        except ConnectionLost as lost:
            attempts = attempts + 1 if now <= reached else 1
            if attempts >= _ATTEMPTS:
                raise TdiffError(f"{lost}; the same command continues the copy") from None
            reached = max(now, reached)
            say(f"{lost}; connecting again")
            link = stack.enter_context(Link(link.address))
    count = f"{len(files.files):,} file{'s' * (len(files.files) != 1)}, {size(files.size)}"
    say(f"{files.label}: {count}, {'copied' if copied else 'there already'}")
    return link


def begin(link: Link, address: Address, arguments: list[str]) -> None:
    """Run `tdiff ARGUMENTS`, which contain `--detach`, and print how to reach the run from here."""
    attach: list[str] = []

    def take(stream: str, line: str) -> None:
        if line.startswith("  attach "):
            attach.append(line.removeprefix("  attach ").strip())
        elif stream == "stderr" and not line.startswith(_REPORT):
            say(line)

    try:
        code, out, _ = link.run([place.TDIFF, *arguments], take)
    except KeyboardInterrupt:
        say(f"if the run has started, it continues; tdiff runs {shlex.quote(place.url(address, place.RUNS))} lists it")
        sys.exit(_INTERRUPTED)
    if code:
        say(f"the training did not start on {link.host}")
        sys.exit(code if 0 < code < 128 else _FAILED)
    run = out.strip().splitlines()[-1].removeprefix(f"{ROOT}/")
    url = place.of_run(address, run)
    known.remember(run, url)
    word = shlex.quote(url)
    lines = [f"  watch   tdiff watch {word}"]
    lines += [f"  attach  {ssh_words(address, '-t')} {shlex.quote(command)}" for command in attach]
    lines += [f"  stop    tdiff stop {word}     (saves first)", f"  resume  tdiff resume {word}"]
    lines += [f"  fetch   tdiff fetch {word}"]
    say("\n".join(lines))
    print(visible(url), flush=True)


def ssh_words(address: Address, *options: str) -> str:
    """The beginning of an ssh command for the user to type."""
    port = ["-p", str(address.port)] if address.port else []
    return shlex.join(["ssh", *options, *port, f"{address.user}@{address.host}" if address.user else address.host])


def say(text: str) -> None:
    """Print a message on stderr."""
    print(visible(text), file=sys.stderr, flush=True)


@contextmanager
def _last_line() -> Iterator[install.Say]:
    """A function that shows the newest line of pip, in place, where stderr is a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status("") as status:
        yield lambda line: status.update(Text(visible(line)[: console.width - 4]))


def _leaves(layer: Layer) -> Iterator[tuple[str, Any]]:
    """The settings of a layer as pairs of a dotted name and a value."""
    for name, value in layer.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", leaf) for inner, leaf in _leaves(value))
        else:
            yield name, value


def _toml(value: Any) -> str:
    """A value as TOML, which JSON without nulls is."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
