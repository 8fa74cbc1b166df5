"""`tdiff resume RUN`: the same as `tdiff train --resume RUN`, for any run that is known by its name."""

from __future__ import annotations

from dataclasses import dataclass

from tdiff.commands import train
from tdiff.config.options import argument, option
from tdiff.errors import TdiffError
from tdiff.runs.named import named_run

EXAMPLES = (
    "tdiff resume tale",
    "tdiff resume tale --steps 20000",
    "tdiff resume ssh://me@gpu01/runs/checkpoints/tale",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    run: str = argument(
        help="The run: its name, its folder, or ssh://host/folder/checkpoints/RUN.", metavar="RUN", complete="runs"
    )
    steps: int | None = option(None, "Train to this step, also past the run's end.")
    minutes: float | None = option(None, "Train for so many minutes in all, instead of --steps.")
    epochs: float | None = option(None, "Passes over the data in all, instead of --steps.")
    batch_size: int | None = option(None, "Sequences per batch, with --accumulate for the same number per step.")
    accumulate: int | None = option(None, "Batches per optimizer step.")
    keep_last: int | None = option(None, "Number of saves to retain from now on.")
    on_nan: str | None = option(
        None,
        "If a loss or gradient is not finite: stop, skip the step, or rewind to the last save.",
        metavar="[stop|skip|rewind]",
    )
    detach: str | None = option(
        None,
        "Train in a session of its own, as train --detach does.",
        choices=("auto", "tmux", "screen", "setsid"),
        metavar="[tmux|screen|setsid]",
        bare="auto",
    )


def run(request: Request) -> None:
    """Resume the run. Raises TdiffError where there is nothing to resume."""
    from tdiff.commands import on_run

    if request.run.startswith("ssh://"):
        budgets = {"steps": request.steps, "minutes": request.minutes, "epochs": request.epochs}
        budgets |= {"batch-size": request.batch_size, "accumulate": request.accumulate}
        options = [f"--{name}={value}" for name, value in budgets.items() if value is not None]
        on_run.resume(request.run, [*options, f"--detach={request.detach or 'auto'}"])
        return
    if (number := on_run.local_job(request.run)) and on_run.is_queued_here(number):
        raise TdiffError(f"run {request.run!r} is job {number} of Slurm, which resumes it by itself")
    folder = str(named_run(request.run))
    train.run(
        train.Request(
            resume=folder,
            steps=request.steps,
            minutes=request.minutes,
            epochs=request.epochs,
            batch_size=request.batch_size,
            accumulate=request.accumulate,
            keep_last=request.keep_last,
            on_nan=request.on_nan,
            detach=request.detach,
        )
    )
