"""Classifiers from loaded models: one class-conditional model, or one model of each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tdiff.core.classification.bound import BoundClassifier, portions_of
from tdiff.core.classification.causal import CausalClassifier
from tdiff.core.classification.classifier import Classifier
from tdiff.core.models.base import LoadedModel
from tdiff.errors import TdiffError
from tdiff.runs.per_class import PerClassRun


def from_model(model: LoadedModel, device: str, bfloat16: bool = False) -> BoundClassifier:
    """A classifier from a class-conditional model. Raises TdiffError if the model has no classes."""
    origin = model.origin
    if not origin.classes:
        raise TdiffError(
            f"{model.name} has no classes: train a model with classes by tdiff train --classes --data FILE "
            "--label-field FIELD, name one model a class by --model CLASS=MODEL, or use a pretrained one without "
            "training by --method cloze"
        )
    total = sum(origin.counts)
    return BoundClassifier(
        name=model.name,
        classes=origin.classes,
        priors=tuple(count / total for count in origin.counts),
        temperature=origin.temperature,
        tokenizer=model.tokenizer,
        networks=(model.network,),
        portions=portions_of((model.network,), device),
        device=device,
        bfloat16=bfloat16,
    )


def from_models(
    models: Mapping[str, LoadedModel],
    device: str,
    bfloat16: bool = False,
    counts: Sequence[int] = (),
    temperature: float = 0.0,
    name: str = "",
) -> Classifier:
    """A classifier from one model a class, all masked or all causal; equal priors if no `counts` of texts are known.

    Raises TdiffError if they are of both kinds, or have different tokens: likelihoods of different tokens cannot be
    compared position by position.
    """
    if len(models) < 2:
        raise TdiffError(
            f"a classifier needs one model for each of at least two classes; got {', '.join(models) or 'none'}"
        )
    (first, first_model), *rest = models.items()
    for label, other in rest:
        if other.spec.causal != first_model.spec.causal:
            kinds = ("masked", "causal")
            raise TdiffError(
                f"the model of {label!r} is {kinds[other.spec.causal]} and that of {first!r} "
                f"{kinds[first_model.spec.causal]}: their likelihoods cannot be compared"
            )
        if other.tokenizer.pieces != first_model.tokenizer.pieces:
            raise TdiffError(
                f"the models of {first!r} and {label!r} have different tokenizers: train them with the same one"
            )
    for label, model in models.items():
        if not model.spec.pads:
            raise TdiffError(f"the model of {label!r} ignores the padding mask, so it cannot score texts in batches")
    weights = counts or [1] * len(models)
    networks = tuple(model.network for model in models.values())
    kind: Callable[..., Classifier] = CausalClassifier
    if not first_model.spec.causal:
        kind = partial(BoundClassifier, portions=portions_of(networks, device))
    return kind(
        name=name or " + ".join(model.name for model in models.values()),
        classes=tuple(models),
        priors=tuple(count / sum(weights) for count in weights),
        temperature=temperature,
        tokenizer=first_model.tokenizer,
        networks=networks,
        device=device,
        bfloat16=bfloat16,
    )


def from_folder(folder: Path, load: Callable[[str], LoadedModel], device: str, bfloat16: bool = False) -> Classifier:
    """A classifier from a per-class run: one model for each class in the folder's classes.json, loaded by `load`."""
    run = PerClassRun.read(folder)
    models = {label: load(str(folder / name)) for label, name in zip(run.classes, run.runs, strict=True)}
    return from_models(models, device, bfloat16, run.counts, run.temperature, folder.name)
