"""The records of a run as plain lines, for a terminal without a view and for the log of one that has it."""

from __future__ import annotations

from typing import assert_never

from tdiff.formatting import duration, loss
from tdiff.protocol.events import Alert, Checkpoint, End, Eval, Event, Heartbeat, Resume, Sample, Start, Train, Verdicts


def describe(record: Event) -> str | None:
    """A record as one plain line (a sample: a few), or None for one that a reader of lines need not see."""
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
            figures = f"loss {loss(record.loss)}  lr {record.lr:.2e}  grad {loss(record.grad_norm)}"
            pace = f"{record.tokens_per_second:,.0f} tokens/s  {record.progress:.1%}  ETA {duration(record.eta)}"
            return f"step {record.step:,}  {figures}  {pace}"
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
                f"step {record.step:,}  verdicts on {record.texts:,} held-out texts: {record.accuracy:.1%} right "
                f"({low:.1%}..{high:.1%}), calibration error {record.ece:.3f}, temperature {record.temperature:.3g}"
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
