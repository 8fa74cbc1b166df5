"""Experiment trackers with packages of their own, which are imported only for `--track`.

How each finds its server, account and project is its own affair (WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI, ...).
A resumed run goes on in the tracker's run that it began; which one that is stands in `trackers.json` of the run folder.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.protocol.events import End, Event, Sample
from tdiff.runs.run import Run
from tdiff.runs.trackers.base import measurements, step_of

PROJECT = "tdiff"
"""The project or experiment, where the user's environment names none."""


class WandbLike:
    """W&B, and Trackio, which takes the same calls."""

    def __init__(self, name: str, run: Run, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._library = load(name)
        self._ended_well = False
        self._id = _remembered(run, name, uuid.uuid4().hex[:8])
        where = {"id": self._id, "dir": str(run.path)} if name == "wandb" else {}
        with _quiet_stdout():
            self._library.init(
                project=os.environ.get(f"{name.upper()}_PROJECT") or PROJECT,
                name=run.name if name == "wandb" else f"{run.name}-{self._id}",  # Trackio finds a run by its name
                config=dict(settings),
                resume="allow",
                **where,
            )
        if name == "wandb":
            # W&B drops values of a step that it has passed, as those after a resume are: `step` is a value like others.
            self._library.define_metric("*", step_metric="step")

    def record(self, event: Event) -> None:
        """Log the numbers or the text of a record."""
        self._ended_well = isinstance(event, End) and event.reason != "nan"
        values: dict[str, Any] = dict(measurements(event))
        if isinstance(event, Sample):
            values = {"sample": event.text}
        if not values:
            return
        if self.name == "wandb":
            self._library.log({**values, "step": step_of(event)})
        else:
            with _quiet_stdout():
                self._library.log(values, step=step_of(event))

    def close(self) -> None:
        """Finish the tracker's run."""
        with _quiet_stdout():
            if self.name == "wandb" and not self._ended_well:
                self._library.finish(exit_code=1)  # W&B then calls the run failed
            else:
                self._library.finish()


class Mlflow:
    """MLflow, by its tracking functions."""

    name = "mlflow"

    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        self._library = load(self.name)
        if not os.environ.get("MLFLOW_EXPERIMENT_NAME") and not os.environ.get("MLFLOW_EXPERIMENT_ID"):
            self._library.set_experiment(PROJECT)
        known = _read(run).get(self.name)
        active = self._library.start_run(run_id=known, run_name=None if known else run.name)
        if known is None:
            _remember(run, self.name, active.info.run_id)
            self._library.log_params(_flat(settings))
        self._status = "FAILED"  # unless the last record says otherwise

    def record(self, event: Event) -> None:
        """Log the numbers or the text of a record."""
        if isinstance(event, Sample):
            self._library.log_text(event.text, f"samples/{event.step:08}.txt")
        elif isinstance(event, End):
            self._status = {"finished": "FINISHED", "stopped": "KILLED"}.get(event.reason, "FAILED")
        elif values := {name: value for name, value in measurements(event).items() if math.isfinite(value)}:
            self._library.log_metrics(values, step=step_of(event), timestamp=round(1000 * event.time))

    def close(self) -> None:
        """End the tracker's run."""
        self._library.end_run(self._status)


def load(name: str) -> ModuleType:
    """The package of a tracker. Raises TdiffError, with the command that installs it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TdiffError(
            f"--track {name} requires another package ({error}): pip install 'tdiff-lm[{name}]', or, where pipx "
            f"installed tdiff, pipx inject tdiff-lm {name}"
        ) from None


def _quiet_stdout() -> AbstractContextManager[object]:
    """What the library prints goes to stderr: stdout has the records of the run."""
    return redirect_stdout(sys.stderr)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _file(run: Run) -> Path:
    return run.path / "trackers.json"


def _read(run: Run) -> dict[str, str]:
    try:
        known = json.loads(_file(run).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}


def _remember(run: Run, name: str, value: str) -> None:
    write_atomic(_file(run), json.dumps(_read(run) | {name: value}).encode())


def _remembered(run: Run, name: str, new: str) -> str:
    """What the run folder says of a tracker; `new`, from now on, where it says nothing."""
    known = _read(run).get(name)
    if known is None:
        _remember(run, name, new)
    return known or new
