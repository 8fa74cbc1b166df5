"""The classifier of `tdiff classify`: a class-conditional model, one model per class, or a word to fill in (cloze)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.commands.progress import load_model
from tdiff.config.options import DEVICES, option
from tdiff.errors import TdiffError, unknown
from tdiff.runs import lookup

if TYPE_CHECKING:
    from tdiff.core.classification.classifier import Classifier

PRECISIONS = ("auto", "float32", "bfloat16")
METHODS = ("bound", "ar", "cloze")
TRAIN = "tdiff train --classes --data reviews.jsonl --label-field label --run reviews"
"""The command that trains a model for classification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options that choose a classifier."""

    models: Sequence[str] = option(
        (),
        "A class-conditional model; or CLASS=MODEL, repeated, for one model per class.",
        flag="--model",
        panel="Model",
        complete="models",
    )
    method: str | None = option(
        None,
        "bound for masked models, ar for causal models, cloze to predict a word without training.",
        panel="Model",
        metavar="[bound|ar|cloze]",
        choices=METHODS,
        shown="default: by model",
    )
    priors: str | None = option(
        None,
        "Class frequencies: equal, or CLASS=SHARE,...",
        panel="Model",
        metavar="PRIORS",
        shown="default: as in training",
    )
    words: str | None = option(
        None, 'cloze: words of each class: "good=great,fine bad=awful".', panel="Model", metavar="WORDS"
    )
    pattern: str | None = option(
        None, "cloze: the text around the word.", panel="Model", shown="default: {text} All in all, it was {mask}."
    )
    device: str = option("auto", "Device.", choices=DEVICES, panel="Advanced")
    precision: str = option(
        "auto",
        "Precision of matrix products.",
        choices=PRECISIONS,
        panel="Advanced",
        shown="default: bfloat16 on CUDA, else float32",
    )


def load(request: Request) -> Classifier:
    """The requested classifier. Raises TdiffError, with what to type instead, where it is not available."""
    if request.method is not None and request.method not in METHODS:
        raise unknown("method", request.method, METHODS)
    if request.precision not in PRECISIONS:
        raise unknown("precision", request.precision, PRECISIONS)
    if not request.models:
        raise TdiffError(no_model_error())
    cloze = request.method == "cloze"
    if not cloze and (request.words or request.pattern):
        raise TdiffError("--words and --pattern are for --method cloze")
    priors = _priors(request.priors)
    labels = words(request.words) if cloze else {}

    from tdiff.core import devices
    from tdiff.core.classification import cloze as slots
    from tdiff.core.classification import load as loading
    from tdiff.core.classification.classifier import with_priors

    device = devices.choose(request.device)
    devices.keep_memory(device)
    bfloat16 = devices.in_bfloat16(request.precision, device)
    folder = lookup.find_per_class(request.models[0]) if len(request.models) == 1 else None
    models = {} if folder else _models(request.models)
    if cloze:
        if models or folder:
            raise TdiffError("--method cloze requires one model: --model NAME")
        model = load_model(request.models[0], device)
        result: Classifier = slots.from_words(model, labels, request.pattern or slots.PATTERN, device, bfloat16)
    elif folder:
        result = loading.from_folder(folder, lambda name: load_model(name, device), device, bfloat16)
    elif models:
        result = loading.from_models(
            {label: load_model(name, device) for label, name in models.items()}, device, bfloat16
        )
    else:
        result = loading.from_model(load_model(request.models[0], device), device, bfloat16)
    if request.method not in (None, result.method):
        kind = {"bound": "masked", "ar": "causal"}[result.method]
        raise TdiffError(f"--method {request.method}: {result.name} is {kind}, whose method is {result.method}")
    return result if request.priors is None else with_priors(result, priors)


def method_settings(request: Request, method: str) -> dict[str, Any]:
    """The options of this method that predictions depend on."""
    from tdiff.core.classification.cloze import PATTERN

    return {"words": request.words, "pattern": request.pattern or PATTERN} if method == "cloze" else {}


def _models(words: Sequence[str]) -> dict[str, str]:
    """The model of each class; empty for one class-conditional model."""
    pairs = [word.partition("=") for word in words]
    if len(words) == 1 and (not pairs[0][1] or Path(words[0]).exists()):
        return {}
    for word, (label, equals, model) in zip(words, pairs, strict=True):
        if not (label and equals and model):
            raise TdiffError(f"several models require a class for each: --model CLASS=MODEL; got {word!r}")
    if len({label for label, _, _ in pairs}) < len(pairs):
        raise TdiffError("--model CLASS=MODEL takes each class once")
    return {label: model for label, _, model in pairs}


def _priors(text: str | None) -> dict[str, float] | None:
    if text is None or text == "equal":
        return None
    shares: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, value = pair.strip().rpartition("=")
        try:
            share = float(value)
        except ValueError:
            equals, share = "", 0.0
        if not (name and equals) or name in shares:
            raise TdiffError(f"--priors takes equal, or CLASS=SHARE once each, as in 'pos=0.3,neg=0.7'; got {pair!r}")
        shares[name] = share
    return shares


def words(text: str | None) -> dict[str, tuple[str, ...]]:
    """The words of each class: "great terrible", or "good=great,fine bad=poor,awful"."""
    classes: dict[str, tuple[str, ...]] = {}
    for part in (text or "").split():
        name, _, synonyms = part.partition("=")
        if name in classes:
            raise TdiffError(f"--words names class {name!r} twice: give its words with commas between them")
        classes[name] = tuple(filter(None, (synonyms or name).split(",")))
        if not name or not classes[name]:
            raise TdiffError(f"--words takes a word for each class, or CLASS=WORD,WORD; got {part!r}")
    if len(classes) < 2:
        raise TdiffError("--method cloze takes --words of two classes at least, as in 'good=great,fine bad=awful'")
    return classes


def no_model_error() -> str:
    """The error message where no model is named; it names models that can classify."""
    names = lookup.classifier_names()
    if not names:
        return f"no model to classify with: train one first with {TRAIN}"
    others = f" (or {', '.join(names[1:4])})" if names[1:] else ""
    return f"no model to classify with: name one, such as --model {names[0]}{others}"
