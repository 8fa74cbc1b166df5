"""Texts that are weighed while somebody looks: what is asked of the model's process, and how its answers add up.

It knows neither the screen nor where the process runs; time is told to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tdiff.errors import TdiffError
from tdiff.protocol.messages import Ready, Refused, Scores, Weigh
from tdiff.protocol.prediction import Contribution, PredictionRound
from tdiff.visible import visible
from tdiff.watch.generation.session import Process


class Race:
    """The texts, one of which is being weighed."""

    def __init__(
        self,
        start: Callable[[], Process],
        texts: Sequence[str],
        *,
        seed: int = 0,
        confidence: float = 0.99,
        draws: int = 32,
    ) -> None:
        """`start` starts the process that holds the model."""
        self._start, self.texts = start, tuple(texts)
        self._seed, self._confidence, self.draws = seed, confidence, draws
        self.at = 0
        """Which text."""
        self.rounds: list[PredictionRound] = []
        self.classes: tuple[str, ...] = ()
        self.words: list[Contribution] = []
        self.message = ""
        """What went wrong; "" when all is well."""
        self.ready: Ready | None = None
        self.seconds = 0.0
        """Since the text was asked for, or until it was done."""
        self._began = 0.0
        self._id = 0
        self._asked = False  # for the text of now
        self._process: Process | None = None

    @property
    def state(self) -> str:
        """Off, loading, weighing, done, refused, or dead."""
        if self._process is None:
            return "off"
        if not self._process.alive:
            return "dead"
        if self.message:
            return "refused"
        if self.ready is None:
            return "loading"
        return "done" if self.rounds and self.rounds[-1].final else "weighing"

    def start(self) -> None:
        """Start the process, again where it has died. Raises TdiffError where it cannot be."""
        if self._process is not None:
            self._process.close()
        self.ready, self.message = None, ""
        self._process = self._start()
        self._again()

    def halt(self) -> None:
        """Stop the process where it is, until `poll` is called again."""
        if self._process is not None:
            self._process.halt()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def go(self, ways: int) -> None:
        """To another text."""
        self.at = (self.at + ways) % len(self.texts)
        self._again()

    def another_seed(self) -> None:
        """The same text on other masks."""
        self._seed += 1
        self._again()

    def _again(self) -> None:
        self.rounds, self.words, self._asked, self.seconds = [], [], False, 0.0
        if self.ready is not None:  # else the model itself could not be had, and it stays so
            self.message = ""

    def poll(self, now: float) -> bool:
        """Take in what the process said, and ask what is to be asked. True where something changed."""
        if self._process is None:
            return False
        self._process.go_on()
        before = self.state, len(self.rounds), self.message
        for answer in self._process.take():
            if isinstance(answer, Ready):
                self.ready = answer
            elif isinstance(answer, Scores) and answer.id == self._id and self._asked:
                low, high = answer.interval
                self.classes = tuple(answer.classes)
                self.rounds.append(
                    PredictionRound(answer.draws, tuple(answer.posterior), (low, high), answer.sure, answer.final)
                )
                self.words = [Contribution(visible(text), nats) for text, nats in answer.words]
                self.seconds = now - self._began
            elif isinstance(answer, Refused) and (answer.id is None or answer.id == self._id):
                self.message = answer.text
        if not self._process.alive and not self.message:
            self.message = f"the model's process ended: {self._process.reason}"
        if self.state == "weighing":
            if not self._asked:
                self._id, self._asked, self._began = self._id + 1, True, now
                self._process.send(
                    Weigh(
                        id=self._id,
                        text=self.texts[self.at],
                        seed=self._seed,
                        confidence=self._confidence,
                        draws=self.draws,
                    )
                )
            self.seconds = now - self._began
        return before != (self.state, len(self.rounds), self.message)


def check(texts: Sequence[str]) -> None:
    """Raises TdiffError for a text that cannot be weighed."""
    for text in texts:
        if not text.strip():
            raise TdiffError("--classify takes a text; got an empty one")
