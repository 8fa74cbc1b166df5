"""Scripts that pretend to be Slurm's programs: they answer from files that a test writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_SCONTROL = """#!/bin/sh
echo "scontrol $*" >>'{folder}/calls'
[ "$1 $2" = "show job" ] || exit 9
if [ -e '{folder}/down' ]; then
    echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2
    exit 1
fi
cat "{folder}/jobs/$3" 2>/dev/null && exit
echo 'slurm_load_jobs error: Invalid job id specified' >&2
exit 1
"""
_SQUEUE = """#!/bin/sh
echo "squeue $*" >>'{folder}/calls'
case "$*" in
*'%i|%T|%j'*) cat '{folder}/queue' 2>/dev/null ;;
*) sed 's/^\\([^|]*\\)|[^|]*|\\(.*\\)/\\1 (\\2)/' '{folder}/queue' 2>/dev/null ;;
esac
exit 0
"""
_SACCT = """#!/bin/sh
echo "sacct $*" >>'{folder}/calls'
cat "{folder}/ended/$2" 2>/dev/null
exit 0
"""


@dataclass(frozen=True)
class PretendedSlurm:
    """A Slurm whose jobs are files in a folder."""

    folder: Path

    def show(
        self,
        job_id: str,
        state: str,
        output: Path | str | None,
        *,
        name: str = "train",
        reason: str = "None",
        ran: str = "00:10:00",
        limit: str = "01:00:00",
        node: str = "gpu01",
        starts: str = "2026-11-28T10:00:05",
        exit_code: str = "0:0",
        more: str = "",
    ) -> None:
        """What `scontrol show job` prints for a job from now on."""
        lines = [
            f"JobId={job_id.partition('_')[0]} {more}JobName={name}",
            "   UserId=me(1000) GroupId=me(1000) MCS_label=N/A",
            "   Priority=4294901757 Nice=0 Account=(null) QOS=normal",
            f"   JobState={state} Reason={reason} Dependency=(null)",
            f"   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={exit_code}",
            f"   RunTime={ran} TimeLimit={limit} TimeMin=N/A",
            "   SubmitTime=2026-11-28T10:00:00 EligibleTime=2026-11-28T10:00:00",
            f"   StartTime={starts} EndTime=Unknown Deadline=N/A",
            "   Partition=gpu AllocNode:Sid=login:1234",
            "   ReqNodeList=(null) ExcNodeList=(null)",
            f"   NodeList={node}",
            "   Command=/home/me/my job.sh",
            "   WorkDir=/home/me",
        ]
        if output is not None:
            lines += [f"   StdErr={output}", "   StdIn=/dev/null", f"   StdOut={output}"]
        new = self.folder / "new"
        new.write_text("\n".join(lines) + "\n   Power=\n\n")
        new.replace(self.folder / "jobs" / job_id)  # a program that reads it at this moment finds it whole

    def forget(self, job_id: str) -> None:
        """`scontrol` no longer knows a job."""
        (self.folder / "jobs" / job_id).unlink()

    def account(self, job_id: str, row: str) -> None:
        """What `sacct` prints for a job: JobID|State|ExitCode|ElapsedRaw|TimelimitRaw|NodeList|JobName|WorkDir."""
        (self.folder / "ended" / job_id).write_text(row + "\n")

    def queue(self, *rows: str) -> None:
        """What `squeue` prints: id|state|name."""
        (self.folder / "queue").write_text("".join(f"{row}\n" for row in rows))

    def fail(self) -> None:
        """The controller does not answer from now on."""
        (self.folder / "down").touch()

    def recover(self) -> None:
        """The controller answers again."""
        (self.folder / "down").unlink()

    @property
    def calls(self) -> list[str]:
        """The commands so far."""
        return (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []


def pretend_slurm(folder: Path) -> PretendedSlurm:
    """Install the programs in `folder`/bin, which is to be put on PATH."""
    for part in ("bin", "jobs", "ended"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for program, script in (("scontrol", _SCONTROL), ("squeue", _SQUEUE), ("sacct", _SACCT)):
        path = folder / "bin" / program
        path.write_text(script.replace("{folder}", str(folder)))
        path.chmod(0o755)
    return PretendedSlurm(folder)


def path_with(slurm: PretendedSlurm) -> str:
    """A PATH that begins with the pretended programs."""
    return f"{slurm.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
