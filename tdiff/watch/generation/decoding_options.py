"""The user's decoding options in a live generation, laid over the model's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tdiff.config.decoding import SAMPLING, DecodeSettings, laid_over, readers
from tdiff.errors import TdiffError
from tdiff.protocol.messages import Ready

_THRESHOLD_STEP = 0.05


class DecodingOptions:
    """Options that may change between texts, and the settings that result from them."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options: dict[str, Any] = dict(options)
        """Fields of DecodeSettings that the user set."""
        self.settings = DecodeSettings(**self.options)
        """The resulting settings, for display; the model's process computes its own."""
        self._model: Ready | None = None

    def use_model(self, model: Ready | None) -> None:
        """Lay the options over the settings of this model; None: no model is loaded, and the settings stay for now."""
        self._model = model
        if model is not None:
            self.settings = self._settings_of(self.options)

    def replace(self, options: Mapping[str, Any]) -> None:
        """Use these options instead. Raises TdiffError if a value is invalid; then nothing changes."""
        options = dict(options)
        self.settings = self._settings_of(options)
        self.options = options

    def set(self, name: str, value: Any) -> None:
        """Set one field of DecodeSettings. Raises TdiffError if the value is invalid; then nothing changes."""
        self.replace(self.options | {name: value})

    @property
    def has_threshold(self) -> bool:
        """Whether the decoder reads a threshold."""
        return self.settings.decoder in readers("threshold")

    def shifted_threshold(self, steps: int) -> float:
        """The confidence threshold moved by `steps` times 0.05, within 0..1."""
        return round(min(1.0, max(0.0, self.settings.threshold + steps * _THRESHOLD_STEP)), 4)

    @property
    def overrides_autoregressive(self) -> bool:
        """Whether the model's own decoder is autoregressive and the options name another one."""
        default = self._model.decoding.get("decoder") if self._model else None
        return default == "autoregressive" and self.options.get("decoder", default) != default

    @property
    def sampling(self) -> dict[str, Any]:
        """The options that mean the same with every decoder."""
        return {name: value for name, value in self.options.items() if name in SAMPLING}

    def _settings_of(self, options: Mapping[str, Any]) -> DecodeSettings:
        """The options over the model's settings. Raises TdiffError if a value is invalid."""
        defaults = self._model.decoding if self._model else {}
        try:
            return DecodeSettings(**laid_over(defaults, options, self._model.presets if self._model else {}))
        except (TdiffError, TypeError):  # the model's settings come from a version of tdiff with other fields
            return DecodeSettings(**options)
