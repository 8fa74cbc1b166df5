"""Whatever tells the class of a text: one model that knows the classes, one model of each, or a pretrained model asked
for a word. Each answers with the same verdicts.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tdiff.core.classification.sequential import Prediction, Progress, divisor, weigh
from tdiff.core.evaluation.likelihood import exactly
from tdiff.core.evaluation.metrics import Assessment, assess, temperature
from tdiff.core.models.base import Inputs, LoadedModel, Model, Tokenizer
from tdiff.core.training.packing import padded
from tdiff.errors import TdiffError, unknown
from tdiff.runs.run import PerClassRun
from tdiff.visible import visible_line

SLOT = "{text} All in all, it was {mask}."
"""The pattern of `cloze`, where none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How a text is weighed."""

    confidence: float = 0.99
    """Draws end when the decision is so sure; 1: never before `draws`."""
    draws: int = 32
    """The most."""
    seed: int = 0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Classifier:
    """What can say of which class a text is."""

    name: str
    method: str
    classes: tuple[str, ...]
    priors: tuple[float, ...]
    """Of the classes, before a text is seen; they sum to one."""
    temperature: float
    """See `classifier.divisor`; 0 where none is known."""
    tokenizer: Tokenizer
    networks: tuple[Model, ...]
    """One that is told the class, or one of each class."""
    device: str
    bfloat16: bool = False
    """Whether products are taken in bfloat16."""
    words: tuple[tuple[int, ...], ...] = ()
    """cloze: the ids of each class's words ..."""
    around: tuple[Tensor, Tensor] = (torch.zeros(0, dtype=torch.int64),) * 2
    """... and those before and after the slot, behind the text."""

    @property
    def together(self) -> int:
        """Texts that are weighed at a time: as many as keep the device busy, and few, that the first is not long in
        coming: on a CPU 32 are a tenth faster than 8 where texts are short, and the first takes three times as long.
        """
        return 8 if self.device == "cpu" else 256

    @property
    def window(self) -> int:
        """Tokens that are seen at once."""
        return min(network.spec.context for network in self.networks)

    def encode(self, text: str) -> Tensor:
        """Ids (L,) int64. Raises TdiffError for a text that is blank, or cannot be said in the model's tokens."""
        if not text.strip():
            raise TdiffError("the text is empty")
        return self.tokenizer.encode(text)

    def pieces(self, ids: Tensor) -> list[str]:
        """The text of each token."""
        return [self.tokenizer.pieces[i] for i in ids.tolist()]

    def verdicts(self, texts: Sequence[Tensor], effort: Effort, names: Sequence[int] = ()) -> Iterator[Progress]:
        """A look at each text of ids (L,) after each round of draws, the last being final; they come as they are ready.

        `names` number the texts for the noise, so that a verdict does not depend on what else is weighed. Only `bound`
        draws; the others have one look at a text. Raises TdiffError for a text that has no token to ask for.
        """
        if self.method == "bound":
            yield from weigh(
                self._told if len(self.networks) == 1 else self._each,
                texts,
                self.priors,
                window=self.window,
                mask_id=self.networks[0].spec.mask_id,
                unmaskable=self._unscored(),
                confidence=effort.confidence,
                most_draws=effort.draws,
                seed=effort.seed,
                temperature=self.temperature,
                explain=effort.explain,
                device=self.device,
                names=names,
                together=self.together,
                vocabulary=self.networks[0].spec.vocab_size,
            )
            return
        one = self._exact if self.method == "ar" else self._cloze
        for n, ids in enumerate(texts):
            begun = time.perf_counter()
            with torch.inference_mode(), self._products():
                verdict = one(ids, effort.explain)
            yield Progress(n, verdict, True, time.perf_counter() - begun)

    def scored(self, ids: Tensor) -> int:
        """Tokens of a text that count in its likelihood."""
        return int((~torch.isin(ids, torch.tensor(self._unscored(), dtype=torch.int64))).sum())

    def can_weigh(self, ids: Tensor) -> bool:
        """Whether a text has a token that the model may be asked for."""
        places = ~torch.isin(ids, torch.tensor(self._unscored(), dtype=torch.int64))[None]
        return all(bool(network.spec.scorable(places).any()) for network in self.networks)

    def _unscored(self) -> Sequence[int]:
        return self.networks[0].spec.unscored

    def _products(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)

    def _told(self, tokens: Tensor, share: Tensor, where: Tensor, attention: Tensor, label: Tensor) -> Tensor:
        """One model, told the class of each row."""
        with self._products():
            return self.networks[0].logits(Inputs(tokens, share, where, attention=attention, label=label))

    def _each(self, tokens: Tensor, share: Tensor, where: Tensor, attention: Tensor, label: Tensor) -> Tensor:
        """A model of each class, asked for the rows of its class; labels come in order."""
        found = []
        for n, network in enumerate(self.networks):
            some = label == n
            with self._products():
                found.append(network.logits(Inputs(tokens[some], share[some], where[some], attention=attention[some])))
        return torch.cat(found)

    def _exact(self, ids: Tensor, explain: bool) -> Prediction:
        """By the likelihood itself, which a causal model tells."""
        rows, real, _ = padded([ids], self.window, self.networks[0].spec.mask_id)
        scored = real & ~torch.isin(rows, torch.tensor(self._unscored(), dtype=torch.int64))
        each = []
        for network in self.networks:
            places = network.spec.scorable(scored.to(self.device))
            if not bool(places.any()):
                raise TdiffError("a text with no token that the model could be asked for is of no class")
            if explain:  # a window at a time: the logits of all would be many
                windows = [
                    network.log_likelihood(row[None].to(self.device), at[None])
                    for row, at in zip(rows, places, strict=True)
                ]
                each.append(-torch.cat([log_p for log_p in windows if log_p is not None]).cpu().double()[real])
            else:
                each.append(exactly(network, rows.to(self.device), places).nats.sum()[None])
        nats = torch.stack(each)
        return _settled(nats.sum(1), self, int(scored.sum()), nats if explain else None)

    def _cloze(self, ids: Tensor, explain: bool) -> Prediction:
        """By the words of the classes in a masked slot behind the text; of several windows, their mean."""
        before, after = self.around
        network = self.networks[0]
        room = self.window - len(before) - len(after) - 1
        slot = torch.tensor([network.spec.mask_id])
        lines = [torch.cat((ids[at : at + room], before, slot, after)) for at in range(0, len(ids), room)]
        nats = torch.zeros(len(self.classes), dtype=torch.float64)
        for line in lines:
            row = line[None].to(self.device)
            where = torch.zeros_like(row, dtype=torch.bool)
            where[0, len(line) - len(after) - 1] = True
            logits = network.logits(Inputs(row, where.sum(1) / row.size(1), where))[0].cpu().double()
            known = torch.stack([logits[list(words)].logsumexp(0) for words in self.words])
            nats -= known.log_softmax(0) / len(lines)
        return _settled(nats, self, 1)


def _settled(nats: Tensor, classifier: Classifier, tokens: int, each: Tensor | None = None) -> Prediction:
    """The verdict where `nats` (C,), of so many tokens, are no estimate; `each` (C, L) are those of the tokens."""
    over = divisor(classifier.temperature, tokens)
    prior = torch.tensor([math.log(p) if p > 0 else -math.inf for p in classifier.priors], dtype=torch.float64)
    scores = prior - nats / over
    posterior = scores.softmax(0)
    best = int(posterior.argmax())
    told = None
    if each is not None:
        second = int(scores.index_fill(0, torch.tensor(best), -math.inf).argmax())
        told = (each[second] - each[best]) / over
    p = float(posterior[best])
    return Prediction(best, tuple(posterior.tolist()), (p, p), tuple(nats.tolist()), 1, True, told)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What verdicts on texts that were held out say of the rest."""

    temperature: float
    """The best for them."""
    assessment: Assessment
    """Of the verdicts with that temperature."""


_GROUP = 16
"""Texts that are scored together where time is limited."""


def calibrate(
    classifier: Classifier,
    texts: Sequence[Tensor],
    labels: Sequence[int],
    most: int,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
) -> Calibration | None:
    """The temperature that fits `texts` of ids (L,), whose classes are `labels`: `most` of them, drawn at random.

    Once `seconds` have passed no further group of texts is scored. None where `stop` said so meanwhile, or none of
    them can be scored.
    """
    mixed = list(range(len(texts)))
    random.Random(seed).shuffle(mixed)
    chosen = mixed[:most]
    nats: dict[int, list[float]] = {}
    plain = replace(classifier, temperature=0.0)
    effort = Effort(seed=seed)
    some = [n for n in chosen if plain.can_weigh(texts[n])]
    # Texts whose class is plain are done first: only whole groups are free of that bias.
    size = len(some) if seconds is None else _GROUP
    end = math.inf if seconds is None else time.monotonic() + seconds
    for start in range(0, len(some), max(1, size)):
        if time.monotonic() >= end and nats:
            break
        group = some[start : start + size]
        for look in plain.verdicts([texts[n] for n in group], effort, names=group):
            if stop():
                return None
            if look.final:
                root = math.sqrt(plain.scored(texts[group[look.text]]))
                nats[group[look.text]] = [value / root for value in look.verdict.nats]
                if progress:
                    progress(len(nats), len(some))
    if not nats:
        return None
    found = torch.tensor(list(nats.values()), dtype=torch.float64)
    truth = [labels[n] for n in nats]
    fitted = temperature(found, truth, classifier.priors)
    prior = torch.tensor(classifier.priors, dtype=torch.float64).log()
    return Calibration(fitted, assess((prior - found / fitted).softmax(1), truth, classifier.classes))


def of_one(model: LoadedModel, device: str, bfloat16: bool = False) -> Classifier:
    """By a model that knows the classes. Raises TdiffError where it knows none."""
    origin = model.origin
    if not origin.classes:
        raise TdiffError(
            f"{model.name} knows no classes: train one that does by tdiff train --classes --data FILE --label-field "
            "FIELD, give one model a class by --model CLASS=MODEL, or have a pretrained one fill in a word by --method "
            "cloze"
        )
    counted = sum(origin.counts)
    return Classifier(
        model.name,
        "bound",
        origin.classes,
        tuple(count / counted for count in origin.counts),
        origin.temperature,
        model.tokenizer,
        (model.network,),
        device,
        bfloat16,
    )


def of_each(
    models: Mapping[str, LoadedModel],
    device: str,
    bfloat16: bool = False,
    counts: Sequence[int] = (),
    temperature: float = 0.0,
    name: str = "",
) -> Classifier:
    """By one model a class, all masked or all causal; equal priors where no `counts` are known.

    Raises TdiffError where they are of both kinds, or do not share their tokens: likelihoods of different tokens cannot
    be compared place by place.
    """
    if len(models) < 2:
        raise TdiffError(f"one model a class takes two at least; got {', '.join(models) or 'none'}")
    (first, one), *rest = models.items()
    for label, other in rest:
        if other.spec.causal != one.spec.causal:
            kinds = [("masked", "causal")[model.spec.causal] for model in (other, one)]
            raise TdiffError(
                f"the model of {label!r} is {kinds[0]} and that of {first!r} {kinds[1]}: their likelihoods cannot be "
                "compared"
            )
        if other.tokenizer.pieces != one.tokenizer.pieces:
            raise TdiffError(f"the models of {first!r} and {label!r} have different tokenizers: train them with one")
    for label, model in models.items():
        if not model.spec.pads:
            raise TdiffError(f"the model of {label!r} ignores the padding mask, so texts cannot be scored in batches")
    even = [1] * len(models)
    priors = tuple(count / sum(counts or even) for count in counts or even)
    return Classifier(
        name or " + ".join(model.name for model in models.values()),
        "ar" if one.spec.causal else "bound",
        tuple(models),
        priors,
        temperature,
        one.tokenizer,
        tuple(model.network for model in models.values()),
        device,
        bfloat16,
    )


def of_folder(folder: Path, load: Callable[[str], LoadedModel], device: str, bfloat16: bool = False) -> Classifier:
    """By the models of the classes that the folder's classes.json names, each had by `load` from its folder."""
    each = PerClassRun.read(folder)
    models = {label: load(str(folder / run)) for label, run in zip(each.classes, each.runs, strict=True)}
    return of_each(models, device, bfloat16, each.counts, each.temperature, folder.name)


def of_words(
    model: LoadedModel, words: Mapping[str, Sequence[str]], pattern: str, device: str, bfloat16: bool = False
) -> Classifier:
    """By the words of each class that a masked model puts into a slot behind the text: no training at all
    (Schick and Schütze 2021, arXiv:2001.07676).

    `pattern` holds {text} and {mask}, once each and in this order. Raises TdiffError where it does not, where the model
    is causal, and for a word that is no single token of it.
    """
    if model.spec.causal:
        raise TdiffError(f"{model.name} writes from left to right; --method cloze fills a slot, with a masked model")
    if len(words) < 2:
        raise TdiffError("--method cloze takes two classes at least: --words 'positive=great,good negative=terrible'")
    # A long text is cut into windows, and the slot stands behind each.
    lead, _, rest = pattern.partition("{text}")
    if lead or pattern.count("{text}") != 1 or rest.count("{mask}") != 1:
        raise TdiffError(f"--pattern begins with {{text}} and holds {{mask}} after it, once each; got {pattern!r}")
    between, _, after = rest.partition("{mask}")
    spaced = between.endswith(" ")
    ids = tuple(
        tuple(_one_token(model, (" " if spaced else "") + word, word) for word in some) for some in words.values()
    )
    around = tuple(
        model.tokenizer.encode(part, "the pattern", inside=True) if part else torch.zeros(0, dtype=torch.int64)
        for part in (between.rstrip(" "), after)
    )
    if len(around[0]) + len(around[1]) + 2 > model.spec.context:
        raise TdiffError(f"--pattern leaves no room for a text: {model.name} sees {model.spec.context} tokens")
    return Classifier(
        model.name,
        "cloze",
        tuple(words),
        (1 / len(words),) * len(words),
        0.0,
        model.tokenizer,
        (model.network,),
        device,
        bfloat16,
        ids,
        (around[0], around[1]),
    )


def _one_token(model: LoadedModel, spaced: str, word: str) -> int:
    """The id of a word as it stands in the slot."""
    tokenizer = model.tokenizer
    for text in (spaced, word):
        ids = tokenizer.encode(text, f"the word {word!r}").tolist()
        if len(ids) == 1 and ids[0] not in model.spec.suppressed:
            return int(ids[0])
    pieces = "|".join(tokenizer.pieces[i] for i in tokenizer.encode(spaced).tolist())
    raise TdiffError(f"the word {word!r} must be one token of {model.name}; it is {pieces!r}")


def with_priors(classifier: Classifier, priors: Mapping[str, float] | None) -> Classifier:
    """The same with other priors, of every class; None: equal ones.

    Raises TdiffError where they do not name each class once, or do not sum to one.
    """
    classes = classifier.classes
    if priors is None:
        return replace(classifier, priors=(1 / len(classes),) * len(classes))
    for name in priors:
        if name not in classes:
            raise unknown("class", name, classes)
    if missing := [name for name in classes if name not in priors]:
        named = visible_line(", ".join(classes))
        raise TdiffError(f"--priors says nothing of {missing[0]!r}; the classes are {named}")
    total = math.fsum(priors.values())
    if not all(0 <= p <= 1 for p in priors.values()) or abs(total - 1) > 1e-6:
        raise TdiffError(f"--priors must be at least 0 and sum to 1; got a sum of {total:g}")
    return replace(classifier, priors=tuple(priors[name] for name in classes))
