"""The manifest of a folder that holds one model per class: classes.json. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tdiff.errors import TdiffError
from tdiff.files import write_atomic

MANIFEST = "classes.json"
"""The file's name, beside the folders of the runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerClassRun:
    """One run per class, all trained with the same settings."""

    classes: tuple[str, ...]
    runs: tuple[str, ...]
    """The folder of each class's run, relative to the manifest's folder."""
    counts: tuple[int, ...]
    """Training texts of each class."""
    settings: dict[str, Any]
    """The settings that all runs share; see `Settings`."""
    temperature: float = 0.0
    """Calibration temperature, as in `Origin.temperature`; 0: not calibrated."""
    texts: int = 0
    """Held-out texts used for the calibration; 0: not calibrated."""

    @classmethod
    def read(cls, folder: Path) -> PerClassRun:
        """Read the manifest of a folder. Raises TdiffError if it is damaged or names runs outside the folder."""
        path = folder / MANIFEST
        try:
            values: dict[str, Any] = json.loads(path.read_text("utf-8"))
            values |= {name: tuple(values[name]) for name in ("classes", "runs", "counts")}
            manifest = cls(**values)
            names = (*manifest.classes, *manifest.runs)
            consistent = len(set(manifest.classes)) == len(set(manifest.runs)) == len(manifest.counts) > 1
            consistent = consistent and 0 <= manifest.temperature < math.inf and min(manifest.counts) >= 0
            if not consistent or not all(isinstance(name, str) for name in names) or sum(manifest.counts) <= 0:
                raise ValueError("its classes, runs and counts do not match")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise TdiffError(f"{str(path)!r} is damaged: {error}") from None
        if any(name != Path(name).name or name in ("", ".", "..") for name in manifest.runs):
            raise TdiffError(f"{str(path)!r} names runs outside its folder")
        return manifest

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder."""
        write_atomic(folder / MANIFEST, json.dumps(asdict(self), indent=2, ensure_ascii=False).encode())
