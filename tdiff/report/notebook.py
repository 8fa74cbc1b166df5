"""Generations in a notebook: a player for the steps of `tdiff.denoise`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from tdiff import __version__
from tdiff.draw.palettes import Theme
from tdiff.errors import TdiffError
from tdiff.protocol.trace import Cell, TraceEnd, TraceHeader, TraceStep
from tdiff.report.export import html
from tdiff.watch.generation.recording import Recording

if TYPE_CHECKING:
    from tdiff.core.diffusion.denoise import Step
    from tdiff.core.models.base import LoadedModel, Tokenizer


def _model_of(step: Step, model: LoadedModel | None) -> tuple[str, Tokenizer]:
    """The name and the tokenizer of the model that made a step."""
    from tdiff.core.models.load import loaded_as

    if model is not None:
        return model.name, model.tokenizer
    if step.made_by is None or (found := loaded_as(step.made_by[0])) is None:
        raise TdiffError(
            "the tokenizer of these steps is not known, since tdiff.load_model did not load their network: "
            "name the model, as in show(steps, model)"
        )
    return found


class Player:
    """A recorded generation that a notebook displays: play, scrub, keys, values under the pointer."""

    def __init__(self, recording: Recording, theme: str = "dark") -> None:
        """`theme`: the background, dark or light."""
        self.recording = recording
        self._theme = Theme(palette=theme, background=theme)

    def html(self) -> str:
        """The player as one page without network."""
        return html.document([self.recording], self._theme, 10.0, 3.0, "tdiff")

    def _repr_html_(self) -> str:
        # A frame of its own keeps the page's styles and keys from the notebook's.
        rows = self.recording.header.cells // 80 + 12
        return (
            f'<iframe srcdoc="{escape(self.html(), quote=True)}" style="width:100%;height:{24 * rows}px;border:0" '
            'sandbox="allow-scripts"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Player of {self.recording.steps} steps of {self.recording.header.cells} positions"


def show(steps: Iterable[Step], model: LoadedModel | None = None, *, row: int = 0, theme: str = "dark") -> Player:
    """Play the `steps` of `tdiff.denoise` or `tdiff.generate` in a notebook, one row of the batch.

    The steps are read to their end first. `model` is necessary only where `load_model` did not load the network.
    Raises TdiffError if there are no steps, or no tokenizer for them.
    """
    from tdiff.core.models.pieces import Pieces

    recording, last = None, None
    for step in steps:
        if recording is None:
            name, tokenizer = _model_of(step, model)
            pieces, settings = Pieces(tokenizer), step.made_by[1] if step.made_by else None
        ids = step.tokens[row].tolist()
        committed, remasked = (flags[row].nonzero()[:, 0].tolist() for flags in (step.committed, step.remasked))
        if recording is None:
            masked = set(committed) | set(step.masked[row].nonzero()[:, 0].tolist())
            given = [position for position in range(len(ids)) if position not in masked]
            texts = pieces.changed(ids, given)
            header = TraceHeader(
                version=__version__,
                model=name,
                decoder=settings.decoder if settings else "",
                settings=dataclasses.asdict(settings) if settings else {},
                seed=settings.seed if settings else 0,
                row=row,
                prompt="",
                cells=len(ids),
                given=[(position, texts[position], ids[position]) for position in given],
            )
            recording = Recording(header)
        texts, confidence = pieces.changed(ids, [*committed, *remasked]), step.confidence[row].tolist()
        cells: list[Cell] = [(i, text, ids[i], confidence[i], "commit") for i, text in sorted(texts.items())]
        cells += [(i, "", ids[i], 0.0, "remask") for i in remasked]
        if cells:  # as in a trace, steps without a change are left out
            share = float(step.masked[row].float().mean())
            recording.take(TraceStep(index=step.index, t=share, calls=int(step.calls[row]), cells=cells))
        last = step
    if recording is None or last is None:
        raise TdiffError("there are no steps to show: the canvas has no masks, or the steps have been read already")
    text = tokenizer.decode(last.tokens[row])
    calls, forced = int(last.calls[row]), int(last.forced[row])
    tokens = len(ids) - len(given)
    recording.take(TraceEnd(text=text, model_calls=calls, forced=forced, tokens=tokens, seconds=0.0))
    return Player(recording, theme)
