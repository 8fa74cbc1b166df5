"""The batch script of a training under Slurm: before the time limit it saves, goes back into the queue, and resumes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tdiff.errors import TdiffError
from tdiff.patterns import lazy

_LEAD = 180
"""Seconds before the time limit at which the training is asked to save."""
_OPTION = lazy(r"(?:--)?([a-z][a-z0-9-]*)(?:=(.*))?", re.DOTALL)
_VALUE = lazy(r"[A-Za-z0-9_.,:;@%+/=~^&|!*()\[\]-]+")
_SIGNAL = lazy(r"B:(?:SIG)?USR1(?:@(\d+))?")
_OURS = frozenset(
    {"requeue", "no-requeue", "open-mode", "output", "error", "chdir", "job-name", "wrap", "array", "parsable"}
)
_SCRIPT = """\
#!/bin/sh
{directives}
# Written by `tdiff train --on`. Slurm sends USR1 {lead} seconds before the time limit; the training then saves and
# ends, the job goes back into the queue, and its next start resumes the run.
# `scancel --batch --signal=TERM JOB` saves and stops for good.
cd -- {folder} || exit
{exports}run={run}
finished() {{ tail -n 1 "$run/events.jsonl" 2>/dev/null | grep -q '"kind":"end".*"reason":"finished"'; }}
if finished; then
    exit 0
elif [ -e "$run/config.toml" ] || [ -e "$run/classes.json" ]; then
    set -- {resume}
else
    set -- {start}
fi
n=${{SLURM_GPUS_ON_NODE:-1}}
case $n in
*[!0-9]* | '' | 0 | 1) set -- {python} -P -m tdiff "$@" ;;
*) set -- {python} -P -m torch.distributed.run --nproc-per-node "$n" -m -- tdiff "$@" ;;
esac
again= stop= child=
ask() {{ [ -z "$child" ] || kill -TERM "$child" 2>/dev/null; }}
trap 'again=1; ask' USR1
trap 'again= stop=1; ask' TERM
"$@" &
child=$!
[ -z "$again$stop" ] || ask
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do  # a signal ends `wait` early
    wait "$child"
    code=$?
done
if [ "$again" ] && [ -e "$run/resume" ] && ! finished; then
    echo "tdiff: saved before the time limit; the job goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit
fi
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What a batch script does."""

    folder: str
    """The absolute path of the folder in which tdiff runs."""
    python: str
    run: str
    """The folder of the run, relative to `folder`."""
    name: str
    start: tuple[str, ...]
    """The arguments of tdiff that start the run."""
    options: tuple[tuple[str, str], ...] = ()
    """Options of sbatch, with "" for one without a value."""
    environment: tuple[tuple[str, str], ...] = ()

    def script(self) -> str:
        """The batch script, for a POSIX sh."""
        given = dict(self.options)
        given.setdefault("signal", f"B:USR1@{_LEAD}")
        lead = _SIGNAL.fullmatch(given["signal"])
        directives = ["--requeue", "--open-mode=append"]
        directives += [f"--{name}={value}" if value else f"--{name}" for name, value in given.items()]
        return _SCRIPT.format(
            directives="\n".join(f"#SBATCH {directive}" for directive in directives),
            lead=(lead[1] if lead else None) or 60,
            folder=shlex.quote(self.folder),
            exports="".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.environment),
            run=shlex.quote(self.run),
            resume=shlex.join(["train", "--resume", self.run]),
            start=shlex.join(self.start),
            python=shlex.quote(self.python),
        )

    def command(self, script: str, log: str) -> list[str]:
        """The words that submit the script, both with absolute paths; a `%` in the log's path is literal."""
        path = log.replace("%", "%%")
        name = re.sub(r"[^\w.-]", "-", self.name) or "tdiff"
        return ["sbatch", "--parsable", f"--job-name={name}", f"--chdir={self.folder}", f"--output={path}", script]


def options(words: Sequence[str], partition: str = "") -> tuple[tuple[str, str], ...]:
    """Parse options of sbatch as `time=4:00:00`, with or without dashes. Raises TdiffError for an invalid one."""
    found = {"partition": partition} if partition else {}
    for word in words:
        match = _OPTION.fullmatch(word)
        if not match or (match[2] is not None and not _VALUE.fullmatch(match[2])):
            raise TdiffError(f"--sbatch takes an option of sbatch, such as time=4:00:00 or gpus=1; got {word!r}")
        if match[1] in _OURS:
            raise TdiffError(f"--sbatch {match[1]}: tdiff sets this option itself, so that the job can resume")
        if match[1] == "signal" and not _SIGNAL.fullmatch(match[2] or ""):
            raise TdiffError(f"--sbatch signal takes B:USR1@SECONDS, which the batch script understands; got {word!r}")
        found[match[1]] = match[2] or ""
    return tuple(found.items())


def job_id(answer: str) -> str:
    """The number of the job in what `sbatch --parsable` prints. Raises TdiffError if there is none."""
    match = re.match(r"(\d+)(?:;|$)", answer.strip().splitlines()[-1] if answer.strip() else "", re.ASCII)
    if not match:
        raise TdiffError(f"sbatch printed no job number: {answer[:200]!r}")
    return match[1]
