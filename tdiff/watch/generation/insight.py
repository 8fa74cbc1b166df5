"""What a recording knows about each of its positions: predictions at every step, when it was unmasked, in which order.

Predictions are read when they are first asked for, so that a trace opens as fast with them as without. Steps are those
of the recording, 1 for the first.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tdiff.protocol.canvas import MASKED
from tdiff.protocol.detail import DetailReader, Guess
from tdiff.visible import visible
from tdiff.watch.generation.recording import Recording

_MAX_TOKENS = 1 << 18
"""Texts of tokens that are stored."""
_MAX_TEXT = 1024
"""Characters of the text of a token."""


@dataclass(slots=True)
class _History:
    """What happened at one position: parallel lists, steps ascending."""

    steps: list[int] = field(default_factory=list)
    guesses: list[Guess] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)  # steps that unmasked or remasked it
    tokens: list[int | None] = field(default_factory=list)  # the token after each change; None: masked


@dataclass(frozen=True, slots=True)
class Look:
    """One position after one step."""

    position: int
    token: int | None
    """The id of its token; None where it is masked."""
    committed: int | None
    """The step that unmasked it last, up to this one; None where it is masked or of the prompt."""
    prompt: bool
    """Whether it belongs to the prompt."""
    guess: Guess | None
    """The newest prediction; None where the trace has none."""
    token_path: Sequence[float | None]
    """Probability of its token, or of the likeliest one where it is masked, in each step so far; None: not known."""
    entropy_path: Sequence[float | None]
    """The entropy in each step so far, in nats; None: not known."""
    best: Sequence[int]
    """The ids of the likeliest tokens in the order in which they became so, up to this step."""
    remasked: int
    """How often it was remasked up to this step."""

    @property
    def rank(self) -> int | None:
        """The place of its token among the alternatives, 1 for the likeliest; None where it is not among them."""
        if self.guess is None or self.token is None:
            return None
        ids = [token for token, _ in self.guess.alternatives]
        return ids.index(self.token) + 1 if self.token in ids else None


class Insight:
    """The predictions and the order of one recording, which may grow."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._reader = DetailReader(recording.header.cells)
        self._histories: dict[int, _History] = {}
        self._given = {position: token for position, _, token in recording.header.given}
        self._texts: dict[int, str] = {}
        self._read = 0  # steps that were read
        self.detailed = False
        """Whether the trace has predictions."""
        self.commits: list[int] = []
        """The number of positions that each step unmasked."""

    def update(self) -> None:
        """Read the steps that are new."""
        recording = self.recording
        while self._read < recording.steps:
            self._read += 1
            line = recording.step_line(self._read)
            for token, text in line.tokens or ():
                if len(self._texts) < _MAX_TOKENS:
                    self._texts.setdefault(token, visible(text)[:_MAX_TEXT])
            if line.detail:
                self.detailed = True
                for position, guess in self._reader.unpack(line.detail):
                    history = self._histories.setdefault(position, _History())
                    history.steps.append(self._read)
                    history.guesses.append(guess)
            commits = 0
            for position, text, token, _, event in line.cells:
                history = self._histories.setdefault(position, _History())
                history.changes.append(self._read)
                history.tokens.append(token if event == "commit" else None)
                if event == "commit":
                    commits += 1
                    self._texts.setdefault(token, text)
            self.commits.append(commits)

    def text(self, token: int) -> str:
        """The text of a token, safe to print; "" where the trace does not name it."""
        return self._texts.get(token, "")

    def guess(self, position: int, step: int) -> Guess | None:
        """The newest prediction at a position in steps 1..`step`; None where there is none."""
        history = self._histories.get(position)
        n = bisect_right(history.steps, step) if history else 0
        return history.guesses[n - 1] if history and n else None

    def reported(self) -> dict[int, list[tuple[int, Guess]]]:
        """For each step with predictions, the positions that it reports in ascending order, and their predictions."""
        steps: dict[int, list[tuple[int, Guess]]] = {}
        for position in sorted(self._histories):
            history = self._histories[position]
            for step, guess in zip(history.steps, history.guesses, strict=True):
                steps.setdefault(step, []).append((position, guess))
        return steps

    def guesses(self, confidence: Sequence[float], step: int) -> dict[int, Guess]:
        """The newest prediction at each masked position of a canvas with this `confidence`, after `step`."""
        found = ((n, self.guess(n, step)) for n, c in enumerate(confidence) if c == MASKED)
        return {position: guess for position, guess in found if guess is not None}

    def committed(self, position: int, step: int) -> int | None:
        """The step that unmasked a position last, up to `step`; None where it is masked or of the prompt."""
        history = self._histories.get(position)
        n = bisect_right(history.changes, step) if history else 0
        return history.changes[n - 1] if history and n and history.tokens[n - 1] is not None else None

    def look(self, position: int, step: int) -> Look:
        """All about one position after a step, 0..steps."""
        history = self._histories.get(position) or _History()
        changed = bisect_right(history.changes, step)
        token = history.tokens[changed - 1] if changed else self._given.get(position)
        guessed = bisect_right(history.steps, step)
        best: list[int] = []
        for guess in history.guesses[:guessed]:
            if not best or best[-1] != guess.draft:
                best.append(guess.draft)
        followed = token if token is not None else (best[-1] if best else None)
        return Look(
            position=position,
            token=token,
            committed=history.changes[changed - 1] if changed and token is not None else None,
            prompt=position in self._given,
            guess=history.guesses[guessed - 1] if guessed else None,
            token_path=_path(history, step, lambda guess: guess.probability(-1 if followed is None else followed)),
            entropy_path=_path(history, step, lambda guess: guess.entropy),
            best=best,
            remasked=sum(after is None for after in history.tokens[:changed]),
        )

    def tokens(self, step: int) -> list[int | None]:
        """The token id at each position after a step; None where it is masked."""
        tokens: list[int | None] = [self._given.get(n) for n in range(self.recording.header.cells)]
        for position, history in self._histories.items():
            n = bisect_right(history.changes, step)
            if n:
                tokens[position] = history.tokens[n - 1]
        return tokens

    def order(self, step: int) -> list[int | None]:
        """For each position the step that unmasked it, up to `step`; None where it is masked, 0 for the prompt."""
        order: list[int | None] = [None] * self.recording.header.cells
        for position in self._given:
            order[position] = 0
        for position in self._histories:
            order[position] = self.committed(position, step)
        return order


def _path(history: _History, step: int, value: Callable[[Guess], float]) -> list[float | None]:
    """The value of the newest prediction in each of steps 1..`step`; None before the first."""
    path: list[float | None] = [None] * step
    ends = [*history.steps[1:], step + 1]
    for begin, end, guess in zip(history.steps, ends, history.guesses, strict=False):
        if begin > step:
            break
        path[begin - 1 : min(end - 1, step)] = [value(guess)] * (min(end - 1, step) - begin + 1)
    return path


def tau(order: Sequence[int | None]) -> float | None:
    """Kendall's tau-b of the steps of an order against the positions: 1 from left to right, -1 from right to left.

    Positions that are masked (None) or of the prompt (0) do not count, and positions of one step are ties. None where
    there are not two steps. (Kendall 1945, Biometrika 33.)
    """
    steps = [step for step in order if step]
    seen: list[int] = []
    ties: dict[int, int] = {}
    discordant = tied = 0
    for step in steps:
        discordant += len(seen) - bisect_right(seen, step)
        insort(seen, step)
        tied += ties.get(step, 0)
        ties[step] = ties.get(step, 0) + 1
    pairs = len(steps) * (len(steps) - 1) // 2
    if pairs == tied:
        return None
    return (pairs - tied - 2 * discordant) / math.sqrt(pairs * (pairs - tied))
