"""`tdiff train`: the options, as settings of a training run or of one run per class."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields

from tdiff import ranks
from tdiff.config.decoding import SCHEDULES
from tdiff.config.options import TEXT_FIELD_HELP, option
from tdiff.config.presets import PRESETS
from tdiff.config.settings import BUDGETS, parse_assignment
from tdiff.errors import TdiffError
from tdiff.schema import Layer

EXAMPLES = (
    "tdiff train --data mytexts --tokenizer bpe:300 --minutes 5 --run tale",
    "tdiff train --preset char-10m --set train.lr=5e-4 --run big",
    "tdiff train --classes --data reviews.jsonl --label-field label --run reviews",
    "tdiff train --resume tale --steps 20000",
    "tdiff train --data mytexts --run tale --on ssh://me@gpu01/home/me/runs",
)
_CHANGEABLE = frozenset({"keep_last", "on_nan", "batch_size", "accumulate"})
"""Settings that a resume may change besides the budget; of the last two not the product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    config: str | None = option(
        None, "TOML file of settings, or the name of one in configs/.", panel="Run", metavar="FILE", complete="configs"
    )
    preset: str | None = option(
        None,
        "Preset of settings, which changes the defaults below.",
        panel="Run",
        choices=tuple(PRESETS),
        shown="default: by device and --init",
    )
    run: str | None = option(
        None,
        "Name of the run's folder under checkpoints/.",
        panel="Run",
        metavar="NAME",
        shown="default: by data and preset",
    )
    resume: str | None = option(
        None,
        "Resume a stopped run, or, with --steps, train past its end.",
        panel="Run",
        metavar="RUN",
        complete="runs",
    )
    detach: str | None = option(
        None,
        "Train in a session of its own, which survives this terminal: tmux if installed, else screen, else setsid.",
        panel="Run",
        choices=("auto", "tmux", "screen", "setsid"),
        metavar="[tmux|screen|setsid]",
        bare="auto",
    )
    on: str | None = option(
        None,
        "Train on another machine, or as a job of Slurm: ssh://user@host/folder, slurm:// or slurm+ssh://host/folder.",
        panel="Run",
        metavar="ADDRESS",
    )
    sbatch: Sequence[str] = option(
        (), "With Slurm: an option of sbatch, such as time=4:00:00; repeatable.", panel="Run", metavar="NAME=VALUE"
    )
    init: str | None = option(
        None,
        "Initialize from a model: a folder, a run, or a name on the Hugging Face hub.",
        panel="Run",
        complete="models",
        setting="train.init",
    )
    set_: Sequence[str] = option((), "Any other setting; tdiff config lists them.", panel="Run", metavar="NAME=VALUE")
    data: Sequence[str] = option(
        (),
        "Files, folders, globs, - for stdin, shakespeare or python; repeatable.",
        panel="Data",
        metavar="SOURCE",
        setting="data.sources",
        shown="default: shakespeare",
    )
    text_field: str | None = option(
        None,
        TEXT_FIELD_HELP,
        panel="Data",
        metavar="NAME",
        setting="data.text_field",
    )
    eval_data: Sequence[str] = option(
        (),
        "Held-out text; repeatable.",
        panel="Data",
        metavar="SOURCE",
        setting="data.evaluation",
        shown="default: the last tenth of the data",
    )
    tokenizer: str | None = option(
        None, "char, bpe:SIZE, ascii, or a tokenizer.json.", panel="Data", metavar="TOKENIZER", setting="data.tokenizer"
    )
    classes: bool = option(False, "Condition the model on the class of each text.", flag="--classes", panel="Data")
    label_field: str | None = option(
        None,
        "Field of .jsonl and .csv rows that holds the class.",
        panel="Data",
        metavar="NAME",
        setting="data.label_field",
    )
    per_class: bool = option(False, "Train one model per class, one after another.", flag="--per-class", panel="Data")
    steps: int | None = option(
        None, "Optimizer steps.", panel="Training", setting="train.steps", shown="default: by preset"
    )
    minutes: float | None = option(
        None,
        "Minutes of training, instead of --steps.",
        panel="Training",
        setting="train.minutes",
        shown="default: by preset",
    )
    epochs: float | None = option(
        None, "Passes over the data, instead of --steps.", panel="Training", setting="train.epochs"
    )
    batch_size: int | None = option(None, "Sequences per batch.", panel="Training", setting="train.batch_size")
    accumulate: int | None = option(
        None, "Batches per optimizer step, one after another.", panel="Training", setting="train.accumulate"
    )
    lr: float | None = option(None, "Peak learning rate of AdamW.", panel="Training", setting="train.lr")
    optimizer: str | None = option(
        None, "Optimizer.", panel="Training", setting="train.optimizer", metavar="[adamw|muon]"
    )
    fsdp: bool | None = option(
        None,
        "Divide a pretrained model among the processes of torchrun; AdamW only.",
        flag="--fsdp/--no-fsdp",
        panel="Training",
        setting="train.fsdp",
    )
    seed: int | None = option(
        None, "Seed of weights, data order and masks.", panel="Training", setting="train.seed", shown="default: 0"
    )
    device: str | None = option(
        None, "Device.", panel="Training", setting="train.device", metavar="[auto|cuda|mps|cpu]"
    )
    sample_every: int | None = option(
        None, "Steps between samples; 0: no samples.", panel="Training", setting="train.sample_every"
    )
    eval_every: int | None = option(
        None, "Steps between evaluations; 0: only at the end.", panel="Training", setting="train.eval_every"
    )
    track: Sequence[str] = option(
        (),
        "Also send records to wandb, trackio or mlflow; repeatable.",
        panel="Training",
        metavar="TRACKER",
        setting="train.track",
    )
    keep_last: int | None = option(
        None,
        "Number of saves to retain; the model of an earlier one is RUN:STEP.",
        panel="Training",
        setting="train.keep_last",
    )
    on_nan: str | None = option(
        None,
        "If a loss or gradient is not finite: stop, skip the step, or rewind to the last save.",
        panel="Training",
        setting="train.on_nan",
        metavar="[stop|skip|rewind]",
    )
    window: int | None = option(None, "Context length in tokens.", panel="Model and objective", setting="model.window")
    time_conditioning: bool | None = option(
        None,
        "Condition the model on the mask ratio.",
        flag="--time-conditioning/--no-time-conditioning",
        panel="Model and objective",
        setting="model.time_conditioning",
    )
    timesteps: int | None = option(
        None,
        "Time steps of the objective; 0: continuous time.",
        shown="default: 0",
        panel="Model and objective",
        setting="objective.timesteps",
    )
    schedule: str | None = option(
        None,
        "Masking schedule.",
        panel="Model and objective",
        setting="objective.schedule",
        metavar=f"[{'|'.join(SCHEDULES)}]",
    )
    context: int | None = option(
        None,
        "Maximum number of prompt tokens left unmasked per training sequence.",
        panel="Model and objective",
        setting="objective.context",
    )
    context_mode: str | None = option(
        None,
        "Prompt length per sequence: random (0..context) or fixed.",
        panel="Model and objective",
        setting="objective.context_mode",
        metavar="[random|fixed]",
    )
    mask_rate_per: str | None = option(
        None,
        "Sample the diffusion time per sequence (row) or once per batch (batch).",
        panel="Model and objective",
        setting="objective.mask_rate_per",
        metavar="[row|batch]",
    )

    def layers(self) -> list[Layer]:
        """The settings that the options set, then each of --set."""
        layer: Layer = {}
        if self.classes or self.per_class:
            layer["data"] = {"rows": "padded"}
            if self.init is None:  # a text to classify may hold characters that no text of the corpus did
                layer["data"]["unknown"] = "token"
            if self.classes:
                layer["data"]["classes"] = True
        for f in fields(self):
            value = getattr(self, f.name)
            if (setting := f.metadata.get("setting")) and value is not None and value != ():
                table, name = setting.split(".")
                layer.setdefault(table, {})[name] = list(value) if isinstance(value, tuple) else value
        return [layer, *map(parse_assignment, self.set_)]


def run(request: Request) -> None:
    """Start a run or a model per class, or resume one."""
    _train(request)
    if ranks.size() > 1:
        from tdiff.core.training import processes

        processes.leave()


def _train(request: Request) -> None:
    from tdiff.commands import train_per_class, train_run
    from tdiff.runs.lookup import find_per_class

    if request.on is not None:
        from tdiff.commands import on_host, on_slurm

        on_host.start(request, on_slurm.submit)
        return
    if request.sbatch:
        raise TdiffError("--sbatch requires --on slurm:// or --on slurm+ssh://host/folder")
    if request.detach is not None:
        _detach(request)
        return
    if request.resume is None and not request.per_class:
        train_run.start(request.config, request.preset, request.run, request.layers())
        return
    if request.resume is None:
        if request.classes:
            raise TdiffError(
                "set only one of --classes (one class-conditional model) and --per-class (a model per class)"
            )
        train_per_class.start(request.config, request.preset, request.run, request.layers())
        return
    layer = request.layers()[0]
    changes = {name: value for name, value in layer.get("train", {}).items() if name in BUDGETS | _CHANGEABLE}
    other = request.config or request.preset or request.run or request.set_
    if other or len(BUDGETS & changes.keys()) > 1 or layer != ({"train": changes} if changes else {}):
        raise TdiffError(
            "--resume uses the saved settings of the run; "
            "a resume may change --keep-last, --on-nan, one of --steps, --minutes, --epochs, and how --batch-size and "
            "--accumulate divide a step"
        )
    if (folder := find_per_class(request.resume)) is None:
        train_run.resume(request.resume, changes)
    elif changes:
        raise TdiffError(
            f"{request.resume} has one model per class: resume one of them with --resume {request.resume}/CLASS"
        )
    else:
        train_per_class.resume(folder)


def _detach(request: Request) -> None:
    """Do the same in a session of its own."""
    from tdiff.commands import detach
    from tdiff.runs import lookup
    from tdiff.runs.run import check_free

    if ranks.size() > 1:
        raise TdiffError("--detach is for one process: start torchrun itself in tmux or screen")
    if "-" in request.data:
        raise TdiffError("--detach with --data -: a run in its own session has no stdin; save the text to a file first")
    if request.resume is not None:
        folder = lookup.find_per_class(request.resume) or lookup.find_run(request.resume).path
        detach.start(str(request.detach), sys.argv[1:], folder.name)
        return
    if request.run is not None:
        check_free(request.run)
    detach.start(str(request.detach), sys.argv[1:], request.run or "")
