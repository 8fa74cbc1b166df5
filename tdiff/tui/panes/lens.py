"""The lens of a generation pane: a cursor on a position, drafts of masked positions, and the meaning of the colours.

It computes what is drawn over the canvas and below it; the pane draws it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tdiff.draw import lens as drawing
from tdiff.draw.lens import Facts
from tdiff.draw.overlay import MODES, NOTHING, Overlay, draft_text
from tdiff.draw.palettes import Theme
from tdiff.draw.render import Line
from tdiff.protocol.canvas import GIVEN, MASKED, Canvas
from tdiff.protocol.detail import TOP, Guess
from tdiff.tui.selection import Selection
from tdiff.tui.widgets.lines import two_ends
from tdiff.watch.generation.branches import Change
from tdiff.watch.generation.insight import Insight, Look, tau
from tdiff.watch.generation.recording import Recording

UNTRACED = "this sample was recorded without its steps"
"""Said where nothing but the text is known."""
NO_DETAIL = "no predictions in this trace · tdiff generate --detail records them"
"""Said where a trace has none; the first part where there is little room."""


class Lens:
    """What a generation pane shows about positions, beside the text."""

    def __init__(self) -> None:
        self.selection = Selection()
        """The cursor, and the selected positions."""
        self.drafts = False
        """Whether masked positions show their best guess."""
        self.mode = MODES[0]
        """What the colours mean."""
        self.alternative: tuple[int, int] | None = None
        """The position and the token id of the alternative that is selected; None where none is.

        Its place among the alternatives changes with each prediction.
        """
        self.differing: int | None = None
        """The first position that differs from the canvas beside it."""
        self._insight: Insight | None = None

    @property
    def cursor(self) -> int | None:
        """The position of the cursor; None: it is off."""
        return self.selection.cursor

    @property
    def selected(self) -> frozenset[int]:
        """The selected positions."""
        return self.selection.selected

    @property
    def plain(self) -> bool:
        """Whether nothing is drawn over the canvas."""
        only_text = self.cursor is None and not self.drafts and self.mode == MODES[0]
        return only_text and not self.selected and self.differing is None

    def insight(self, recording: Recording) -> Insight:
        """What is known about a recording, up to date."""
        if self._insight is None or self._insight.recording is not recording:
            self._insight = Insight(recording)
        self._insight.update()
        return self._insight

    def next_mode(self) -> str:
        """Change what the colours mean; what they mean now."""
        self.mode = MODES[(MODES.index(self.mode) + 1) % len(MODES)]
        return self.mode

    # Over the canvas

    def overlay(self, recording: Recording, canvas: Canvas, step: int, theme: Theme) -> Overlay:
        """What is drawn over a canvas of the recording after a step."""
        if self.plain:
            return NOTHING
        insight = self.insight(recording)
        coloured = self.mode != MODES[0]
        guesses = insight.guesses(canvas.confidence, step) if self.drafts or coloured else {}
        drafts: dict[int, str] = {}
        if self.drafts:
            drafts = {n: draft_text(insight.text(guess.draft), theme.ascii) for n, guess in guesses.items()}
        values: list[float | None] | None = None
        if self.drafts or coloured:
            values = _values(self.mode, insight, canvas, step, guesses)
        return Overlay(values, drafts, self.cursor, self.selected, self.differing)

    # Below the canvas

    def facts(self, recording: Recording, step: int) -> Facts | None:
        """What is known about the position of the cursor; None without a cursor."""
        if self.cursor is None or not 0 <= self.cursor < recording.header.cells:
            return None
        look = self.insight(recording).look(self.cursor, step)
        return replace(_facts(self.insight(recording), look, recording, step), selected=self._place(look))

    # The alternative to force

    def select_alternative(self, recording: Recording, step: int, place: int) -> None:
        """Select the alternative at a place among those of the cursor's position, or at the nearest one."""
        if self.cursor is None or not (known := _alternatives(self.insight(recording).look(self.cursor, step))):
            return
        self.alternative = self.cursor, known[min(max(place, 0), len(known) - 1)][0]

    def move_alternative(self, recording: Recording, step: int, count: int) -> None:
        """Select the alternative so many places below the selected one; above where negative."""
        if self.cursor is None:
            return
        place = self._place(self.insight(recording).look(self.cursor, step))
        if place is not None:
            self.select_alternative(recording, step, place + count)

    def drop_unlisted(self, recording: Recording, step: int) -> None:
        """Select no alternative where the newest prediction at the cursor no longer has the selected one."""
        if self.alternative is None or self.cursor is None:
            return
        if self._place(self.insight(recording).look(self.cursor, step)) is None:
            self.alternative = None

    def forced(self, recording: Recording, step: int) -> Change | None:
        """The change that writes the selected alternative; None where there is none, or it stands there already.

        A position that is unmasked gets it in the step before it was.
        """
        if self.cursor is None or self.alternative is None:
            return None
        look = self.insight(recording).look(self.cursor, step)
        if self._place(look) is None or self.alternative[1] == look.token:
            return None
        before = None if look.committed is None else look.committed - 1
        return Change(force=self.alternative, step=before)

    def _place(self, look: Look) -> int | None:
        """The place of the selected alternative in a prediction; None where it does not have it."""
        ids = [(look.position, token) for token, _ in _alternatives(look)]
        return ids.index(self.alternative) if self.alternative in ids else None

    def below(
        self, recording: Recording, cells: int, step: int, facts: Facts | None, width: int, height: int, theme: Theme
    ) -> tuple[list[Line], bool]:
        """The lines below the line of steps in a pane of this size, and whether the `facts` of the cursor's position
        are among them. `cells` are the positions that are shown.
        """
        width = max(1, width - 2)
        flow, looked, mapped = rows_below(height - 2, facts is not None, cells, width)
        if recording.untraced:
            flow = mapped = 0
        lines: list[Line] = []
        if not (flow or looked or mapped):
            return lines, False
        insight = self.insight(recording)
        order = insight.order(step)[:cells]
        if flow:
            lines.append(drawing.flow_line(insight.commits, step, tau(order), width, theme))
        if facts is not None and looked:
            left, numbers = drawing.title(facts, width - 6)
            right: Line = [(" ", ""), *numbers, (" ─", "dim")] if numbers else []
            lines.append(two_ends([("─ ", "dim"), *left, (" ", "")], right, width, "─", "dim"))
            lines += drawing.lens_lines(facts, width, looked - 1, theme)
        if mapped:
            title: Line = [("─ ", "dim"), *drawing.order_heading(theme), (" ", "")]
            lines.append(two_ends(title, [], width, "─", "dim"))
            rows = drawing.order_lines(order, recording.steps, width - 2, mapped - 1, theme)
            lines += [[(" ", ""), *row] for row in rows]
        return lines, looked > 0


_LENS_ROWS = 9
"""Rows of the lens, at most: its heading, and a row for each alternative."""


def rows_below(height: int, looking: bool, cells: int, width: int) -> tuple[int, int, int]:
    """How many of the `height` rows of a pane the commits in each step, the lens and the map of the order have.

    The text has at least half of the pane. `looking`: whether there is a cursor; `cells` are the positions of the
    canvas.
    """
    room = height - 2 - max(6, height // 2)
    flow = 1 if room >= 3 else 0
    room -= flow
    lens = min(_LENS_ROWS, room) if looking and room >= 4 else 0
    room -= lens
    mapped = min(6, 1 - (-cells // max(1, width - 2)))
    return flow, lens, min(room, mapped) if room >= 3 or room >= mapped else 0


def _values(mode: str, insight: Insight, canvas: Canvas, step: int, guesses: dict[int, Guess]) -> list[float | None]:
    """For each position what its colour shows, 0..1: high is sure, early in the order, or the likeliest token."""
    value = _VALUES[mode]
    tokens = insight.tokens(step) if mode == "rank" else []
    values: list[float | None] = []
    for position, confidence in enumerate(canvas.confidence):
        if confidence >= GIVEN:
            values.append(None)
        elif confidence == MASKED:
            guess = guesses.get(position)
            values.append(value(guess) if guess is not None and value is not None else None)
        elif mode == "confidence":
            values.append(confidence)
        elif mode == "step":
            at = insight.committed(position, step)
            values.append(1 - at / (insight.recording.steps + 1) if at else None)
        else:
            guess = insight.guess(position, step)
            if guess is None:
                values.append(None)
            elif mode == "rank":
                ids: list[int | None] = [token for token, _ in guess.alternatives]
                values.append(1 - ids.index(tokens[position]) / TOP if tokens[position] in ids else 0.0)
            else:
                values.append(value(guess) if value is not None else None)
    return values


_VALUES: dict[str, Callable[[Guess], float] | None] = {
    "confidence": lambda guess: guess.confidence,
    "entropy": lambda guess: math.exp(-guess.entropy),
    "margin": lambda guess: guess.margin,
    "step": None,
    "rank": None,
}
"""The value of a masked position, by mode."""


def _confidence(recording: Recording, look: Look) -> float | None:
    """The probability of a token when the model unmasked it; None where it did not."""
    if look.committed is None or recording.by_user(look.committed):
        return None
    cells = recording.step_line(look.committed).cells
    return next((cell[3] for cell in cells if cell[0] == look.position), None)


def _alternatives(look: Look) -> Sequence[tuple[int, float]]:
    """The token ids and probabilities that can be forced at a position; none where it belongs to the prompt."""
    return () if look.guess is None or look.prompt else look.guess.alternatives


def _facts(insight: Insight, look: Look, recording: Recording, step: int) -> Facts:
    text = "" if look.token is None else insight.text(look.token)
    if recording.untraced or look.prompt:
        text = next((text for n, text, _ in recording.header.given if n == look.position), "")
        state = "recorded" if recording.untraced else "prompt"
    elif look.committed is not None:
        how = "forced at" if recording.by_user(look.committed) else "unmasked in"
        state = f"{how} step {recording.index(look.committed)}"
    else:
        state = "masked"
    guess = look.guess
    note = ""
    if guess is None and not look.prompt:
        note = NO_DETAIL if not insight.detailed else "not predicted yet"
        note = "before the first step" if step == 0 and insight.detailed else note
    elif recording.untraced:
        note = UNTRACED
    known = _alternatives(look)
    return Facts(
        position=look.position,
        text=text,
        state=state,
        alternatives=[(insight.text(token), p) for token, p in known],
        chosen=look.rank - 1 if look.rank is not None and known else None,
        entropy=guess.entropy if guess else 0.0,
        margin=guess.margin if guess else 0.0,
        path=look.token_path,
        entropies=look.entropy_path,
        committed=recording.index(look.committed) if look.committed is not None else None,
        best=[insight.text(token) for token in look.best],
        remasked=look.remasked,
        confidence=_confidence(recording, look),
        step=recording.index(step),
        note=note,
    )
