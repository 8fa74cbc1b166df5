"""rich's console for a terminal whose properties were detected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdiff.terminal.detect import COLOUR_SYSTEMS, Terminal

if TYPE_CHECKING:
    from rich.console import Console


def console(terminal: Terminal, **options: Any) -> Console:
    """A console with the colours of this terminal, on stdout unless `options` of rich's Console say otherwise."""
    from rich.console import Console

    return Console(
        color_system=COLOUR_SYSTEMS[terminal.colour],  # type: ignore[arg-type]
        no_color=terminal.colour == "none",
        highlight=False,
        **options,
    )
