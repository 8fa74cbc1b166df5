"""`tdiff classify`: which class texts are of, as lines on the terminal, as JSON, as a file that can be gone on with."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.commands import classify_models
from tdiff.commands.progress import progress_bar
from tdiff.commands.resumable import GOES_ON, Kept, check_names
from tdiff.config.options import argument, nested, option
from tdiff.corpus.rows import Text, checked, read
from tdiff.errors import TdiffError
from tdiff.report import evaluation, predictions
from tdiff.visible import json_line, visible_line

if TYPE_CHECKING:
    from torch import Tensor

    from tdiff.core.classification.classifier import Classifier, Effort
    from tdiff.core.classification.sequential import Prediction

_PARTIAL = 1
_INTERRUPTED = 130
_AHEAD = 1024
"""Rows that are made tokens of before the first of them is weighed: of a large file all of them take a while."""


EXAMPLES = (
    'tdiff classify --model reviews "a warm and golden film" --explain',
    "tdiff classify --model reviews --input reviews.jsonl --output predictions.jsonl",
    "tdiff classify --model reviews --evaluate --input unseen.jsonl --limit 200",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    texts: Sequence[str] = argument((), "Texts to classify.", metavar="[TEXT]...")
    model: classify_models.Request = nested()
    input: str | None = option(
        None, "Read texts from FILE: .jsonl, .csv, lines, a folder of files, or -.", panel="Input", metavar="FILE"
    )
    text_field: str = option("text", "Field of .jsonl and .csv rows that holds the text.", panel="Input")
    label_field: str | None = option(
        None, "Field that holds the label, for --evaluate.", panel="Input", shown="default: label"
    )
    limit: int = option(0, "Score a random subset of this many inputs.", panel="Input", shown="default: all")
    output: Path | None = option(
        None,
        "Write predictions to FILE (JSON Lines). If FILE exists, resume it.",
        panel="Output",
        metavar="FILE",
    )
    evaluate: bool = option(
        False, "Evaluate the predictions against the labels of --input.", flag="--evaluate", panel="Output"
    )
    explain: bool = option(False, "Show how much each token adds to the log odds.", flag="--explain", panel="Output")
    as_json: bool = option(
        False, "Print one JSON object per text, or for the evaluation.", flag="--json", panel="Output"
    )
    html: Path | None = option(None, "Save what --explain or --evaluate shows.", panel="Output", metavar="FILE")
    confidence: float = option(
        0.99, "Stop sampling masks at this confidence level; 1 always uses --max-draws.", panel="Scoring"
    )
    max_draws: int = option(32, "Most mask samples per text.", panel="Scoring")
    abstain_below: float = option(
        0.0, "Abstain when the predicted probability is below this threshold.", panel="Scoring", shown="default: never"
    )
    seed: int = option(0, "Seed of the masks and of --limit.", panel="Scoring")


def run(request: Request) -> None:
    """Classify the texts and print the predictions; progress bars and messages go to stderr."""
    _check(request)
    rows = _rows(request)
    chosen = _chosen(rows, request)
    kept = Kept()
    if request.output is not None:
        kept = Kept.of(request.output, _is_ours, "tdiff classify")
        kept.check_input({row.number: row.given for row in rows}, request.output)
    classifier = classify_models.load(request.model)
    told = settings(request, classifier)
    if kept.lines and request.output is not None:
        _same_settings(kept.lines[-1]["settings"], told, request.output)
    # What a row says is told by the row: an output may have been begun without a look at its labels.
    wanted = {row.number: row.label for row in chosen if not request.evaluate or row.label in classifier.classes}
    found = [line | {"truth": wanted[line["line"]]} for line in kept.lines if line["line"] in wanted]
    there = {line["line"] for line in kept.lines}
    todo = [row for row in chosen if row.number not in there]
    stopped = False
    bad = _Bad(request.input or "text")
    with ExitStack() as stack:
        file = stack.enter_context(kept.opened(request.output)) if request.output is not None else None
        if found:
            print(f"{request.output} holds {len(found):,} of {len(chosen):,} verdicts: going on", file=sys.stderr)
        bar = stack.enter_context(progress_bar("weighing"))
        try:
            for line in _lines(classifier, todo, request, told, bad):
                found.append(line)
                if file is not None:
                    file.write(json_line(line) + "\n")
                    file.flush()
                elif not request.evaluate and request.as_json:
                    print(json_line(line), flush=True)
                elif not request.evaluate:
                    predictions.show(line)
                if bar:
                    bar(len(found) + bad.count, len(chosen))
        except KeyboardInterrupt:
            if not (request.evaluate and found):
                raise
            stopped = True
    if stopped:
        go_on = f"; {visible_line(str(request.output))} {GOES_ON}" if request.output is not None else ""
        print(f"stopped at {len(found):,} of {len(chosen):,} texts, which came in random order{go_on}", file=sys.stderr)
    if request.evaluate:
        if not found:
            raise TdiffError("there is no verdict to judge: " + (bad.last or "no text was weighed"))
        evaluation.show(found, classifier.classes, as_json=request.as_json, html=request.html)
    elif request.html is not None:
        predictions.save(request.html, predictions.page(found))
    if stopped:
        sys.exit(_INTERRUPTED)
    if bad.count:
        print(f"{bad.count:,} of {len(chosen):,} texts were passed over", file=sys.stderr)
        sys.exit(_PARTIAL)


def _check(request: Request) -> None:
    if request.texts and request.input is not None:
        raise TdiffError("give texts, or --input FILE, and not both")
    if not request.texts and request.input is None:
        raise TdiffError('what is to be classified? Give a text: tdiff classify "...", or --input FILE')
    if request.input is None and (request.output or request.evaluate or request.limit):
        raise TdiffError("--output, --evaluate and --limit are for the texts of --input FILE")
    if request.html and not (request.explain or request.evaluate):
        raise TdiffError("--html saves what --explain or --evaluate shows: add one of them")
    if request.explain and request.model.method == "cloze":
        raise TdiffError(
            "--explain tells what each token adds to the likelihood, of which --method cloze knows nothing"
        )
    if request.explain and request.evaluate:
        raise TdiffError("--explain shows single texts, and --evaluate judges all: choose one")
    if not 0.5 <= request.confidence <= 1:
        raise TdiffError(f"--confidence must be within 0.5..1 (1: all draws); got {request.confidence:g}")
    if not 1 <= request.max_draws <= 1 << 16:
        raise TdiffError(f"--max-draws must be within 1..65,536; got {request.max_draws}")
    if not 0 <= request.abstain_below <= 1:
        raise TdiffError(f"--abstain-below must be within 0..1; got {request.abstain_below:g}")
    if request.limit < 0:
        raise TdiffError(f"--limit must be at least 1, or 0 for all; got {request.limit}")
    if request.output is not None and request.input is not None:
        check_names(request.input, request.output)
    if request.html is not None and (request.html.is_dir() or not request.html.parent.is_dir()):
        raise TdiffError(f"the page {str(request.html)!r} cannot be written: name a file in a folder that is there")


def _rows(request: Request) -> list[Text]:
    if request.input is None:
        return [checked(n, text, text, None) for n, text in enumerate(request.texts, 1)]
    label_field = (request.label_field or "label") if request.evaluate else None
    return read(request.input, request.text_field, label_field)


def _chosen(rows: list[Text], request: Request) -> list[Text]:
    """All rows in their order; to be evaluated in a random one, so that as many as one will are a fair sample."""
    if not request.evaluate and not request.limit:
        return rows
    mixed = list(rows)
    random.Random(f"evaluate {request.seed}").shuffle(mixed)
    return mixed[: request.limit] if request.limit else mixed


class _Bad:
    """Rows that are passed over, each told of on stderr."""

    def __init__(self, source: str) -> None:
        self.source, self.count, self.last = source, 0, ""

    def tell(self, number: int, why: str) -> None:
        self.count, self.last = self.count + 1, why
        print(f"{visible_line(self.source)}:{number}: {visible_line(why)}; passed over", file=sys.stderr, flush=True)


def effort(request: Request) -> Effort:
    """How hard to look."""
    from tdiff.core.classification.classifier import Effort

    return Effort(confidence=request.confidence, draws=request.max_draws, seed=request.seed, explain=request.explain)


def settings(request: Request, classifier: Classifier) -> dict[str, Any]:
    """All that verdicts depend on besides the text."""
    drawn = {"confidence": request.confidence, "max_draws": request.max_draws, "seed": request.seed}
    return {
        "model": classifier.name,
        "method": classifier.method,
        "priors": dict(zip(classifier.classes, classifier.priors, strict=True)),
        "temperature": classifier.temperature,
        "abstain_below": request.abstain_below,
        "text_field": request.text_field,
        "explain": request.explain,
        "bfloat16": classifier.bfloat16,
        **(drawn if classifier.method == "bound" else {}),
        **classify_models.asked(request.model, classifier.method),
    }


def _is_ours(line: Any) -> bool:
    match line:
        case {"line": int(), "input": _, "probability": float(), "posterior": dict(), "settings": dict()}:
            return True
    return False


def _same_settings(then: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    for name in (*now, *then):
        if then.get(name) != now.get(name):
            raise TdiffError(
                f"{str(output)!r} was begun with {name.replace('_', '-')} {then.get(name)}, not {now.get(name)}: go on "
                "as it was begun, or name another output"
            )


def _lines(
    classifier: Classifier, rows: list[Text], request: Request, told: dict[str, Any], bad: _Bad
) -> Iterator[dict[str, Any]]:
    """A line for each row that can be weighed, in the order of the rows."""
    for start in range(0, len(rows), _AHEAD):
        yield from _some_lines(classifier, rows[start : start + _AHEAD], request, told, bad)


def _some_lines(
    classifier: Classifier, rows: list[Text], request: Request, told: dict[str, Any], bad: _Bad
) -> Iterator[dict[str, Any]]:
    good: list[tuple[Text, Tensor]] = []
    for row in rows:
        why = row.wrong
        if not why and row.label is not None and row.label not in classifier.classes:
            why = f"its class {row.label!r} is none of the model's, which are {', '.join(classifier.classes)}"
        try:
            ids = None if why else classifier.encode(row.text)
        except TdiffError as error:
            why, ids = str(error), None
        if ids is not None and not classifier.can_weigh(ids):
            why, ids = "it has no token that the model could be asked for", None
        if ids is None:
            bad.tell(row.number, why)
        else:
            good.append((row, ids))
    ready: dict[int, dict[str, Any]] = {}
    due = 0
    looks = classifier.verdicts([ids for _, ids in good], effort(request), [row.number for row, _ in good])
    for look in looks:
        if not look.final:
            continue
        row, ids = good[look.text]
        ready[look.text] = _line(classifier, row, ids, look.verdict, look.seconds, request, told)
        while due in ready:
            yield ready.pop(due)
            due += 1


def _line(
    classifier: Classifier,
    row: Text,
    ids: Tensor,
    verdict: Prediction,
    seconds: float,
    request: Request,
    told: dict[str, Any],
) -> dict[str, Any]:
    p, name = verdict.posterior[verdict.label], classifier.classes[verdict.label]
    abstains = p < request.abstain_below
    line = {
        "line": row.number,
        "input": row.given,
        **({"truth": row.label} if row.label is not None else {}),
        "label": None if abstains else name,
        "likeliest": name,
        "probability": p,
        "interval": list(verdict.interval),
        "posterior": dict(zip(classifier.classes, verdict.posterior, strict=True)),
        "draws": verdict.draws,
        "sure": verdict.sure,
        "milliseconds": round(1000 * seconds, 1),
        "settings": told,
    }
    if verdict.contributions is not None:
        pieces = classifier.pieces(ids)
        line["contributions"] = [
            [piece, round(nats, 4)] for piece, nats in zip(pieces, verdict.contributions.tolist(), strict=True)
        ]
    return line
