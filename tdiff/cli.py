"""The command line: parse, call, print. Each command imports its room inside the function, so that help is instant.

stdout is data, stderr is talk. A TdiffError is one line on stderr and exit code 2.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tdiff.errors import TdiffError

app = typer.Typer(
    name="tdiff",
    help="Train, study and watch masked-diffusion text models in a terminal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # Rich help costs 90 ms
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BAD_INPUT = 2
_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        app()
    except TdiffError as error:
        _say(f"tdiff: {error}")
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has left: nothing more to say, and nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _say(text: str) -> None:
    from tdiff.visible import visible

    print(visible(text), file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        from tdiff import __version__

        print(f"tdiff {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    config: Annotated[str | None, typer.Option(help="A TOML file of settings, or the name of one in configs/.")] = None,
    preset: Annotated[str | None, typer.Option(help="char-1m or char-10m; default by device.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Files, folders, globs, - for stdin, shakespeare or python; repeatable.")
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="Field of .jsonl and .csv rows that holds the text.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="char, bpe:SIZE, ascii, or a tokenizer.json.")] = None,
    timesteps: Annotated[int | None, typer.Option(help="Time steps of the objective; 0: continuous time.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="linear, cosine, cosine-seed, exponential or polynomial.")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Leading places a row protects from masking, at most.")] = None,
    context_mode: Annotated[str | None, typer.Option(help="random (0..context) or fixed.")] = None,
    time_conditioning: Annotated[
        bool | None, typer.Option("--time-conditioning/--no-time-conditioning", help="Tell the model the time.")
    ] = None,
    window: Annotated[int | None, typer.Option(help="Tokens the model sees at once.")] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many optimizer steps ...")] = None,
    minutes: Annotated[float | None, typer.Option(help="... or minutes ...")] = None,
    epochs: Annotated[float | None, typer.Option(help="... or passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of a batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of AdamW.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or muon.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, data order and masks.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu.")] = None,
    sample_every: Annotated[int | None, typer.Option(help="Steps between samples; 0: none.")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between evaluations; 0: only at the end.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder under checkpoints/.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")] = None,
) -> None:
    """Train a model; the loss, samples and weights go to checkpoints/RUN/."""
    from tdiff import training
    from tdiff.config import parse_assignment

    given = {
        "data": {"sources": data or None, "text_field": text_field, "tokenizer": tokenizer},
        "model": {"time_conditioning": time_conditioning, "window": window},
        "objective": {
            "timesteps": timesteps,
            "schedule": schedule,
            "context": context,
            "context_mode": context_mode,
        },
        "train": {
            "steps": steps,
            "minutes": minutes,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "optimizer": optimizer,
            "seed": seed,
            "device": device,
            "sample_every": sample_every,
            "eval_every": eval_every,
        },
    }
    layers: list[dict[str, Any]] = [
        {table: some for table, pairs in given.items() if (some := {k: v for k, v in pairs.items() if v is not None})},
        *map(parse_assignment, set_ or []),
    ]
    if resume is not None:
        if config or preset or run or any(layers):
            raise TdiffError("--resume goes on exactly as the run began; it takes no other option")
        training.resume(resume)
    else:
        training.start(config, preset, run, layers)
