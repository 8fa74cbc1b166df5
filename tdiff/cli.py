"""The command line: the commands by name, `main`, and what an error prints.

stdout is data; stderr is for messages. A TdiffError is one line on stderr and exit code 2. A command's options are the
fields of the dataclass that its `run` takes. Its module is imported when the command is used, so that help and
completion are fast.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import io
import os
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from tdiff.errors import OutOfMemory, TdiffError, is_out_of_memory, out_of_memory_text, unknown

BAD_INPUT = 2
_FAILED = 1
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Command:
    """A module with a function `run`, which takes a dataclass of options, and with `EXAMPLES` for the help."""

    module: str
    summary: str
    hidden: bool = False
    shares_work: bool = False
    """Whether it can be started in several processes, or does so for some options and refuses the others itself."""


COMMANDS = {
    "train": Command("train", "Train a model; settings, log and weights go to checkpoints/RUN/.", shares_work=True),
    "generate": Command("generate", "Generate text: live on a terminal, plain text in a pipe.", shares_work=True),
    "eval": Command("evaluate", "Estimate the likelihood bound of a text, with its interval.", shares_work=True),
    "compare": Command("compare", "Compare models or settings: calls, speed, text quality.", shares_work=True),
    "classify": Command("classify", "Classify texts by Bayes' rule on likelihood bounds.", shares_work=True),
    "import": Command("convert", "Convert a checkpoint from another project."),
    "export": Command("export", "Make a GIF, page, SVG or video of a text or a curve."),
    "watch": Command("watch", "Watch generation and training live (q quits, ? shows the keys)."),
    "models": Command("models", "List models: shipped, runs, cached; size, bound, text."),
    "runs": Command("runs", "List runs: state, step, loss, trend, ETA, host, process, size."),
    "stop": Command("stop", "Stop a run; it saves first."),
    "fetch": Command("fetch", "Bring a run on another machine, or its model, to this one."),
    "resume": Command("resume", "Resume a stopped run (train --resume).", shares_work=True),
    "rm": Command("rm", "Remove the folder of a run, after a question."),
    "config": Command("config", "Print or check the settings of a run or a config file."),
    "serve": Command("serve", "Serve a model over stdin and stdout for tdiff watch.", hidden=True),
    "guide": Command("guide", "Read the guide in the terminal."),
}


class _Commands(TyperGroup):
    """The commands; the module of one is imported when that one is used, not when all are listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """The command's name and summary alone, for lists."""
        if (command := COMMANDS.get(cmd_name)) is None:
            return None
        return TyperCommand(cmd_name, help=command.summary, hidden=command.hidden, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command with its options. Raises TdiffError for an unknown name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise unknown("command", args[0], [name for name, command in COMMANDS.items() if not command.hidden])
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if command is not None and name is not None else None, rest


def load(name: str) -> TyperCommand:
    """The command of that name, with all its options."""
    from tdiff.commands.options import build

    module = importlib.import_module(f"tdiff.commands.{COMMANDS[name].module}")
    options = next(iter(typing.get_type_hints(module.run).values()))
    coloured = sys.stdout.isatty()
    run = module.run if COMMANDS[name].shares_work else functools.partial(_run_alone, name, module.run)
    return build(name, options, run, COMMANDS[name].summary, module.EXAMPLES, coloured=coloured)


def _run_alone(name: str, run: Callable[[Any], None], request: Any) -> None:
    """Run a command that does not share its work. Raises TdiffError in each of several processes."""
    from tdiff import ranks

    ranks.check_alone(name)
    run(request)


def _version(requested: bool) -> None:
    if requested:
        from tdiff import __version__

        print(f"tdiff {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app = typer.Typer(
    name="tdiff",
    cls=_Commands,
    help="Train, study and watch masked-diffusion text models in a terminal.",
    callback=_common,
    rich_markup_mode=None,  # Rich costs 90 ms, which only the help of a command spends
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    if "COMP_WORDS" in os.environ:
        from tdiff.commands.completion import join_equals

        join_equals(os.environ)
    try:
        sys.exit(app(args=sys.argv[1:] or ["--help"], standalone_mode=False) or 0)
    except OutOfMemory as error:
        _say_of_one(error, str(error))
        sys.exit(BAD_INPUT)
    except TdiffError as error:
        _say_once(error)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has left: there is nothing to print, and nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_FAILED)
    except ConnectionError as error:
        if _is_shared(error):
            _say_once(error)
        else:  # another process is lost, which one of those that are left prints
            _say(f"tdiff: {error}")
        sys.exit(_FAILED)
    except OSError as error:  # a full disk, a folder that was removed
        _say_of_one(error, str(error))
        sys.exit(_FAILED)
    except Exception as error:
        if is_out_of_memory(error):
            _say_of_one(error, out_of_memory_text(error))
            sys.exit(BAD_INPUT)
        if (text := _usage_error(error)) is None:
            _note_failure()
            raise
        _say_once(text)
        sys.exit(BAD_INPUT)


def _usage_error(error: Exception) -> str | None:
    """The message for a usage error of Typer, which would print four lines; None for another error.

    The module of its class differs between versions of Typer, so it is recognized by its attributes.
    """
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    if hasattr(error, "possibilities"):
        option, similar = getattr(error, "option_name", ""), error.possibilities or ()
        nearest = difflib.get_close_matches(option, similar, n=1)
        message = f"unknown option {option!r}" + (f"; did you mean {nearest[0]}?" if nearest else "")
    else:
        message = format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
    command = getattr(getattr(error, "ctx", None), "command_path", "tdiff")
    return f"{message} ({command} --help)"


def _say_once(error: object) -> None:
    """Print the error, which all processes that torchrun started have, in the first of them."""
    from tdiff import ranks

    if ranks.talks():
        _say(f"tdiff: {error}")
    else:
        ranks.wait_for_the_first()


def _say_of_one(error: Exception, text: str) -> None:
    """Print an error that one of several processes has had, once.

    If it has been raised in all of them, the first process prints it; else only the first one to fail prints its own.
    """
    from tdiff import ranks

    if ranks.size() > 1:
        from tdiff.core.training import processes

        if _is_shared(error):
            _say_once(text)
            return
        if not processes.fails_first():
            return
        text = f"process {ranks.rank()} of {ranks.size()}: {text}"
    _say(f"tdiff: {text}")


def _is_shared(error: Exception) -> bool:
    """Whether all processes that torchrun started have raised the error."""
    from tdiff import ranks

    if ranks.size() == 1:
        return False
    from tdiff.core.training import processes

    return processes.raised_in_all(error)


def _note_failure() -> None:
    """Let the other processes know that this one says why it fails, so that they do not report its loss."""
    from tdiff import ranks

    if ranks.size() > 1:
        from tdiff.core.training import processes

        processes.fails_first()


def _say(text: str) -> None:
    from tdiff.visible import visible

    print(visible(text), file=sys.stderr)
