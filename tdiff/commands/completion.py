"""Shell completion of decoders with their options, models, runs and configurations; it reads names, never weights."""

from __future__ import annotations

import typing
from collections.abc import Callable, MutableMapping, Sequence

from tdiff.config.decoding import DECODERS, FIELDS, HINTS, SCHEDULES, By, readers


def of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion from fixed choices."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(choices, incomplete)

    return complete


def decoders(incomplete: str) -> list[str]:
    """A decoder's name, or the next option of `remdm remask=loop eta=...` with values that it may have.

    An option comes with values as soon as it is the only one that fits: a shell closes the quote after a single answer.
    """
    before, space, word = incomplete.rpartition(" ")
    if not space:
        return _beginning(sorted(DECODERS), word)
    decoder = before.split()[0].removeprefix("decoder=")
    options = [f.name.replace("_", "-") for f in FIELDS[1:] if decoder in readers(f.name)]
    name, equals, value = word.partition("=")
    names = [name] if equals else _beginning(options, word)
    if len(names) == 1 and names[0] in options:
        words = [f"{names[0]}={v}" for v in _beginning(_values(decoder, names[0].replace("-", "_")), value)]
    else:
        words = [f"{option}=" for option in names]
    return [f"{before} {word}" for word in words]


def _values(decoder: str, name: str) -> list[str]:
    """Values of a field of DecodeSettings: its choices, else its defaults, else common ones."""
    if choices := SCHEDULES if name == "schedule" else typing.get_args(HINTS[name]):
        return list(choices)
    default = DECODERS[decoder].defaults.get(name, next(f.default for f in FIELDS if f.name == name))
    if isinstance(default, By):
        return [f"{value:g}" for value in default.values.values()]
    return [f"{default:g}"] if default else ["8", "16", "64"]


def models(incomplete: str) -> list[str]:
    """Models by name: runs here that have weights, and the models of the package."""
    from tdiff.runs.lookup import model_names

    return _beginning(model_names(), incomplete)


def runs(incomplete: str) -> list[str]:
    """Runs by name, which can be resumed or watched."""
    from tdiff.runs.lookup import run_names

    return _beginning(run_names(), incomplete)


def configs(incomplete: str) -> list[str]:
    """Configurations by name."""
    from tdiff.runs.lookup import config_names

    return _beginning(config_names(), incomplete)


def runs_and_configs(incomplete: str) -> list[str]:
    """What `tdiff config` shows."""
    return sorted({*runs(incomplete), *configs(incomplete)})


def pages(incomplete: str) -> list[str]:
    """Pages of the guide."""
    from tdiff import guide

    return _beginning(list(guide.pages()), incomplete)


def _beginning(names: Sequence[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def join_equals(environ: MutableMapping[str, str]) -> None:
    """Make one word of `--option = value`, into which bash splits `--option=value`, in the words to complete."""
    words, current = environ.get("COMP_WORDS", "").split("\n"), environ.get("COMP_CWORD", "")
    if not current.isdecimal():
        return
    cursor, joined = int(current), list[str]()
    for number, word in enumerate(words):
        if word == "=" and joined and joined[-1].startswith("--"):
            if number == int(current):
                joined.append("")  # nothing is typed of the value yet
            elif number < int(current):
                cursor -= 1
        else:
            joined.append(word)
    environ.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(cursor))
