"""`--race` of `tdiff watch`: which settings race."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tdiff.config.decoding import DECODERS
from tdiff.errors import TdiffError
from tdiff.watch.options import Options


def with_racers(options: Options) -> Options:
    """The options, with targets that are settings as further racers: `--race "topk k=4" "remdm steps=64"`.

    Raises TdiffError for settings that are not valid, and where no view is shown.
    """
    if not options.race:
        return options
    if options.once or options.as_json or options.wait or options.all_runs or options.classify:
        raise TdiffError("--race is shown live; it takes no --once, --json, --wait, --all or --classify")
    if options.others:
        raise TdiffError('--race takes one --model; name another one in its settings: --race "model=NAME"')
    racers = [target for target in options.targets if _names_settings(target)]
    targets = [target for target in options.targets if target not in racers]
    options = dataclasses.replace(options, race=(*options.race, *racers), targets=targets)

    from tdiff.commands.watch_models import check_model
    from tdiff.watch.generation.race import entries

    for entry in entries(options.race):
        if entry.model is not None:
            check_model(entry.model)
    return options


def _names_settings(target: str) -> bool:
    """Whether a target is a decoder with options, rather than a file or a run of that name."""
    first = (target.split() or [""])[0]
    return (first in DECODERS or "=" in first) and "://" not in target and not Path(target).exists()
