"""The text on which a model is evaluated: its own corpus or another one, and the parts of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tdiff.core.models.base import LoadedModel
from tdiff.corpus import corpus as data
from tdiff.corpus.named import Absent
from tdiff.errors import TdiffError, unknown

PARTS = ("all", "train", "tuning", "val")
"""The parts of a corpus: all of it, its first nine tenths, the end of these (see `data.held_out`), its last tenth."""


def part_ids(model: LoadedModel, corpus: data.Corpus, part: str) -> Tensor | list[Tensor]:
    """The tokens of a part of the corpus, or of each text in it if the model was trained on one text a row."""
    if model.origin.rows == "padded":
        only = model.origin.only
        training, held_out = corpus.split_texts(only=only)
        tuning = corpus.split_texts("tuning", only)[1]
        of_class = [text for text, label in zip(corpus.texts, corpus.labels, strict=False) if only == label]
        texts = {"all": of_class or corpus.texts, "train": training, "tuning": tuning, "val": held_out}
        return [model.tokenizer.encode(text, corpus.name) for text in texts[part]]
    before, after = corpus.split()
    parts = {"all": corpus.text, "train": before, "tuning": corpus.split("tuning")[1], "val": after}
    return model.tokenizer.encode(parts[part], corpus.name)


def part_labels(model: LoadedModel, corpus: data.Corpus, part: str) -> list[int] | None:
    """The classes of the texts of a part, as the model numbers them; None if the model has no classes."""
    if not model.origin.classes:
        return None
    training, held_out = corpus.split_indices()
    parts = {"train": training, "tuning": corpus.split_indices("tuning")[1], "val": held_out}
    indices = parts.get(part, range(len(corpus.texts)))
    return [class_number(model.origin.classes, corpus.labels[n]) for n in indices]


def class_number(classes: Sequence[str], label: str) -> int:
    """The number of a class. Raises TdiffError for an unknown class, and names the nearest one."""
    if label not in classes:
        raise unknown("class", label, classes)
    return classes.index(label)


def corpus_of(model: LoadedModel, sources: Sequence[str], text_field: str | None, options: str = "") -> data.Corpus:
    """The text of `sources`, or the unchanged corpus that the model was trained on.

    Raises TdiffError if it is not available; the message suggests --data with these options.
    """
    if not sources and not model.origin.sources:
        raise TdiffError(f"{model.name} does not record its training text: name a text with --data FILE{options}")
    try:
        # The labels of `sources` matter to a model with classes; those of its corpus also to a model of one class.
        labelled = model.origin.classes or (model.origin.only and not sources)
        corpus = data.load(
            tuple(sources) or model.origin.sources,
            text_field or model.origin.text_field,
            label_field=model.origin.label_field if labelled else None,
            evaluation=() if sources else model.origin.evaluation,
        )
    except Absent as absent:
        raise TdiffError(f"{absent}, or name it with --data FILE{options}") from None
    if not sources and model.origin.corpus_sha256 not in ("", corpus.sha256()):
        raise TdiffError(
            f"{corpus.name} has changed since {model.name} was trained on it, so its last tenth may contain training "
            "text; name a text with --data"
        )
    return corpus
