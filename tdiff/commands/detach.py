"""`--detach`: start a training in a session of its own, wait until it has started, and say how to reach it."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tdiff
from tdiff.commands import detached, sessions
from tdiff.commands.sessions import KINDS, Session
from tdiff.errors import TdiffError
from tdiff.files import CannotWrite
from tdiff.runs.run import ROOT, Run
from tdiff.visible import visible

AUTO = "auto"
CHOICES = (AUTO, *KINDS)
FLAG = "--detach"
_PAUSE, _LOOK = 0.1, 1.0
"""Seconds between looks at the files of the session, and at the session itself."""
_PATIENCE = 60.0
"""Seconds that a run whose folder is known may take until its first loss."""
_REMINDER = 5.0
_FAILED, _INTERRUPTED = 1, 130
_PYTHON = (sys.executable, "-P")  # -P: a folder called tdiff in the current one is not imported


def start(kind: str, arguments: Sequence[str], name: str, program: Sequence[str] = ()) -> None:
    """Run `tdiff` with these arguments, which contain `--detach`, in a session of that kind; `name`: of the run, or "".

    Returns when the training has started. Exits with the code of a training that failed, after its error. `program`
    replaces `python -m tdiff`.
    """
    _check(kind)
    folder = Path(tempfile.mkdtemp(prefix="tdiff-"))  # which only this user may read
    log = ROOT.absolute() / f".detached-{secrets.token_hex(4)}.log"
    try:
        log.parent.mkdir(exist_ok=True)
        log.touch()
    except OSError as error:
        raise CannotWrite(log, error) from error
    try:
        session = _begin(
            kind, name or "run", folder, log, [*(program or [*_PYTHON, "-m", "tdiff"]), *without_flag(arguments)]
        )
        _wait(session, folder, log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if log.exists() and not log.stat().st_size:
            log.unlink()


def without_flag(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--detach` and its value."""
    left, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == FLAG:
            if rest and rest[0] in CHOICES:
                del rest[0]
        elif not argument.startswith(f"{FLAG}="):
            left.append(argument)
    return left


def _check(kind: str) -> None:
    if kind != AUTO and not sessions.available(kind):
        others = [other for other in KINDS if sessions.available(other)]
        raise TdiffError(f"{FLAG} {kind}: {kind} is not installed; this machine has {', '.join(others)}")


def _begin(kind: str, name: str, folder: Path, log: Path, command: Sequence[str]) -> Session:
    """Start the session; with `auto` the next kind is tried where one cannot be started."""
    package = str(Path(tdiff.__file__).resolve().parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    spec = {
        "command": list(command),
        "cwd": str(Path.cwd()),
        "log": str(log),
        "environment": environment,
    }
    # The session's own environment may lack the package, so it is named by its folder.
    code = (
        f"import sys; sys.path.insert(0, {package!r}); from tdiff.commands import detached; sys.exit(detached.main())"
    )
    supervisor = [*_PYTHON, "-c", code, str(folder)]
    kinds = [kind] if kind != AUTO else [k for k in KINDS if sessions.available(k)]
    for number, chosen in enumerate(kinds):
        file = os.open(folder / detached.SPEC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            json.dump(spec, out)
        session = sessions.session(chosen, f"tdiff-{name}")
        try:
            session.start(supervisor)
        except TdiffError as error:
            if number == len(kinds) - 1:
                raise
            _say(f"{error}; trying {kinds[number + 1]}")
            continue
        return session
    raise AssertionError("setsid is always there")


def _wait(session: Session, folder: Path, log: Path, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait until the training has started or ended, and report it."""
    remind, look, patience = clock() + _REMINDER, clock() + _LOOK, float("inf")
    try:
        while True:
            status, over = detached.read(folder / detached.STATUS), detached.read(folder / detached.OVER)
            if over:
                _report_over(session, status, over, log)
                return
            if "first_step" in status or clock() > patience:
                _report(session, status)
                return
            if clock() > look:
                look = clock() + _LOOK
                if not session.alive() and not detached.read(folder / detached.OVER):
                    _fail(_FAILED, "the session ended before the training began", log)
            if "run" in status and patience == float("inf"):
                patience = clock() + _PATIENCE
            if clock() > remind:
                remind = float("inf")
                _say("waiting for the first step; Ctrl-C ends this wait, and the run continues")
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        status = detached.read(folder / detached.STATUS)
        if "run" in status:
            _report(session, status)
        else:
            _say(f"the run continues in {_where(session)}; its log is {_short(log)}")
        sys.exit(_INTERRUPTED)


def _report(session: Session, status: dict[str, Any]) -> None:
    """Say that the run has started, and how to watch, attach and stop it; its folder is printed on stdout."""
    run = Path(str(status["run"]))
    called = shlex.quote(Run(Path(_short(run))).called if run.is_relative_to(ROOT.absolute()) else str(run))
    progress = status.get("first_step", "which has not taken its first step yet")
    log = _short(run / detached.LOG)
    lines = [f"{run.name} trains in {_where(session)}, process {status.get('pid')}: {progress}"]
    lines.append(f"  watch   tdiff watch {called}")
    lines.append(f"  attach  {session.attach}" if session.attach else f"  follow  tail -f {shlex.quote(log)}")
    lines.append(f"  stop    tdiff stop {called}     (saves first; tdiff resume {called} continues)")
    lines.append(f"  log     {log}")
    _say("\n".join(lines))
    print(visible(_short(run)), flush=True)


def _report_over(session: Session, status: dict[str, Any], over: dict[str, Any], log: Path) -> None:
    """Report a training that has ended already: finished, or failed with its error."""
    code, run = int(over.get("code", _FAILED)), status.get("run")
    if code:
        known = Path(str(run)) / detached.LOG if run else log
        _fail(code, str(over.get("error") or ""), known, str(over.get("last") or ""))
    _say(f"{Path(str(run)).name} has ended already: {over.get('last')}")
    print(visible(_short(Path(str(run)))), flush=True)


def _fail(code: int, error: str, log: Path, last: str = "") -> NoReturn:
    """Print the error of a training that failed, and exit with its code."""
    if error.startswith("tdiff: "):
        _say(error)
        if log.name != detached.LOG:
            log.unlink(missing_ok=True)  # it has nothing else to say
    else:
        _say(f"tdiff: the training failed (exit code {code}): {error or last or 'it printed nothing'}")
        _say(f"its log is {_short(log)}")
    sys.exit(code if 0 < code < 128 else _FAILED)


def _where(session: Session) -> str:
    return f"{session.kind} session {session.name}" if session.attach else "a session without a terminal"


def _short(path: Path) -> str:
    """A path, relative to the current folder if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)
