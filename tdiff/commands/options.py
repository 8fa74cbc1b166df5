"""Typer commands made from dataclasses: a field is an option, its metadata the help, panel, choices and completion."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tdiff.commands import completion
from tdiff.config.decoding import DECODERS, FIELDS, HINTS, SCHEDULES, By, parse_decoder, readers
from tdiff.errors import TdiffError, unknown

_MAX_NAMED = 3
"""Maximum number of decoders that the help of an option names as those that read it."""
_METAVARS = {"models": "MODEL", "runs": "RUN", "configs": "CONFIG"}
"""What the help shows for a value that the shell completes with these names."""


class GroupedCommand(TyperCommand):
    """A command whose plain help has the sections that the panels of the coloured help have."""

    bare: Mapping[str, tuple[str, Sequence[str]]] = types.MappingProxyType({})
    """Flag -> the value that it has if none of its choices follows it, and the choices."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, in which the value of an option of `bare` may be absent."""
        given, positional = [*args], any(p.param_type_name == "argument" for p in self.params)
        for n, argument in enumerate(args):
            if argument in self.bare and "--" not in args[:n]:
                value, choices = self.bare[argument]
                following = args[n + 1] if n + 1 < len(args) else "-"
                if following not in choices and (positional or following.startswith("-")):
                    given[n] = f"{argument}={value}"
        return super().parse_args(ctx, given)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                panel = getattr(parameter, "rich_help_panel", None)
                is_argument = parameter.param_type_name == "argument"
                panels.setdefault(panel or ("Arguments" if is_argument else "Options"), []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, a line each."""
        if self.epilog:
            title, *examples = self.epilog.split("\n\n")
            formatter.write(f"\n{title}\n" + "".join(f"  {example}\n" for example in examples))


def build(
    name: str, request: type, run: Callable[[Any], None], summary: str, examples: Sequence[str], *, coloured: bool
) -> typer.core.TyperCommand:
    """The command `name`, whose options are the fields of `request` and which calls `run` with one."""
    parameters, collect = _parameters(request, coloured)

    def command(**values: Any) -> None:
        run(collect(values))

    parameters.sort(key=_order)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich" if coloured else None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    epilog = "\n\n".join(["Examples:", *examples]) if examples else None
    app.command(
        name,
        cls=GroupedCommand,
        help=_escaped(summary, coloured),
        epilog=_escaped(epilog, coloured) if epilog else None,
    )(command)
    made = typing.cast(GroupedCommand, typer.main.get_command(app))
    made.bare = {
        f"--{f.name}": (f.metadata["bare"], f.metadata["choices"])
        for f in dataclasses.fields(request)
        if f.metadata.get("bare")
    }
    return made


def _order(parameter: inspect.Parameter) -> tuple[bool, bool]:
    """What is required comes first, and the panel of advanced options last."""
    [info] = parameter.annotation.__metadata__
    return parameter.default is not inspect.Parameter.empty, info.rich_help_panel == "Advanced"


def _parameters(request: type, coloured: bool) -> tuple[list[inspect.Parameter], Callable[[dict[str, Any]], Any]]:
    """The parameters of a command for the fields of `request`, and a function that makes one of their values."""
    hints = typing.get_type_hints(request)
    parameters: list[inspect.Parameter] = []
    collectors: dict[str, Callable[[dict[str, Any]], Any]] = {}
    rests: dict[str, str] = {}
    for f in dataclasses.fields(request):
        if f.metadata.get("nested"):
            inner, collectors[f.name] = _parameters(hints[f.name], coloured)
            parameters += inner
        elif f.metadata.get("decoding"):
            parameters += [_decoding_parameter(field, coloured) for field in FIELDS]
            collectors[f.name] = _decoding
        elif f.metadata:
            parameters.append(_parameter(f, hints[f.name], coloured))
            if f.metadata.get("rest"):
                rests[f.name] = f.metadata["rest"]

    def collect(values: dict[str, Any]) -> Any:
        taken: dict[str, Any] = {name: collector(values) for name, collector in collectors.items()}
        for f in dataclasses.fields(request):
            value = values.get(f.name)
            if f.name in taken or f.name not in values:
                continue
            if f.name in rests and value:
                value, taken[rests[f.name]] = value[0], tuple(value[1:])
            elif f.name in rests:
                value = None
            elif isinstance(value, list) or (value is None and _repeats(hints[f.name])):
                value = tuple(value or ())
            taken[f.name] = value
        return request(**taken)

    return parameters, collect


def _parameter(f: dataclasses.Field[Any], hint: Any, coloured: bool) -> inspect.Parameter:
    """A parameter of Typer for a field."""
    data = f.metadata
    required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    repeats = _repeats(hint) or bool(data.get("rest"))
    kind: Any = list[str] if repeats else hint
    default: Any = None if repeats else f.default
    common: dict[str, Any] = {"help": _escaped(_help(f), coloured), "show_default": False}
    if metavar := data.get("metavar") or _metavar(hint, data.get("complete", "")):
        common["metavar"] = metavar
    if choices := data.get("choices", ()):
        common |= {"parser": _one_of(f.name, choices), "metavar": data.get("metavar") or f"[{'|'.join(choices)}]"}
        common["autocompletion"] = completion.of(choices)
    elif data.get("complete"):
        common["autocompletion"] = getattr(completion, data["complete"])
    elif not repeats and (number := _number_type(hint)):
        common["parser"] = _number(f.name, number)
    if data.get("argument"):
        name = f.name.upper()
        common["metavar"] = data["metavar"] or (name if required else f"[{name}]")
        info: Any = typer.Argument(**common)
    else:
        flag = data["flag"] or f"--{f.name.rstrip('_').replace('_', '-')}"
        info = typer.Option(flag, hidden=data["hidden"], rich_help_panel=data["panel"], **common)
    typed: Any = kind | None if repeats and not required else kind
    return inspect.Parameter(
        f.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[typed, info],
    )


def _metavar(hint: Any, complete: str = "") -> str:
    """What the help shows for the value of an option of this type; "" for a flag, which has no value."""
    if bool in _kinds(hint):
        return ""
    return _METAVARS.get(complete) or {int: "N", float: "NUMBER", None: "TEXT"}[_number_type(hint)]


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _number_type(hint: Any) -> type[int] | type[float] | None:
    """The type of numbers among the values of a type: int, float, or None."""
    return next((kind for kind in (int, float) if kind in _kinds(hint)), None)


def _repeats(hint: Any) -> bool:
    """Whether a field holds several values."""
    return typing.get_origin(hint) is not None and typing.get_origin(hint) not in (typing.Union, types.UnionType)


def _help(f: dataclasses.Field[Any]) -> str:
    """The help of a field, with its default."""
    text, shown = f.metadata["help"], f.metadata.get("shown", "")
    if setting := f.metadata.get("setting"):
        shown = shown or _default_of(setting)
    elif not shown and f.default not in (None, "", 0, (), dataclasses.MISSING) and f.default is not True:
        shown = f"default: {f.default}"
    return f"{text} [{shown}]" if shown else text


def _default_of(setting: str) -> str:
    """The default of a training setting, for the help."""
    from tdiff.config.settings import Settings

    value: Any = Settings()
    for name in setting.split("."):
        value = getattr(value, name)
    return f"default: {value}" if value not in ("", 0, (), False) else ""


def _one_of(name: str, choices: Sequence[str]) -> Callable[[str], str]:
    """A parser that takes one of the choices, and names the nearest for any other value."""

    def parse(text: str) -> str:
        if text not in choices:
            raise unknown(name.replace("_", "-"), text, choices)
        return text

    return parse


def _number(name: str, kind: type[int] | type[float]) -> Callable[[str], int | float]:
    """A parser that takes a number."""

    def parse(text: str) -> int | float:
        try:
            return kind(text)
        except ValueError:
            flag, what = name.replace("_", "-"), "a whole number" if kind is int else "a number"
            raise TdiffError(f"--{flag} takes {what}; got {text!r}") from None

    return parse


def _escaped(text: str, coloured: bool) -> str:
    """The text for Rich, where it is to print it: brackets are no markup."""
    return re.sub(r"\[", r"\\[", text) if coloured else text


def _decoding_parameter(f: dataclasses.Field[Any], coloured: bool) -> inspect.Parameter:
    """The option of a field of DecodeSettings; None where the user did not set it."""
    hint = HINTS[f.name]
    kind = hint if hint in (int, float) else str
    common: dict[str, Any] = {}
    if f.name == "decoder":
        text = (
            f"Decoder: {', '.join(DECODERS)}. With further options in quotes: "
            '"remdm remask=loop eta=0.02" (tdiff guide decoders). [default: the model\'s, or confidence]'
        )
        common = {"metavar": '"NAME [OPTION=VALUE]..."', "autocompletion": completion.decoders}
    else:
        text = _decoding_help(f)
        choices = SCHEDULES if f.name == "schedule" else typing.get_args(hint)
        common = {"metavar": _metavar(kind)}
        if number := _number_type(kind):
            common["parser"] = _number(f.name, number)
        if choices:
            common = {"metavar": f"[{'|'.join(choices)}]", "autocompletion": completion.of(choices)}
    flag = f"--{f.name.replace('_', '-')}"
    info = typer.Option(
        flag,
        help=_escaped(text, coloured),
        hidden=f.metadata["hidden"],
        rich_help_panel=f.metadata["panel"],
        show_default=False,
        **common,
    )
    return inspect.Parameter(
        f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _decoding_help(f: dataclasses.Field[Any]) -> str:
    names = readers(f.name)
    of = f"{', '.join(names)}: " if len(names) <= _MAX_NAMED else ""
    defaults = [
        f"{name} {default:g}"
        for name in names
        if (default := DECODERS[name].defaults.get(f.name)) is not None and not isinstance(default, By)
    ]
    shown = ", ".join(defaults) or ("" if f.default in (None, 0) else f"{f.default}")
    text: str = f.metadata["help"]
    return of + text + (f" [default: {shown}]" if shown and "[" not in text else "")


def _decoding(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of DecodeSettings that were set, by flags or within `--decoder`."""
    flags = {f.name: values[f.name] for f in FIELDS if f.name != "decoder" and values.get(f.name) is not None}
    spelled = parse_decoder(values["decoder"]) if values.get("decoder") is not None else {}
    for name in flags.keys() & spelled.keys():
        if flags[name] != spelled[name]:
            raise TdiffError(
                f"--decoder sets {name.replace('_', '-')} to {spelled[name]} and --{name.replace('_', '-')} to "
                f"{flags[name]}: set it once"
            )
    merged = spelled | flags
    return {f.name: merged[f.name] for f in FIELDS if f.name in merged}
