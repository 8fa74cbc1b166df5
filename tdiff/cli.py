"""The command line: parse, call, print. Each command imports its room inside the function, so that help is instant.

stdout is data, stderr is talk. A TdiffError is one line on stderr and exit code 2.
"""

from __future__ import annotations

import inspect
import io
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tdiff.errors import TdiffError

app = typer.Typer(
    name="tdiff",
    help="Train, study and watch masked-diffusion text models in a terminal.",
    add_completion=False,
    rich_markup_mode=None,  # Rich help costs 90 ms
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BAD_INPUT = 2
_FAILED = 1
_INTERRUPTED = 130
_RULES = (
    "confidence, factor, entropy-bounded, klass, topk, schedule, margin, entropy, ancestral, remdm, first-hitting, "
    "random, refill or autoregressive. [the model's own, or confidence]"
)
# The options of a generation, which `generate` and `watch` share: fields of config.DecodeSettings.
_DECODING: dict[str, Any] = {
    "decoder": Annotated[str | None, typer.Option(help=_RULES)],
    "threshold": Annotated[float | None, typer.Option(help="confidence, klass: reveal what is so sure. [0.7, 0.9]")],
    "k": Annotated[int | None, typer.Option("--k", help="topk: places revealed a step. [a tenth of the length]")],
    "factor": Annotated[float | None, typer.Option(help="factor: how unsure places together may be. [1]")],
    "gamma": Annotated[float | None, typer.Option(help="entropy-bounded: nats that may be unsure together. [0.1]")],
    "kl": Annotated[float | None, typer.Option("--kl", help="klass: nats a place may move in a call. [0.01]")],
    "history": Annotated[int | None, typer.Option(help="klass: calls for which it must not. [2]")],
    "rank": Annotated[str | None, typer.Option(help="What comes first, by confidence, margin, entropy or top-k-mass.")],
    "remask": Annotated[str | None, typer.Option(help="remdm: cap, rescale, conf or loop. [cap]")],
    "eta": Annotated[float | None, typer.Option(help="remdm: the rate of masking again. [by --remask]")],
    "t_on": Annotated[float | None, typer.Option("--t-on", help="remdm, loop: masks again from here ... [0.55]")],
    "t_off": Annotated[float | None, typer.Option("--t-off", help="... to here. [0.05]")],
    "alpha_on": Annotated[float | None, typer.Option("--alpha-on", help="remdm, loop: the share revealed. [0.9]")],
    "block": Annotated[int | None, typer.Option(help="Finish blocks of so many places, from the left.")],
    "steps": Annotated[int | None, typer.Option(help="Steps of a scheduled decoder; a cap for the others.")],
    "schedule": Annotated[str | None, typer.Option(help="Masking schedule of the scheduled decoders. [linear]")],
    "temperature": Annotated[float | None, typer.Option(help="Of drawn tokens; 0 is greedy. [1]")],
    "top_k": Annotated[int | None, typer.Option("--top-k", help="Draw from the k likeliest tokens.")],
    "top_p": Annotated[float | None, typer.Option("--top-p", help="Draw from the likeliest share p (nucleus).")],
    "repetition_penalty": Annotated[
        float | None, typer.Option("--repetition-penalty", help="Power of the probability of what repeats. [1]")
    ],
    "repetition_span": Annotated[
        int | None, typer.Option("--repetition-span", help="Tokens that make a repetition. [1]")
    ],
}


def _with_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command those options in place of its last parameter, which is told the ones that were given."""
    own = inspect.signature(command, eval_str=True).parameters

    def run(**given: Any) -> None:
        chosen = {name: value for name in _DECODING if (value := given.pop(name)) is not None}
        command(**given, decoding=chosen)

    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in _DECODING.items()]
    mine = [parameter.replace(kind=keyword) for name, parameter in own.items() if name != "decoding"]
    run.__signature__ = inspect.Signature([*mine, *options])  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*mine, *options)}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def main() -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        sys.exit(app(args=sys.argv[1:] or ["--help"], standalone_mode=False) or 0)
    except TdiffError as error:
        _say(f"tdiff: {error}")
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has left: nothing more to say, and nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_FAILED)
    except OSError as error:  # a full disk, a folder that was taken away
        _say(f"tdiff: {error}")
        sys.exit(_FAILED)
    except Exception as error:
        # A usage error, of a class whose place differs between versions of typer. Left to itself typer says it in
        # four lines.
        say = getattr(error, "format_message", None)
        if say is None:
            raise
        _say(f"tdiff: {say()} (tdiff --help, or tdiff COMMAND --help)")
        sys.exit(BAD_INPUT)


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
    preset: Annotated[
        str | None, typer.Option(help="char-1m, char-10m or finetune; default by device and --init.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Files, folders, globs, - for stdin, shakespeare or python; repeatable.")
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="Field of .jsonl and .csv rows that holds the text.")] = None,
    classes: Annotated[
        bool, typer.Option("--classes", help="Tell the model the class of each text; a text a row.")
    ] = False,
    label_field: Annotated[
        str | None, typer.Option(help="Field of .jsonl and .csv rows that holds the class. [label]")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Train a model of each class, one after the other.")
    ] = False,
    eval_data: Annotated[
        list[str] | None, typer.Option(help="Text to hold out, in place of a tenth; repeatable.")
    ] = None,
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
    mask_rate_per: Annotated[
        str | None, typer.Option("--mask-rate-per", help="row, or batch: whether rows have times of their own.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Begin from this model: a folder, a run, or a pretrained one of the hub.")
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
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run that was stopped, or, with --steps, past its end."),
    ] = None,
) -> None:
    """Train a model; loss, samples, weights go to checkpoints/RUN/."""
    from tdiff.commands import train as training
    from tdiff.config.settings import BUDGETS, parse_assignment

    given: dict[str, dict[str, Any]] = {
        "data": {
            "sources": data or None,
            "text_field": text_field,
            "tokenizer": tokenizer,
            "label_field": label_field,
            "classes": True if classes else None,
            "rows": "padded" if classes or per_class else None,
            # A text to be classified may hold characters that no text of the corpus did.
            "unknown": "token" if (classes or per_class) and init is None else None,
            "evaluation": eval_data or None,
        },
        "model": {"time_conditioning": time_conditioning, "window": window},
        "objective": {
            "timesteps": timesteps,
            "schedule": schedule,
            "context": context,
            "context_mode": context_mode,
            "mask_rate_per": mask_rate_per,
        },
        "train": {
            "steps": steps,
            "minutes": minutes,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "optimizer": optimizer,
            "init": init,
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
        budget = {k: v for k, v in layers[0].get("train", {}).items() if k in BUDGETS}
        if config or preset or run or set_ or len(budget) > 1 or layers[0] != ({"train": budget} if budget else {}):
            raise TdiffError(
                "--resume goes on as the run began; of other options it takes a new end, one of --steps, --minutes and "
                "--epochs"
            )
        training.resume(resume, budget)
    elif per_class:
        from tdiff.commands import train_per_class as each

        if classes:
            raise TdiffError("--classes is one model that knows the classes, --per-class one of each: choose one")
        each.start(config, preset, run, layers)
    else:
        training.start(config, preset, run, layers)


@app.command()
@_with_decoding
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="Text to go on from; without it, an opening of the model's.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A model's folder, the name of a run, or a name on the Hugging Face hub.")
    ] = "shakespeare",
    length: Annotated[
        int,
        typer.Option(help="Tokens to generate (characters, for a model of characters); 0: up to the context length."),
    ] = 0,
    template: Annotated[
        str | None, typer.Option(help='Text with gaps to fill, by underscores or length: "To be, or ____ {12}".')
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="What comes before a gap of --length tokens ...")] = None,
    suffix: Annotated[str | None, typer.Option(help="... and what comes after it.")] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="Prompts and templates as JSON lines: a text for each ..."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="... to this file; begun already, it is gone on with.")
    ] = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="Write a text of this class; for models trained with --classes.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Push towards the class so many times as far as the model goes. [1]")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many texts.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Repeats a text; a new one each time otherwise.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of products on CUDA: float32, tf32 or bfloat16. A CPU keeps to float32.")
    ] = "float32",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Capture the model on CUDA: a slow first step, then fewer launches.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a text.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="The trace as JSON lines, a step at a time.")] = False,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the trace.")] = None,
    *,
    decoding: dict[str, Any],
) -> None:
    """Generate text; on a terminal, blocks resolve in place. In a pipe there is the text alone."""
    from tdiff.commands import generate as generation

    request = generation.Request(
        prompt=prompt,
        model=model,
        device=device,
        samples=samples,
        length=length,
        seed=seed,
        options=decoding,
        template=template,
        prefix=prefix,
        suffix=suffix,
        kind=class_,
        guidance=guidance,
        precision=precision,
        compile=compile_,
    )
    if input_ is None and output is None:
        generation.generate(request, as_json=as_json, stream=stream, trace=trace)
        return
    if input_ is None:
        raise TdiffError("--output takes the texts of --input FILE; for one text, redirect stdout")
    if stream or trace:
        raise TdiffError("--stream and --trace tell of one text; --input writes many")

    from tdiff.commands import generate_file

    generate_file.generate(request, input_, output)


@app.command("eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model's folder, the name of a run, or a name on the Hugging Face hub.")
    ],
    data: Annotated[list[str] | None, typer.Option(help="Text to evaluate on, as in train; repeatable.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="all, train, tuning or val. [all of --data; what the model's own corpus holds out]"),
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="Field of .jsonl and .csv rows that holds the text.")] = None,
    draws: Annotated[
        int | None, typer.Option(help="Masks drawn for each window. [4; more for a text of under 16 windows]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the masks.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of products on CUDA: float32, tf32 or bfloat16. A CPU keeps to float32.")
    ] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """The likelihood bound of a text under a model, with its interval."""
    import dataclasses

    from tdiff.commands.generate import check_precision
    from tdiff.commands.progress import fetching, progress_bar
    from tdiff.core import devices
    from tdiff.core.evaluation.likelihood import evaluate as score
    from tdiff.core.models.load import load_model
    from tdiff.visible import json_line

    check_precision(precision)
    chosen = devices.choose(device)
    with fetching(model) as fetched:
        loaded = load_model(model, chosen, fetched)
    devices.lower_precision(loaded.network, precision, chosen)
    with progress_bar("masking windows") as progress:
        result = score(loaded, data or (), split, text_field=text_field, draws=draws, seed=seed, progress=progress)
    if as_json:
        print(json_line({k: v if k == "tokens" else _rounded(v) for k, v in dataclasses.asdict(result).items()}))
        return
    low, high = result.interval_95
    interval = f"95% interval {low:.4f} to {high:.4f}" if high < math.inf else "too few draws to tell an interval"
    print(
        f"{result.nats_per_char:.4f} nats a character, {result.bits_per_char:.4f} bits a character\n"
        f"{result.nats_per_token:.4f} nats a token ({interval})\n"
        f"{result.tokens:,} tokens, {result.draws} draws, {result.seconds:.1f} s"
    )


def _rounded(value: Any) -> Any:
    return [round(v, 6) for v in value] if isinstance(value, (list, tuple)) else round(value, 6)


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders of models, or names of them.")],
    decoders: Annotated[str, typer.Option(help="Decoders with their usual settings, with commas between.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GRID", help='Such as "decoder=confidence threshold=0.5,0.7 temperature=0.7,1"; repeatable.'
        ),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Text whose held-out part gives the prompts. [the first model's corpus]")
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="Field of .jsonl and .csv rows that holds the text.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Whose prompts: val or tuning. [what the first model held out]")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A causal model, such as gpt2, to judge beside the n-gram.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="How many: 16 characters each, and 240 to write after it.")] = 64,
    seed: Annotated[int, typer.Option(help="Of all texts.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with all texts.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Save a report.")] = None,
) -> None:
    """Compare ways of generating: calls, speed, quality of the texts."""
    from tdiff.commands import compare as comparison

    request = comparison.Request(
        models=models,
        decoders=decoders,
        settings=settings or (),
        data=data or (),
        text_field=text_field,
        prompts=prompts,
        seed=seed,
        device=device,
        split=split,
        judge=judge,
    )
    comparison.compare(request, as_json=as_json, html=html)


@app.command()
def classify(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="What to classify.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that knows classes; or, repeated, CLASS=MODEL: one of each class."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="bound (masked models), ar (causal ones) or cloze (a word to fill in). [as the model is]"),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="Texts: .jsonl, .csv, lines, a folder of files, or - ..."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="... verdicts as JSON lines; begun already, gone on with.")
    ] = None,
    evaluate_: Annotated[bool, typer.Option("--evaluate", help="Judge the verdicts by the labels of --input.")] = False,
    limit: Annotated[int, typer.Option(help="Weigh so many of the input, drawn at random; 0: all.")] = 0,
    confidence: Annotated[
        float, typer.Option(help="Draw masks until a decision is so sure; 1: all of --max-draws.")
    ] = 0.99,
    max_draws: Annotated[int, typer.Option("--max-draws", help="Masks drawn for a text, at most.")] = 32,
    abstain_below: Annotated[
        float, typer.Option("--abstain-below", help="Say nothing where the probability is less.")
    ] = 0.0,
    explain: Annotated[bool, typer.Option("--explain", help="What each word adds to the log odds.")] = False,
    priors: Annotated[
        str | None, typer.Option(help="equal, or CLASS=SHARE,...: how common classes are. [as in training]")
    ] = None,
    words: Annotated[str | None, typer.Option(help='cloze: words of each class: "good=great,fine bad=awful".')] = None,
    pattern: Annotated[
        str | None, typer.Option(help="cloze: where the word goes. [{text} All in all, it was {mask}.]")
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of .jsonl and .csv rows that holds the text.")] = "text",
    label_field: Annotated[str | None, typer.Option(help="--evaluate: the field that holds the class. [label]")] = None,
    seed: Annotated[int, typer.Option(help="Of the masks, and of --limit.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="float32 or bfloat16, of products. [bfloat16 on cuda, else float32]")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a text, or of the evaluation.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Save what --explain or --evaluate shows.")] = None,
) -> None:
    """Tell the class of texts, by Bayes on their likelihood bounds."""
    from tdiff.commands import classify as classifying
    from tdiff.commands import classify_models

    chosen = classify_models.Request(
        models=model or (),
        method=method,
        priors=priors,
        words=words,
        pattern=pattern,
        device=device,
        precision=precision,
    )
    request = classifying.Request(
        texts=texts or (),
        model=chosen,
        input=input_,
        output=output,
        text_field=text_field,
        label_field=label_field,
        evaluate=evaluate_,
        limit=limit,
        confidence=confidence,
        max_draws=max_draws,
        abstain_below=abstain_below,
        explain=explain,
        seed=seed,
        as_json=as_json,
        html=html,
    )
    classifying.classify(request)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="Whose weights: tiny-diffusion.")],
    file: Annotated[Path, typer.Argument(help="The weights, such as diffusion_model.pt.")],
    out: Annotated[Path, typer.Argument(help="The model's folder, which must not exist yet.")],
    heads: Annotated[int | None, typer.Option(help="Attention heads, which the weights do not tell. [6]")] = None,
) -> None:
    """Make a model of tdiff from another program's weights."""
    from tdiff.commands import convert

    convert.bring(kind, file, out, heads)


@app.command()
@_with_decoding
def watch(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WHAT]...",
            help="Up to four: a run's folder or name, a log, a table, a trace, - or ssh://host/path. [the newest run]",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Which model writes; twice: two side by side. [the watched run's newest weights]"),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Text to go on from. [openings of the model's]")] = None,
    classify: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Watch the classes of this text race; repeatable.")
    ] = None,
    length: Annotated[int, typer.Option(help="Tokens to generate; 0: up to the context length.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Of the first text; those after it have the next rows.")] = None,
    device: Annotated[str, typer.Option(help="Where the model writes: auto, cuda, mps or cpu.")] = "auto",
    every: Annotated[float, typer.Option(help="Seconds between the end of a text and the next.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Print a snapshot as plain text and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The snapshot as JSON, a line for each run.")] = False,
    no_mouse: Annotated[bool, typer.Option("--no-mouse", help="Leave the mouse to the terminal.")] = False,
    color: Annotated[str, typer.Option(help="auto, truecolor, 256, 16 or none.")] = "",
    glyphs: Annotated[str, typer.Option(help="auto, block, space or ascii.")] = "",
    palette: Annotated[str, typer.Option(help="Colours of confidence: auto, dark, light or traffic.")] = "",
    theme: Annotated[str, typer.Option(help="One of textual's themes, such as nord or textual-light.")] = "",
    doctor: Annotated[
        bool, typer.Option("--doctor", help="What was found out about this terminal, and chosen.")
    ] = False,
    *,
    decoding: dict[str, Any],
) -> None:
    """Watch generation and training, live. q leaves, ? shows the keys."""
    from tdiff.commands import watch as watching
    from tdiff.watch.options import Options

    options = Options(
        targets=tuple(what or ()),
        model=model[0] if model else None,
        others=tuple(model[1:]) if model else (),
        prompt=prompt,
        classify=classify or (),
        length=length,
        seed=seed,
        device=device,
        decoding=decoding,
        every=every,
        once=once,
        as_json=as_json,
        doctor=doctor,
        mouse=not no_mouse,
        color=color,
        glyphs=glyphs,
        palette=palette,
        theme=theme,
    )
    watching.watch(options)


@app.command(hidden=True)
def serve(
    model: Annotated[
        str, typer.Option(help="A model's folder, the name of a run, or a name on the Hugging Face hub.")
    ] = "shakespeare",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    share: Annotated[
        bool, typer.Option("--share", help="Keep out of the way of a run on this machine: the CPU only, when idle.")
    ] = False,
) -> None:
    """Hold a model: requests as JSON lines on stdin, the lines of traces on stdout. `tdiff watch` starts it."""
    from tdiff.core.serve import serve as answer

    answer(model, device, share=share)


@app.command()
def guide(topic: Annotated[str | None, typer.Argument(help="A page; without it, the list of them.")] = None) -> None:
    """Read the guide in the terminal."""
    from tdiff import guide as pages

    pages.show(topic)
