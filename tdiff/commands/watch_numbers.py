"""The numbers of a log that the user names by hand: `--loss`, `--step`, `--val`, `--pattern` and `--forget`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tdiff.errors import TdiffError
from tdiff.watch import choices
from tdiff.watch.formats.choice import Choice
from tdiff.watch.options import Options

if TYPE_CHECKING:
    from tdiff.watch.follow import Watched
    from tdiff.watch.targets import Target


def named(targets: Sequence[Target], options: Options) -> list[Target]:
    """The targets with what the user says of their numbers, now or earlier. Raises TdiffError for an invalid choice."""
    given = _given(options)
    given.check()
    if options.forget and given:
        raise TdiffError(f"--forget drops the names of these files; got {given.words} too")
    return [_with_choice(target, given, options) for target in targets]


def remember(targets: Sequence[Target], options: Options) -> None:
    """Store the names of the command line for the files of the targets."""
    given = _given(options)
    for target in targets if given else ():
        if choices.remember(target, given):
            print(f"tdiff: {target.label}: {given.words} is remembered; --forget drops it", file=sys.stderr)


def check(watched: Sequence[Watched], options: Options) -> None:
    """Raises TdiffError where a log that has been read does not have a number that the command line names."""
    for followed in watched:
        if not (missing := followed.missing):
            continue
        if _given(options):
            raise TdiffError(f"{followed.target.label}: {missing}")
        print(f"tdiff: {followed.target.label}: {missing}; --forget drops the remembered names", file=sys.stderr)


def _given(options: Options) -> Choice:
    return Choice(loss=options.loss, step=options.step, val=options.val, pattern=options.pattern)


def _with_choice(target: Target, given: Choice, options: Options) -> Target:
    if given:
        if target.run is not None:
            raise TdiffError(f"{target.label!r} is a tdiff run, whose numbers have names; {given.words} has no use")
        return replace(target, choice=given)
    if options.forget:
        forgotten = choices.forget(target)
        done = "its remembered names are dropped" if forgotten else "no names are remembered for it"
        print(f"tdiff: {target.label}: {done}", file=sys.stderr)
        return target
    choice = choices.remembered(target)
    if choice is not None:
        print(f"tdiff: {target.label}: read with {choice.words}, as remembered; --forget drops it", file=sys.stderr)
    return replace(target, choice=choice)
