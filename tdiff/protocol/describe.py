"""The records of a run as plain lines, for a terminal without a view and for the log of the view."""

from __future__ import annotations

from typing import assert_never

from tdiff.formatting import duration
from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Event, Heartbeat, Resume, Sample, Start, Train, Verdicts
from tdiff.protocol.metrics import METRICS

_IN_TRAIN = (METRICS["train/loss"], METRICS["train/lr"], METRICS["train/grad_norm"])
_SPEED = METRICS["train/tokens_per_second"]


def describe(record: Event) -> str | None:
    """A record as one plain line, a sample as several; None for a record that readers do not need to see.

    Raises TypeError or ValueError for a number that was not finite, except those of METRICS.
    """
    match record:
        case Start():
            size = f"{record.parameters / 1e6:.2f}M parameters"
            return (
                f"run {record.run}: {size}, {record.tokens:,} training tokens of {record.corpus}, vocabulary "
                f"{record.vocabulary}, {record.device} with {record.threads} threads"
            )
        case Resume():
            return f"resumed at step {record.step:,}"
        case Train():
            figures = "  ".join(f"{metric.label} {metric.text(getattr(record, metric.field))}" for metric in _IN_TRAIN)
            speed = f"{_SPEED.text(record.tokens_per_second)} {_SPEED.unit}"
            return f"step {record.step:,}  {figures}  {speed}  {record.progress:.1%}  ETA {duration(record.eta)}"
        case Eval():
            low, high = record.interval_95
            scored = "whole" if record.part >= 1 else f"a random {record.part:.0%} of the text"
            what = f"held-out bound, {scored}" if record.final else "held-out bound"
            return (
                f"step {record.step:,}  {what} {record.nats_per_char:.4f} nats a character "
                f"(a token {record.nats_per_token:.4f}, {low:.4f}..{high:.4f})"
            )
        case Verdicts():
            low, high = record.interval_95
            return (
                f"step {record.step:,}  classification of {record.texts:,} held-out texts: accuracy "
                f"{record.accuracy:.1%} ({low:.1%}..{high:.1%}), calibration error {record.ece:.3f}, temperature "
                f"{record.temperature:.3g}"
            )
        case Sample():
            return f"step {record.step:,}  sample:\n" + "\n".join(f"  | {line}" for line in record.text.splitlines())
        case Checkpoint():
            return f"step {record.step:,}  saved"
        case Alert():
            return f"ALERT {record.what}: {record.text}"
        case Heartbeat() | End():
            return None
        case _:
            assert_never(record)
