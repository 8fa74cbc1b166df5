"""`tdiff train --on slurm://`: write a batch script and submit it, here or on another machine."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tdiff.commands import on_host
from tdiff.commands.external import output_of
from tdiff.commands.on_host import Plan, say
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.remote import known, place, slurm_job
from tdiff.remote.link import Link
from tdiff.remote.place import Place
from tdiff.remote.slurm_job import Job
from tdiff.runs import run as runs
from tdiff.visible import visible, visible_line

if TYPE_CHECKING:
    from tdiff.commands.train import Request

_TIMEOUT = 120.0


def submit(where: Place, request: Request, plan: Plan) -> None:
    """Submit the training. Raises TdiffError for bad input and for what sbatch reports."""
    options = slurm_job.options(request.sbatch, where.partition)
    if where.address is None:
        _here(request, plan, options)
    else:
        _there(where, request, plan, options)


def _here(request: Request, plan: Plan, options: tuple[tuple[str, str], ...]) -> None:
    if "-" in request.data:
        raise TdiffError("--on with --data -: a job has no stdin; save the text to a file first")
    if not shutil.which("sbatch"):
        raise TdiffError(
            "slurm:// submits on this machine, which has no sbatch; slurm+ssh://host/folder submits on another one"
        )
    if request.run is not None:
        runs.check_free(request.run)
    name = request.run or runs.free_name(plan.stem)
    folder = Path.cwd()
    job = Job(str(folder), sys.executable, str(runs.ROOT / name), name, tuple(plan.arguments(name)), options)
    path = folder / place.JOBS / name
    write_atomic(path / "job.sh", job.script().encode("utf-8", "surrogateescape"))
    number = submitted(job.command(str(path / "job.sh"), str(path / "log")))
    write_atomic(path / "id", f"{number}\n".encode())
    _report(number, name, options, f"tdiff watch slurm:{number}", f"tdiff stop {shlex.quote(name)}", str(path / "log"))
    print(visible(str(runs.ROOT / name)), flush=True)


def _there(where: Place, request: Request, plan: Plan, options: tuple[tuple[str, str], ...]) -> None:
    address = where.address
    assert address is not None
    plan.collect()
    with on_host.prepared(address, plan, request.run, for_other_machines=True) as link:
        if not link.has("sbatch"):
            raise TdiffError(f"{link.host} has no sbatch; ssh:// starts the training on that machine itself")
        name = request.run or _free(link, plan.stem)
        start, root = tuple(plan.arguments(name)), link.root
        environment = [("TDIFF_STATE", f"{root}/.tdiff/state")]
        if link.ask("exists", paths=[".tdiff/shakespeare.txt"])["there"][0]:
            environment.append(("TDIFF_SHAKESPEARE", f"{root}/.tdiff/shakespeare.txt"))
        job = Job(root, f"{root}/{place.PYTHON}", f"{place.RUNS}/{name}", name, start, options, tuple(environment))
        path = f"{place.JOBS}/{name}"
        link.ask("put", job.script().encode("utf-8", "surrogateescape"), path=f"{path}/job.sh", mode=0o755)
        log = f"{root}/{path}/log"
        code, out, last = link.run(job.command(f"{root}/{path}/job.sh", log))
        if code:
            raise TdiffError(
                f"{link.host}: sbatch refuses the job: {visible_line((last or ['it printed nothing'])[-1])}"
            )
        number = slurm_job.job_id(out)
        link.ask("put", f"{number}\n".encode(), path=f"{path}/id", mode=0o644)
    url = place.of_run(address, name)
    known.remember(name, url)
    job_url = place.url(address).removesuffix(place.url(address).partition("://")[2].partition("/")[2])
    _report(
        number,
        name,
        options,
        f"tdiff watch {shlex.quote(f'{job_url}slurm:{number}')}",
        f"tdiff stop {shlex.quote(url)}",
        log,
        fetch=f"tdiff fetch {shlex.quote(url)}",
    )
    print(visible(url), flush=True)


def _report(
    number: str, name: str, options: tuple[tuple[str, str], ...], watch: str, stop: str, log: str, fetch: str = ""
) -> None:
    limit = dict(options).get("time", "")
    bound = f"the limit of {limit}" if limit else "the time limit of the partition (--sbatch time=4:00:00 sets one)"
    lines = [f"{name} is job {number}: it saves before {bound}, goes back into the queue, and resumes"]
    lines.append(f"  watch   {watch}")
    lines.append(f"  stop    {stop}     (saves first)")
    lines += [f"  fetch   {fetch}"] if fetch else []
    lines.append(f"  log     {log}")
    say("\n".join(lines))


def _free(link: Link, stem: str) -> str:
    """`stem`, or the first of `stem-2`, ... that neither a run nor a job there has."""
    names = [stem, *(f"{stem}-{n}" for n in range(2, 200))]
    there = link.ask("exists", paths=[f"{place.RUNS}/{name}" for name in names])["there"]
    jobs = link.ask("exists", paths=[f"{place.JOBS}/{name}" for name in names])["there"]
    return next(
        (name for name, a, b in zip(names, there, jobs, strict=True) if not a and not b), f"{stem}-{os.getpid()}"
    )


def submitted(command: list[str]) -> str:
    """Run sbatch here. Returns the number of the job. Raises TdiffError for what it reports."""
    return slurm_job.job_id(output_of(command, "sbatch refuses the job", _TIMEOUT))
