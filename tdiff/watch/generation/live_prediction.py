"""Live classification: sends texts to the model's process and returns its answers as rounds of mask samples.

This module knows neither the screen nor where the process runs; the caller passes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from tdiff.errors import TdiffError
from tdiff.protocol.messages import Answer, Begin, Cancelled, Classify, Measured, Ready, Refused, Scores
from tdiff.protocol.prediction import Contribution, PredictionRound
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.visible import visible
from tdiff.watch.generation.model_process import ModelProcess


class LivePrediction:
    """Predictions for several texts, one of which is being classified."""

    def __init__(
        self,
        start: Callable[[], ModelProcess],
        texts: Sequence[str],
        *,
        seed: int = 0,
        confidence: float = 0.99,
        max_draws: int = 32,
    ) -> None:
        """`start` starts the process that holds the model."""
        self._start, self.texts = start, tuple(texts)
        self._seed, self._confidence, self.max_draws = seed, confidence, max_draws
        self.index = 0
        """The index of the current text."""
        self.rounds: list[PredictionRound] = []
        self.classes: tuple[str, ...] = ()
        self.words: list[Contribution] = []
        self.message = ""
        """The problem; "" if there is none."""
        self.ready: Ready | None = None
        self.seconds = 0.0
        """Seconds since the current text was requested, or that it took."""
        self._began = 0.0
        self._id = 0
        self._requested = False  # the current text
        self._process: ModelProcess | None = None

    @property
    def state(self) -> str:
        """Off, loading, scoring, done, refused, or dead."""
        if self._process is None:
            return "off"
        if not self._process.alive:
            return "dead"
        if self.message:
            return "refused"
        if self.ready is None:
            return "loading"
        return "done" if self.rounds and self.rounds[-1].final else "scoring"

    def start(self) -> None:
        """Start the process, or restart it. Raises TdiffError if it cannot be started."""
        if self._process is not None:
            self._process.close()
        self.ready, self.message = None, ""
        self._process = self._start()
        self._reset()

    def halt(self) -> None:
        """Stop the process until `poll` is called again."""
        if self._process is not None:
            self._process.halt()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def move(self, offset: int) -> None:
        """Classify the text `offset` positions further on."""
        self.index = (self.index + offset) % len(self.texts)
        self._reset()

    def next_seed(self) -> None:
        """Classify the same text with other mask samples."""
        self._seed += 1
        self._reset()

    def _reset(self) -> None:
        self.rounds, self.words, self._requested, self.seconds = [], [], False, 0.0
        if self.ready is not None:  # otherwise the model itself was refused, which does not change
            self.message = ""

    def poll(self, now: float) -> bool:
        """Process the answers, and request the current text. Returns whether something changed."""
        if self._process is None:
            return False
        self._process.resume()
        before = self.state, len(self.rounds), self.message
        for answer in self._process.take():
            self._take(answer, now)
        if not self._process.alive and not self.message:
            self.message = f"the model's process ended: {self._process.reason}"
        if self.state == "scoring":
            if not self._requested:
                self._id, self._requested, self._began = self._id + 1, True, now
                self._process.send(
                    Classify(
                        id=self._id,
                        text=self.texts[self.index],
                        seed=self._seed,
                        confidence=self._confidence,
                        draws=self.max_draws,
                    )
                )
            self.seconds = now - self._began
        return before != (self.state, len(self.rounds), self.message)

    def _take(self, answer: Answer | TraceLine, now: float) -> None:
        match answer:
            case Ready():
                self.ready = answer
            case Scores():
                if answer.id == self._id and self._requested:
                    low, high = answer.interval
                    self.classes = tuple(answer.classes)
                    self.rounds.append(
                        PredictionRound(answer.draws, tuple(answer.posterior), (low, high), answer.sure, answer.final)
                    )
                    self.words = [Contribution(visible(text), nats) for text, nats in answer.words]
                    self.seconds = now - self._began
            case Refused():
                if answer.id in (None, self._id):
                    self.message = answer.text
            case Begin() | Measured() | Cancelled() | TraceHeader() | TraceStep() | TraceEnd():
                pass  # of generated texts, which are never requested here
            case _:
                assert_never(answer)


def check(texts: Sequence[str]) -> None:
    """Raise TdiffError for a text that cannot be classified."""
    for text in texts:
        if not text.strip():
            raise TdiffError("--classify requires a text; got an empty one")
