"""tdiff: train, study and watch masked-diffusion text models in a terminal.

Public names are resolved on first use (PEP 562), so that importing the package costs nothing: `tdiff.generate`
brings torch with it, `tdiff.TdiffError` does not.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "TdiffError": "tdiff.errors",
    "Settings": "tdiff.config.settings",
    "DecodeSettings": "tdiff.config.decoding",
    "denoise": "tdiff.core.diffusion.denoise",
    "decoder": "tdiff.core.diffusion.decoders",
    "train": "tdiff.core.training.loop",
    "likelihood": "tdiff.core.diffusion.objective",
    "Schedule": "tdiff.core.diffusion.schedules",
    "load_model": "tdiff.core.models.load",
    "generate": "tdiff.core.diffusion.generate",
    "show": "tdiff.report.notebook",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
