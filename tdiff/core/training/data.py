"""What a run trains on: the rows of its steps, and the text that it holds out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tdiff.config.settings import Settings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.noise import RowNoise
from tdiff.core.diffusion.objective import Conditioning, maskable_positions
from tdiff.core.models.base import UNKNOWN_TEXT, Tokenizer
from tdiff.core.packing import padded
from tdiff.core.training import token_files
from tdiff.core.training.token_files import TokenFiles
from tdiff.corpus.corpus import Corpus, check_length
from tdiff.errors import TdiffError, unknown

_PROMPTS = 64
"""Prompts that are stored with a model, at most."""
_LEAST_WORDS = 3
"""Lines of fewer words make no prompt."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows of a step."""

    tokens: Tensor
    """(B, L) int64."""
    maskable: Tensor
    """(B, L) bool: the positions that may be masked."""
    conditioning: Conditioning
    """What the network is conditioned on; of padded rows `attention`, with classes `label`, see `Conditioning`."""
    row_noise: RowNoise
    """The random numbers of these rows."""


class TrainingSet:
    """The training part of a corpus, as rows of a window each, and the held-out part.

    Packed rows are cut from the training part at any offset. Padded rows are texts, or pieces of texts longer than a
    window. All tensors are on the CPU, whatever the device: the host knows what it draws there without a wait, and
    draws the same for every device.
    """

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus,
        tokenizer: Tokenizer,
        writing: Callable[[int, int], None] | None = None,
    ) -> None:
        """Raises TdiffError where a part is too short, or a class has no text to train on.

        `writing(done, total)` is called while token files are written, in bytes of text.
        """
        self.settings, self.corpus, self.tokenizer = settings, corpus, tokenizer
        window = settings.model.window
        self.seed = settings.train.seed
        """The seed of the random numbers of all steps."""
        self.files: TokenFiles | None = None
        """The tokens of packed rows, if they are on disk instead of in `tokens`."""
        self.real: Tensor | None = None
        """(N, W) bool: where padded rows are text; None: rows are packed."""
        self.labels: Tensor | None = None
        """(N,) int64: the class of each padded row, by number."""
        self.held_out: Tensor | list[Tensor]
        """The ids of the held-out text, (T,), or of each held-out text."""
        self.held_out_labels: list[int] | None = None
        """The class of each held-out text, by number."""
        self.class_texts: tuple[int, ...] = ()
        """Texts of each class in the training part."""
        if settings.data.rows == "padded":
            training_texts, held_out_texts = self._split_texts()
            training = "\n\n".join(corpus.texts[n] for n in training_texts)
            self.tokens, self.real, text = padded(self._encode_texts(training_texts), window, tokenizer.mask_id)
            self.held_out = self._encode_texts(held_out_texts)
            if settings.data.classes:
                self.class_texts = self._count_classes(training_texts)
                classes = torch.tensor([corpus.classes.index(label) for label in corpus.labels])
                self.labels = classes[training_texts][text]
                self.held_out_labels = classes[held_out_texts].tolist()
        elif settings.data.token_files:
            folder, training = Path(settings.data.token_files), corpus.split()[0]
            self.files = token_files.open_or_make(folder, settings.data, tokenizer, writing)
            self.tokens, self.held_out = torch.empty(0, dtype=torch.int64), self.files.held_out()
            check_length(len(self.files), len(self.held_out), window, settings.objective.context, corpus.name)
        else:
            training, held_out = corpus.split(settings.data.held_out)
            self.tokens = tokenizer.encode(training, "the corpus")  # (T,), not rows
            self.held_out = tokenizer.encode(held_out, "the corpus")
            check_length(len(self.tokens), len(self.held_out), window, settings.objective.context, corpus.name)
        self.prompts = tuple(map(self._shortened, _prompts(training, settings.objective.context)))
        """Beginnings of the training text, to start samples from."""
        self.fingerprint = self.files.fingerprint if self.files else _sha256(self.tokens)
        """SHA-256 of the tokens, as hexadecimal digits."""
        self.token_count = len(self.files or self.tokens) if self.real is None else int(self.real.sum())
        """Tokens of the training part, without padding."""
        self.held_out_count = len(self.held_out) if isinstance(self.held_out, Tensor) else sum(map(len, self.held_out))
        """Tokens of the held-out part."""
        self._unmaskable = torch.tensor([i for i in tokenizer.suppressed if i != tokenizer.mask_id])

    @property
    def step_rows(self) -> int:
        """Rows of one optimizer step, over all passes and processes."""
        return self.settings.train.batch_size * self.settings.train.accumulate

    @property
    def step_tokens(self) -> float:
        """Tokens of one optimizer step without padding: of padded rows the mean."""
        row = self.settings.model.window if self.real is None else self.token_count / len(self.tokens)
        return self.step_rows * row

    def batch(self, step: int, rows: Sequence[int], full_width: bool = False) -> Batch:
        """The `rows` of optimizer step `step`, by their numbers in it, 0..step_rows-1.

        Each row, the positions that may be masked and its label depend on the seed, the step and the number of the row
        alone, so that processes can draw a part of the rows each. Of packed rows L is the window; of padded ones the
        length of the longest, or, at `full_width`, of the longest of the whole set.
        """
        settings, window = self.settings, self.settings.model.window
        row_noise, conditioning = RowNoise(self.seed, step, rows, self.step_rows), dict[str, Tensor]()
        if self.real is None:
            first = row_noise.integers(noise.DATA, self.token_count - window + 1)
            tokens = (
                self.files.rows(first, window) if self.files else self.tokens[first[:, None] + torch.arange(window)]
            )
        else:
            picked = row_noise.integers(noise.DATA, len(self.tokens))
            longest = self.tokens.size(1) if full_width else int(self.real[picked].sum(1).max())
            tokens, conditioning["attention"] = self.tokens[picked, :longest], self.real[picked, :longest]
            if self.labels is not None:
                dropped = row_noise.uniform(noise.LABEL)[:, 0] < settings.train.label_dropout
                conditioning["label"] = self.labels[picked].masked_fill(dropped, len(self.corpus.classes))
        maskable = maskable_positions(
            row_noise, tokens.size(1), settings.objective.context, settings.objective.context_mode
        )
        if len(self._unmaskable):
            maskable &= ~torch.isin(tokens, self._unmaskable)
        if conditioning:
            maskable &= conditioning["attention"]
        return Batch(tokens, maskable, conditioning, row_noise)

    def class_tokens(self, vocabulary: int) -> Tensor:
        """(C, vocabulary) float32: how often each token occurs in the training texts of each class."""
        assert self.real is not None and self.labels is not None, "packed rows have no labels"
        counts = torch.zeros(len(self.corpus.classes), vocabulary)
        labels = self.labels[:, None].expand_as(self.tokens)
        counts.index_put_((labels[self.real], self.tokens[self.real]), torch.ones(()), accumulate=True)
        return counts

    def _split_texts(self) -> tuple[list[int], list[int]]:
        """The numbers of the texts to train on, and of those held out. Raises TdiffError where either has none."""
        only = self.settings.data.only
        if only and only not in self.corpus.classes:
            raise unknown("class", only, self.corpus.classes)
        training, held_out = self.corpus.split_indices(self.settings.data.held_out, only)
        if not training or not held_out:
            raise TdiffError(
                f"{self.corpus.name} has too few texts ({len(training) + len(held_out):,}) to hold some out with "
                "data.rows padded: add texts, or use data.rows packed"
            )
        return training, held_out

    def _count_classes(self, texts: Sequence[int]) -> tuple[int, ...]:
        """How many of these texts each class has. Raises TdiffError where one has none."""
        counted = Counter(self.corpus.labels[n] for n in texts)
        if missing := [name for name in self.corpus.classes if not counted[name]]:
            raise TdiffError(f"class {missing[0]!r} has too few texts: none is left to train on; give more, or others")
        return tuple(counted[name] for name in self.corpus.classes)

    def _encode_texts(self, numbers: Sequence[int]) -> list[Tensor]:
        """The ids of texts, by their numbers in the corpus."""
        return [self.tokenizer.encode(self.corpus.texts[n], "the corpus") for n in numbers]

    def _shortened(self, prompt: str) -> str:
        """The prompt, with no more tokens than prompts have in training."""
        ids, most = self.tokenizer.encode(prompt, "the corpus"), self.settings.objective.context
        # The cut may fall within a character whose bytes are several tokens.
        return prompt if len(ids) <= most else self.tokenizer.decode(ids[:most]).rstrip(UNKNOWN_TEXT)


def _sha256(tokens: Tensor) -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def _prompts(training: str, context: int) -> tuple[str, ...]:
    """Up to 64 different prompts of up to `context` characters: beginnings of lines, cut after a blank; else of any
    position of the text.
    """
    if not context:
        return ()
    lines = [line[: context + 1] for line in training.splitlines() if len(line.split()) >= _LEAST_WORDS]
    # The blank stays: without it a model may continue the word.
    cut = [line if len(line) <= context else line[: line.rfind(" ", 0, context) + 1 or context] for line in lines]
    texts = [text for text in cut if text.strip()] or [
        training[i : i + context] for i in range(0, max(1, len(training) - context), max(1, context))
    ]
    spread = texts[:: max(1, len(texts) // _PROMPTS)][:_PROMPTS]
    return tuple(dict.fromkeys(filter(None, spread)))
