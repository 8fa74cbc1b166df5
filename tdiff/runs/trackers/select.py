"""The trackers that the settings of a run name."""

from __future__ import annotations

from contextlib import suppress

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.runs.run import Run
from tdiff.runs.trackers import services
from tdiff.runs.trackers.base import Tracker
from tdiff.runs.trackers.tensorboard import TensorBoard


def check(settings: Settings) -> None:
    """Raise TdiffError if the package of a tracker is missing, before anything is written."""
    for name in settings.train.track:
        services.load(name)


def open_trackers(run: Run, settings: Settings) -> list[Tracker]:
    """The trackers of a run, ready for its records. Raises TdiffError if one of them cannot begin."""
    opened: list[Tracker] = [TensorBoard(run.path)] if settings.train.tensorboard else []
    layer = settings.as_layer()
    for name in settings.train.track:
        try:
            opened.append(services.Mlflow(run, layer) if name == "mlflow" else services.WandbLike(name, run, layer))
        except Exception as error:  # whatever the tracker's library raises
            for tracker in opened:
                with suppress(Exception):
                    tracker.close()
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TdiffError(f"--track {name} could not begin: {reason[0]}") from None
    return opened
