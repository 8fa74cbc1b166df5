"""`tdiff classify`: predictions for texts, as lines on the terminal, as JSON, or as a resumable file."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdiff.commands import classify_models, sharded
from tdiff.commands.progress import progress_bar
from tdiff.commands.resumable import RESUMES, Saved, Skipped, check_names, check_settings
from tdiff.config.options import TEXT_FIELD_HELP, argument, nested, option
from tdiff.corpus.readers import Row
from tdiff.corpus.rows import read, rows_of
from tdiff.errors import TdiffError
from tdiff.report import evaluation, html, predictions
from tdiff.visible import json_line, visible_line

if TYPE_CHECKING:
    from torch import Tensor

    from tdiff.core.classification.classifier import Classifier
    from tdiff.core.classification.prediction import Effort, Prediction
    from tdiff.core.training.distributed import World

_INTERRUPTED = 130
_AHEAD = 1024
"""Rows that are tokenized before the first of them is scored, since all rows of a large file take a while."""


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
        None,
        "Read texts from FILE: .jsonl, .csv, a text per line, a folder of files, or -.",
        panel="Input",
        metavar="FILE",
    )
    text_field: str = option("text", TEXT_FIELD_HELP, panel="Input", metavar="NAME")
    label_field: str | None = option(
        None, "Field that holds the label, for --evaluate.", panel="Input", metavar="NAME", shown="default: label"
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
    html: Path | None = option(
        None, "Save an HTML page of what --explain or --evaluate shows.", panel="Output", metavar="FILE"
    )
    confidence: float = option(
        0.99, "Stop sampling masks at this confidence level; 1 always uses --max-draws.", panel="Scoring"
    )
    max_draws: int = option(32, "Maximum number of mask samples per text.", panel="Scoring")
    abstain_below: float = option(
        0.0, "Abstain when the predicted probability is below this threshold.", panel="Scoring", shown="default: never"
    )
    seed: int = option(0, "Seed of the masks and of --limit.", panel="Scoring", shown="default: 0")


def run(request: Request) -> None:
    """Classify the texts and print the predictions; progress bars and messages go to stderr."""
    _check(request)
    world = sharded.join(request.input, request.output)
    with world.together(), world.in_turn():
        rows = _rows(request)
        selected = _selected(rows, request)
        saved = Saved.read(request.output, _is_record, "tdiff classify")
        if request.output is not None:
            saved.check_input({row.number: row.value for row in rows}, request.output)
        classifier = classify_models.load(request.model)
        used = settings(request, classifier)
        if saved.lines and request.output is not None:
            check_settings(saved.lines[-1]["settings"], used, request.output)
    # The label comes from the input: the output may have been started without labels.
    truths = {row.number: row.label for row in selected if not request.evaluate or row.label in classifier.classes}
    lines = [line | {"truth": truths[line["line"]]} for line in saved.lines if line["line"] in truths]
    skipped = Skipped(request.input or "text")
    todo = [row for row in selected if row.number not in saved.numbers]
    records = _Scorer(classifier, request, used, skipped, world).records(todo)
    if not world.leads:
        deque(records, maxlen=0)
        sharded.leave()
        return
    stopped = _collect(records, lines, request, saved, len(selected), skipped)
    sharded.leave()
    if request.evaluate:
        if not lines:
            raise TdiffError("nothing to evaluate: " + (skipped.last or "no text was scored"))
        evaluation.show(lines, classifier.classes, as_json=request.as_json, html=request.html)
    elif request.html is not None:
        html.save(request.html, predictions.page(lines))
    if stopped:
        sys.exit(_INTERRUPTED)
    skipped.exit(len(selected), "texts")


def _collect(
    records: Iterator[dict[str, Any]],
    lines: list[dict[str, Any]],
    request: Request,
    saved: Saved,
    total: int,
    skipped: Skipped,
) -> bool:
    """Add the records to `lines`, and print them or write them to the output.

    Returns whether Ctrl-C stopped it; only an evaluation continues after that, with the texts that were scored.
    """
    with ExitStack() as stack:
        write = None
        if request.output is not None:
            write = stack.enter_context(saved.opened(request.output, len(lines), total, "predictions"))
        bar = stack.enter_context(progress_bar("scoring"))
        try:
            for line in records:
                lines.append(line)
                if write is not None:
                    write(line)
                elif not request.evaluate and request.as_json:
                    print(json_line(line), flush=True)
                elif not request.evaluate:
                    predictions.show(line)
                if bar:
                    bar(len(lines) + skipped.count, total)
        except KeyboardInterrupt:
            if not (request.evaluate and lines):
                raise
        else:
            return False
    how = f"; {visible_line(str(request.output))} {RESUMES}" if request.output is not None else ""
    print(f"stopped at {len(lines):,} of {total:,} texts, scored in random order{how}", file=sys.stderr)
    return True


def _check(request: Request) -> None:
    if request.texts and request.input is not None:
        raise TdiffError("set only one of TEXT and --input FILE")
    if not request.texts and request.input is None:
        raise TdiffError("no input: pass TEXT, or --input FILE")
    if request.input is None and (request.output or request.evaluate or request.limit):
        raise TdiffError("--output, --evaluate and --limit require --input FILE")
    if request.html and not (request.explain or request.evaluate):
        raise TdiffError("--html requires --explain or --evaluate, whose output it saves")
    if request.explain and request.model.method == "cloze":
        raise TdiffError(
            "--explain shows what each token adds to the likelihood, which --method cloze does not compute"
        )
    if request.explain and request.evaluate:
        raise TdiffError("set only one of --explain (single texts) and --evaluate (all texts)")
    if not 0.5 <= request.confidence <= 1:
        raise TdiffError(f"--confidence must be within 0.5..1 (1: all mask samples); got {request.confidence:g}")
    if not 1 <= request.max_draws <= 1 << 16:
        raise TdiffError(f"--max-draws must be within 1..65,536; got {request.max_draws}")
    if not 0 <= request.abstain_below <= 1:
        raise TdiffError(f"--abstain-below must be within 0..1; got {request.abstain_below:g}")
    if request.limit < 0:
        raise TdiffError(f"--limit must be at least 1, or 0 for all; got {request.limit}")
    if request.output is not None and request.input is not None:
        check_names(request.input, request.output)
    if request.html is not None:
        html.check_file(request.html)


def _rows(request: Request) -> list[Row]:
    if request.input is None:
        return rows_of(list(request.texts))
    label_field = (request.label_field or "label") if request.evaluate else None
    return read(request.input, request.text_field, label_field)


def _selected(rows: list[Row], request: Request) -> list[Row]:
    """All rows in order; for an evaluation in random order, so that any number of them is a fair sample."""
    if not request.evaluate and not request.limit:
        return rows
    mixed = list(rows)
    random.Random(f"evaluate {request.seed}").shuffle(mixed)
    return mixed[: request.limit] if request.limit else mixed


def effort(request: Request) -> Effort:
    """The confidence and number of mask samples to aim for."""
    from tdiff.core.classification.prediction import Effort

    return Effort(confidence=request.confidence, draws=request.max_draws, seed=request.seed, explain=request.explain)


def settings(request: Request, classifier: Classifier) -> dict[str, Any]:
    """Everything that predictions depend on besides the text."""
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
        **classify_models.method_settings(request.model, classifier.method),
    }


def _is_record(line: Any) -> bool:
    match line:
        case {"line": int(), "input": _, "probability": float(), "posterior": dict(), "settings": dict()}:
            return True
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class _Scorer:
    """Scores rows and makes their records."""

    classifier: Classifier
    request: Request
    settings: dict[str, Any]
    """Everything that predictions depend on besides the text, for the records."""
    skipped: Skipped
    world: World

    def records(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """A record for each row that can be scored, in the order of the rows."""
        for start in range(0, len(rows), _AHEAD):
            chunk = rows[start : start + _AHEAD]
            good, bad = self._split(sharded.own(self.world, chunk))
            reasons, records = sharded.merged(self.world, [row.number for row in chunk], bad, self._chunk(good))
            for number, why in reasons:
                self.skipped.report(number, why)
            yield from records

    def _split(self, rows: Sequence[Row]) -> tuple[list[tuple[Row, Tensor]], list[tuple[int, str]]]:
        """The rows that can be scored, with their tokens, and the numbers of the others with the reasons."""
        good, bad = list[tuple[Row, "Tensor"]](), list[tuple[int, str]]()
        for row in rows:
            ids = self._encode(row)
            if isinstance(ids, str):
                bad.append((row.number, ids))
            else:
                good.append((row, ids))
        return good, bad

    def _chunk(self, good: Sequence[tuple[Row, Tensor]]) -> Iterator[dict[str, Any]]:
        texts, numbers = [ids for _, ids in good], [row.number for row, _ in good]
        ready: dict[int, dict[str, Any]] = {}
        due = 0
        for update in self.classifier.predict(texts, effort(self.request), numbers):
            if not update.final:
                continue
            ready[update.text] = self._record(*good[update.text], update.prediction, update.seconds)
            while due in ready:
                yield ready.pop(due)
                due += 1

    def _encode(self, row: Row) -> Tensor | str:
        """The tokens of a row; for one that cannot be scored the reason."""
        classifier, why = self.classifier, row.error
        if not why and row.label is not None and row.label not in classifier.classes:
            why = f"its class {row.label!r} is not one of the model's classes: {', '.join(classifier.classes)}"
        if not why:
            try:
                ids = classifier.encode(row.text)
            except TdiffError as error:
                why = str(error)
            else:
                if classifier.can_score(ids):
                    return ids
                why = "it has no token that the model can predict"
        return why

    def _record(self, row: Row, ids: Tensor, prediction: Prediction, seconds: float) -> dict[str, Any]:
        classifier = self.classifier
        p, name = prediction.posterior[prediction.label], classifier.classes[prediction.label]
        record = {
            "line": row.number,
            "input": row.value,
            **({"truth": row.label} if row.label is not None else {}),
            "label": None if p < self.request.abstain_below else name,
            "likeliest": name,
            "probability": p,
            "interval": list(prediction.interval),
            "posterior": dict(zip(classifier.classes, prediction.posterior, strict=True)),
            "draws": prediction.draws,
            "sure": prediction.sure,
            "milliseconds": round(1000 * seconds, 1),
            "settings": self.settings,
        }
        if prediction.contributions is not None:
            pieces = classifier.pieces(ids)
            record["contributions"] = [
                [piece, round(nats, 4)] for piece, nats in zip(pieces, prediction.contributions.tolist(), strict=True)
            ]
        return record
