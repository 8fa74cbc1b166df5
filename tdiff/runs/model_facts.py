"""What the files of a model say without loading it: size, parameters, vocabulary, bound, and a line of its text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdiff.runs.retention import BEST, best_bound
from tdiff.runs.run import Run
from tdiff.runs.wholeness import header

_TAIL = 1 << 22
"""Bytes at the end of an event log that are read."""
_LARGEST_TOKENIZER = 1 << 26
"""Bytes of the largest tokenizer.json that is read."""
_CARD = 1 << 16
"""Bytes of a model card that are read."""
_LONGEST = 400
"""Characters of a text that are kept."""
_MOST_IN_TENSOR = 1 << 31
"""Parameters of one tensor beyond which its header is damaged."""
_KINDS = {"WordLevel": "characters", "BPE": "BPE", "WordPiece": "WordPiece", "Unigram": "Unigram"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a model; None or "" where its files do not say it."""

    size: int
    """Bytes of its files."""
    parameters: int | None = None
    vocabulary: int | None = None
    """Tokens of its vocabulary, with the mask and other special ones."""
    tokenizer: str = ""
    """Kind of its tokenizer: characters, BPE, WordPiece or Unigram."""
    family: str = ""
    """The `model_type` of its config."""
    context: int | None = None
    """Context length in tokens."""
    trained: int | None = None
    """Tokens that it has seen in training."""
    bound: float | None = None
    """Likelihood bound on held-out text, in nats a character: its newest evaluation, or its card's."""
    interval: tuple[float, float] | None = None
    """The bound's 95% interval."""
    text: str = ""
    """The beginning of a text that it generated: its card's, or the newest sample of its training."""
    problem: str = ""
    """Why the folder cannot be a model, in a few words."""


def facts(folder: Path) -> Facts:
    """The facts of the model in `folder`; a run's model is its folder `model`. Damaged files leave facts out."""
    size = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    config, problem = _config(folder / "config.json")
    origin = config.get("origin")
    origin = origin if isinstance(origin, Mapping) else {}
    best = best_bound(Run(folder.parent)) if folder.name == BEST else None
    run = folder.parent if folder.name == "model" or best else folder
    bound, interval, text = _card(run / "README.md") if best is None else (None, None, "")
    measured = _newest(run / "events.jsonl", best.step if best else None)
    if bound is None and (evaluation := measured.get("eval")):
        bound, interval = _bound(evaluation)
    text = text or str(measured.get("sample", {}).get("text", ""))
    return Facts(
        size=size,
        parameters=_parameters(folder),
        vocabulary=_count(config.get("vocab_size")),
        tokenizer=_tokenizer(folder / "tokenizer.json", _count(config.get("vocab_size"))),
        family=str(config.get("model_type", "")),
        context=_count(config.get("window") or config.get("max_position_embeddings") or config.get("n_positions")),
        trained=_count(origin.get("tokens")) or None,
        bound=bound,
        interval=interval,
        text=" ".join(text[:_LONGEST].split()),
        problem=problem,
    )


def _config(path: Path) -> tuple[Mapping[str, Any], str]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        return {}, f"{path.name} cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return {}, f"{path.name} is not JSON"
    return (config, "") if isinstance(config, Mapping) else ({}, f"{path.name} is not a JSON object")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _parameters(folder: Path) -> int | None:
    """The numbers in all safetensors of a folder, without the scales of 8-bit matrices; None if one is damaged."""
    total, files = 0, sorted(folder.glob("*.safetensors"))
    for path in files:
        try:
            with path.open("rb") as file:
                entries = header(file)
            for name, tensor in entries.items():
                if name == "__metadata__" or (name.endswith(".scale") and name.removesuffix(".scale") in entries):
                    continue
                count = math.prod(tensor["shape"])
                if not 0 <= count < _MOST_IN_TENSOR:
                    return None
                total += count
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return total if files else None


def _tokenizer(path: Path, vocabulary: int | None) -> str:
    """The kind of a tokenizer. Its type is near the beginning of the model's part; a character vocabulary is small."""
    with suppress(OSError, ValueError):
        if vocabulary is not None and path.stat().st_size <= _LARGEST_TOKENIZER:
            found = re.search(r'"model"\s*:\s*\{\s*"type"\s*:\s*"(\w+)"', path.read_text("utf-8"))
            return _KINDS.get(found[1], "") if found else ""
    return ""


def _card(path: Path) -> tuple[float | None, tuple[float, float] | None, str]:
    """The bound, its interval and the beginning of the example in a model card of tdiff."""
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            card = file.read(_CARD)
    except OSError:
        return None, None, ""
    number = r"(\d+\.\d+)"
    bound = re.search(rf"\*\*Bound\.\*\*\s+{number}\s+nats\s+a\s+character", card)
    interval = re.search(rf"{number}\s+to\s+{number}", card[bound.end() : bound.end() + 80]) if bound else None
    example = re.search(r"`tdiff\s+generate[^`]*`:\n\n((?:    .*\n?|\n)+)", card)
    return (
        float(bound[1]) if bound else None,
        (float(interval[1]), float(interval[2])) if interval else None,
        example[1].strip() if example else "",
    )


def _newest(path: Path, step: int | None = None) -> dict[str, Mapping[str, Any]]:
    """The newest evaluation and sample near the end of an event log, by kind; with a `step` those until then."""
    found: dict[str, Mapping[str, Any]] = {}
    for line in _lines_from_the_end(path):
        kind = next((kind for kind in ("eval", "sample") if b'"kind":"%s"' % kind.encode() in line[:40]), None)
        if kind is None or kind in found:
            continue
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and (step is None or (_count(record.get("step")) or 0) <= step):
                found[kind] = record
        if len(found) == 2:
            break
    return found


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        yield from reversed(file.read().split(b"\n"))


def _bound(evaluation: Mapping[str, Any]) -> tuple[float | None, tuple[float, float] | None]:
    """The bound in nats a character, and its interval, of an event of an evaluation; the event's is in nats a token."""
    bound, token = evaluation.get("nats_per_char"), evaluation.get("nats_per_token")
    if not (isinstance(bound, float) and math.isfinite(bound)):
        return None, None
    match evaluation.get("interval_95"), token:
        case [float() as low, float() as high], float() if token:
            return bound, (low * bound / token, high * bound / token)
    return bound, None
