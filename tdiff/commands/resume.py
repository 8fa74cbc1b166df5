"""`tdiff resume RUN`: the same as `tdiff train --resume RUN`, for any run that is known by its name."""

from __future__ import annotations

from dataclasses import dataclass

from tdiff.commands import train
from tdiff.config.options import argument, option
from tdiff.runs.named import named_run

EXAMPLES = ("tdiff resume tale", "tdiff resume tale --steps 20000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    run: str = argument(help="The run: its name, or its folder.", metavar="RUN", complete="runs")
    steps: int | None = option(None, "Train to this step, also past the run's end.")
    minutes: float | None = option(None, "Train for so many minutes in all, instead of --steps.")
    epochs: float | None = option(None, "Passes over the data in all, instead of --steps.")
    detach: str | None = option(
        None,
        "Train in a session of its own, as train --detach does.",
        choices=("auto", "tmux", "screen", "setsid"),
        metavar="[tmux|screen|setsid]",
        bare="auto",
    )


def run(request: Request) -> None:
    """Resume the run. Raises TdiffError where there is nothing to resume."""
    if request.run.startswith("ssh://"):
        from tdiff.commands import on_run

        budgets = {"steps": request.steps, "minutes": request.minutes, "epochs": request.epochs}
        options = [f"--{name}={value}" for name, value in budgets.items() if value is not None]
        on_run.resume(request.run, [*options, f"--detach={request.detach or 'auto'}"])
        return
    folder = str(named_run(request.run))
    train.run(
        train.Request(
            resume=folder,
            steps=request.steps,
            minutes=request.minutes,
            epochs=request.epochs,
            detach=request.detach,
        )
    )
